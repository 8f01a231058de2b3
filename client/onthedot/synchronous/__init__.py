# Made by `make docs` from asynchronous/__init__.py: change that one.
"""The client for code that waits; made from `onthedot.asynchronous`."""
