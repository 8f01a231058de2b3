"""The HTTP API. Writes jobs and reads history; never fires. Stateless: run any number of it."""
