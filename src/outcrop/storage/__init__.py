"""Dicts into rows and back: the database, JSON documents, large values. Knows nothing about agents."""
