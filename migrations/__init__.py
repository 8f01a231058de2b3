"""The schema's history. `python -m migrations` brings a database up to date."""
