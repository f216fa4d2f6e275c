"""Who wrote which row of a turn's journal, and under which lease: kept by triggers in the database itself.

Every write of a turn is fenced on its lease. So all rows that are written while a lease holds come from one node; a
node that goes on after it has lost its lease shows as a second one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from look import Look
from proxy import Proxy

_INSTALL = """
create table crash_audit (at bigserial primary key, turn text, lease integer, port integer);
create function crash_step() returns trigger language plpgsql as $$ begin
  insert into crash_audit (turn, lease, port)
    values (new.turn_id, (select lease from turns where id = new.turn_id), inet_client_port());
  return new;
end $$;
create function crash_turn() returns trigger language plpgsql as $$ begin
  insert into crash_audit (turn, lease, port) values (new.id, new.lease, inet_client_port());
  return new;
end $$;
create trigger crash_step after insert or update on steps for each row execute function crash_step();
create trigger crash_turn after insert or update on turns for each row execute function crash_turn();
"""


def install(look: Look) -> None:
    """Begin to keep who writes."""
    for statement in _INSTALL.replace("end $$;", "end $$;;").split(";;"):
        if statement.strip():
            look.rows(statement)


def intruders(look: Look, proxies: Sequence[Proxy]) -> tuple[int, list[str]]:
    """How many rows were written, and every lease under which more than one node wrote."""
    nodes: Mapping[int, int] = {port: number for number, proxy in enumerate(proxies) for port in proxy.ports}
    wrote: dict[tuple[str, int], list[int]] = defaultdict(list)
    rows = look.rows("select turn, lease, port from crash_audit order by at")
    for turn, lease, port in rows:
        wrote[turn, lease].append(nodes[port])
    wrong = [
        f"turn {turn} under lease {lease} was written by nodes {writers}"
        for (turn, lease), writers in wrote.items()
        if len(set(writers)) > 1
    ]
    return len(rows), wrong
