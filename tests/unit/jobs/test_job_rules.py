"""The rules of jobs that need no database."""

from __future__ import annotations

import pytest

from outcrop.jobs.base import Job, Kind
from outcrop.jobs.crew import Unchanged
from outcrop.jobs.database import libpq_url


async def _nothing(job: Job) -> None:
    pass


def test_waits_grow_up_to_a_limit_and_differ_by_chance() -> None:
    kind = Kind("a", _nothing, first_wait_s=2, backoff=3, most_wait_s=50, chance=lambda: 0.0)
    earliest = Kind("a", _nothing, first_wait_s=2, backoff=3, most_wait_s=50, chance=lambda: 1.0)

    assert [kind.wait_s(failed) for failed in (1, 2, 3, 4, 1000)] == [2, 6, 18, 50, 50]
    assert [earliest.wait_s(failed) for failed in (1, 2, 4)] == [1, 3, 25]


def test_who_stands_still_is_told_once_per_lease() -> None:
    watch: Unchanged[str, int] = Unchanged(10)

    assert watch.look({"a": 1, "b": 1}, now=0) == {}
    assert watch.look({"a": 1, "b": 2, "c": 7}, now=9) == {}
    assert watch.look({"a": 1, "b": 2, "c": 7}, now=10) == {"a": 1}
    assert watch.look({"a": 1, "b": 2}, now=19) == {"b": 2}
    assert watch.look({"a": 1}, now=20) == {"a": 1}


def test_time_without_a_look_counts_for_nobody() -> None:
    watch: Unchanged[str, int] = Unchanged(10)
    watch.look({"a": 1}, now=0)

    watch.forget()

    assert watch.look({"a": 1}, now=30) == {}
    assert watch.look({"a": 1}, now=40) == {"a": 1}


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("postgresql+asyncpg://u:p%2F@h:1/d", "postgresql+psycopg://u:p%2F@h:1/d"),
        ("postgresql+asyncpg://u@/d?host=/run/pg", "postgresql+psycopg://u@/d?host=/run/pg"),
        ("postgresql://h/d?ssl=require", "postgresql+psycopg://h/d?sslmode=require"),
        (
            "postgresql+asyncpg://h/d?ssl=true&prepared_statement_cache_size=0",
            "postgresql+psycopg://h/d?sslmode=require",
        ),
        ("postgresql://h/d?sslmode=verify-full&timeout=3", "postgresql+psycopg://h/d?sslmode=verify-full"),
    ],
)
def test_a_url_for_asyncpg_is_one_for_psycopg(setting: str, wanted: str) -> None:
    assert libpq_url(setting).render_as_string(hide_password=False).replace("%2Frun%2Fpg", "/run/pg") == wanted
