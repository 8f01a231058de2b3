"""Tests on real Postgres, real Redis, real processes and a real receiver."""
