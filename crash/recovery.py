"""How long the turns of a dead node stand still: from its death to the first write that another one makes for them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping

import psycopg

from look import Look

LIMIT_S = 60.0
MOST_RECOVERY_S = 10.0
"""What is promised."""


def carried(look: Look, pid: int) -> dict[str, int]:
    """The running turns that a process holds, with the lease of each; a worker's id has its process in the middle."""
    found = look.rows("select id, holder, lease from turns where state = 'running'")
    return {turn: lease for turn, holder, lease in found if holder.split("-")[-2:-1] == [str(pid)]}


def taken_over(look: Look, left: Mapping[str, int], died_at: float) -> tuple[list[float], list[str]]:
    """Seconds until each of a dead node's turns was taken over, and those that nobody took."""
    waiting, took = dict(left), list[float]()
    while waiting and time.monotonic() - died_at < LIMIT_S:
        try:
            named = ", ".join(f"'{turn}'" for turn in waiting)
            leases = dict(look.rows(f"select id, lease from turns where id in ({named})"))
        except (sqlite3.OperationalError, psycopg.OperationalError):
            time.sleep(0.05)
            continue
        now = time.monotonic() - died_at
        for turn in [turn for turn, lease in waiting.items() if leases.get(turn, lease) > lease]:
            del waiting[turn]
            took.append(now)
        time.sleep(0.02)
    return took, list(waiting)
