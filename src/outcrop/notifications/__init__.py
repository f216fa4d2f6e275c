"""Telling outside systems that a turn ended, waits for input or was paused.

    Notice --> records.matching --> Deliverer.deliver(record, notice) --> targets/{webhook,event_bridge}
                                                                              |
                                                   signing (webhooks) --> posting --> the receiver

One attempt at one target is what this room makes; attempts are repeated by whoever calls it.
"""
