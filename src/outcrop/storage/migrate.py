"""Bring a database to this release's tables."""
