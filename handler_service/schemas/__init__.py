"""What travels over the wire. Never a database row."""
