"""The command line: a face of the client for people and for scripts."""
