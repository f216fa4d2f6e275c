"""A call that some worker will surely make: queued, retried, taken over from the dead, on DBOS.

Rooms see `base`; `engine` builds `durable`. Knows nothing of agents or turns.
"""
