"""Readers of a turn's events: traces for the caller, counters for whoever runs the engine."""
