"""The version of this package, for its metadata and its `user-agent`."""

VERSION = "0.1.0"
