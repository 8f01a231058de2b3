"""The reference pages of the documentation, made from the code: what they say cannot lag behind it.

`make docs` writes them into `docs/`; a test compares.
"""
