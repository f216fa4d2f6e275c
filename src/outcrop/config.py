"""Every setting with its default, unit and meaning, read from `outcrop.toml` and the environment.

    defaults  <  outcrop.toml  <  OUTCROP_<SECTION>_<SETTING>  <  command line

AWS names things; the bindings say what they are here. A binding's key is a glob over a name
or an ARN, the first match in file order wins, and an unknown key is an error that suggests
the nearest one.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from outcrop.errors import RoomError


class ConfigMistake(RoomError):
    """A setting cannot be used; the message names it."""


def _setting(default: Any, meaning: str, **limits: float) -> Any:
    """A setting; limits are `at_least`, `above` and `at_most`. One that is a choice says so by its type, a Literal."""
    return field(default=default, metadata={"meaning": meaning, "limits": limits})


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Section [server]: where it listens, what it stores, who it says it is."""

    host: str = _setting("127.0.0.1", "address to listen on")
    port: int = _setting(8700, "port to listen on; 0 takes a free one", at_least=0, at_most=65535)
    data_dir: str = _setting(".outcrop", "folder of the SQLite file, blobs and function code")
    database: str = _setting(
        "sqlite", "`sqlite` (one file in data_dir), `sqlite:memory`, `sqlite:///PATH`, or `postgresql://USER@HOST/NAME`"
    )
    database_connections: int = _setting(
        8, "connections of this process to PostgreSQL at most, a third of them for reading", at_least=2
    )
    synchronous: Literal["auto", "normal", "full"] = _setting(
        "auto",
        "durability: `normal` survives a killed Outcrop, `full` also a power cut; `auto` is `normal` on SQLite and"
        " `full` on PostgreSQL",
    )
    database_patience_s: float = _setting(
        30.0, "seconds that a turn goes on trying to write its journal while the database is away", at_least=0
    )
    beat_s: float = _setting(0.5, "seconds between two signs of life of a process that carries turns", above=0)
    lease_s: float = _setting(
        5.0, "seconds without a sign of life after which others take a process's turns over", above=0
    )
    region: str = _setting("us-east-1", "region of ARNs where a request names none")
    account_id: str = _setting("123456789012", "account of ARNs")
    max_body_bytes: int = _setting(50_000_000, "largest request body, in bytes", at_least=1)
    most_requests: int = _setting(1_000, "requests being answered at once; more are throttled", at_least=1)
    most_body_bytes_at_once: int = _setting(
        268_435_456, "bytes of request bodies held at once; what would pass it is throttled", at_least=1
    )
    request_timeout_s: float = _setting(60.0, "seconds in which a request must have come whole", above=0)
    keep_alive_s: float = _setting(75.0, "seconds that a connection is kept while nothing is asked on it", above=0)
    slow_client_s: float = _setting(
        60.0, "seconds that an answer waits for a client that takes none of it, before the client is cut off", above=0
    )
    drain_s: float = _setting(
        0.0, "seconds between `/healthz` saying that the server drains and it taking no more connections", at_least=0
    )
    stop_grace_s: float = _setting(
        10.0, "seconds that turns under way may take to end when the server stops", at_least=0
    )
    allow_private_notifications: bool = _setting(
        False, "whether notification targets may lie on private networks and on this machine"
    )


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """Section [turns]: limits of one turn."""

    max_iterations: int = _setting(25, "model calls per turn before it fails", at_least=1)
    max_seconds: float = _setting(
        900.0, "seconds per turn before it fails; waiting for the caller does not count", above=0
    )
    most_at_once: int = _setting(1000, "turns under way in one process at most; more are refused with 429", at_least=1)
    keep_days: float = _setting(30.0, "days for which the journals of ended turns are kept", above=0)
    preamble_hold_chars: int = _setting(
        120,
        "characters of a streamed reply held back while it may still turn out to be words before a tool call",
        at_least=0,
    )
    default_idle_session_ttl_s: int = _setting(
        600, "idle seconds after which a session starts anew, where the agent sets none"
    )
    max_step_seconds: float = _setting(
        300.0, "seconds per step, which is a model call or an action, before that step fails", above=0
    )
    busy_session: Literal["reject", "enqueue", "interrupt"] = _setting(
        "reject",
        "what a new input gets whose session is busy with another: refused with 409, its turn once that one has"
        " ended, or its turn at once while that one is stopped",
    )
    uncertain: Literal["ask", "fail", "not_done"] = _setting(
        "ask",
        "what happens after a crash to an action of which nobody knows whether it took place: the user is asked,"
        " the turn fails, or it counts as not done",
    )
    call_deadline_s: float = _setting(
        29.0, "seconds after which a call that waits for its turn is answered without it; 0 waits for ever", at_least=0
    )
    at_call_deadline: Literal["go_on", "stop"] = _setting(
        "go_on", "what becomes of the turn whose call was answered at its deadline"
    )


PER_AGENT = (
    "busy_session",
    "uncertain",
    "call_deadline_s",
    "at_call_deadline",
    "max_seconds",
    "max_step_seconds",
    "max_iterations",
)
"""The settings of [turns] that a binding of [agents] may set for its agents."""


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """Table `budget` of a binding in [agents]: what its agents may spend; no limit where none is set."""

    turn_tokens: int | None = _setting(None, "tokens of one turn, read and written", at_least=1)
    turn_usd: float | None = _setting(None, "US dollars of one turn's model calls", above=0)
    turn_steps: int | None = _setting(None, "steps of one turn: its model calls and its actions", at_least=1)
    turn_seconds: float | None = _setting(None, "seconds one turn runs; waiting for the caller does not count", above=0)
    session_tokens: int | None = _setting(None, "tokens of all turns of a session", at_least=1)
    session_usd: float | None = _setting(None, "US dollars of all turns of a session", above=0)
    session_steps: int | None = _setting(None, "steps of all turns of a session", at_least=1)
    session_seconds: float | None = _setting(None, "seconds of all turns of a session", above=0)
    agent_tokens: int | None = _setting(None, "tokens of all turns of an agent in a period", at_least=1)
    agent_usd: float | None = _setting(None, "US dollars of all turns of an agent in a period", above=0)
    agent_steps: int | None = _setting(None, "steps of all turns of an agent in a period", at_least=1)
    agent_seconds: float | None = _setting(None, "seconds of all turns of an agent in a period", above=0)
    period: Literal["day", "month", "ever"] = _setting("day", "how long an agent's spending is added up, in UTC")
    at_limit: Literal["pause", "fail"] = _setting(
        "fail", "whether a turn that reaches a limit fails, or pauses until it is told to go on"
    )


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Section [jobs]: what is queued, retried and spread over processes."""

    turns_at_once: int = _setting(64, "turns without a caller that one process runs at once", at_least=1)
    turns_per_tenant: int = _setting(
        0, "turns without a caller that one caller's access key may have running at once, 0 for any number", at_least=0
    )
    notifications_at_once: int = _setting(32, "notices that one process delivers at once", at_least=1)
    notification_attempts: int = _setting(10, "attempts at delivering one notice before it is dead", at_least=1)
    notification_first_wait_s: float = _setting(
        5.0, "seconds after the first failed attempt; each wait is four times the one before, less some chance", above=0
    )
    notification_most_wait_s: float = _setting(21_600.0, "longest wait between two attempts, in seconds", above=0)
    poll_s: float = _setting(0.1, "seconds between two looks into each queue, once there have been jobs", above=0)
    lease_s: float = _setting(
        6.0,
        "seconds of silence after which other processes on PostgreSQL take a worker's jobs for a dead worker's",
        at_least=0.5,
    )
    keep_done_s: float = _setting(
        604800.0, "seconds for which a done or cancelled job is remembered, and its key not taken again", at_least=0
    )


@dataclass(frozen=True, slots=True)
class Binding:
    """What one glob stands for.

    Shapes: settings are the table's keys as written; `provider` or `kind` names a file of the seam.
    """

    pattern: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one engine."""

    server: ServerSettings = field(default_factory=ServerSettings)
    turns: TurnSettings = field(default_factory=TurnSettings)
    jobs: JobSettings = field(default_factory=JobSettings)
    models: tuple[Binding, ...] = ()
    functions: tuple[Binding, ...] = ()
    buckets: tuple[Binding, ...] = ()
    stores: tuple[Binding, ...] = ()
    agents: tuple[Binding, ...] = ()
    """What they set is checked: names of PER_AGENT, and `budget` with names of BudgetSettings."""
    root: Path = field(default_factory=Path)
    """Folder that relative paths of bindings start from: the configuration file's own."""


SECTIONS: Mapping[str, type[Any]] = {"server": ServerSettings, "turns": TurnSettings, "jobs": JobSettings}
BINDINGS = ("models", "functions", "buckets", "stores", "agents")

_OF_KUBERNETES = re.compile(
    r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""Ends of the variables that Kubernetes sets in every pod for each Service, such as one named outcrop-server."""

_BEATS_PER_LEASE = 3


def bound(bindings: Iterable[Binding], *names: str) -> Binding | None:
    """The first binding whose glob matches any of the names a thing goes by, in file order."""
    for binding in bindings:
        if any(fnmatchcase(name, binding.pattern) for name in names):
            return binding
    return None


def check_keys(place: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuse a key that nobody reads.

    Errors: ConfigMistake naming the key and the nearest allowed one.
    """
    known = list(allowed)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean '{near[0]}'?" if near else f"it knows {', '.join(sorted(known))}"
            raise ConfigMistake(f"{place}: unknown key '{key}'; {hint}")


def choices(kind: type[Any]) -> dict[str, tuple[str, ...]]:
    """All values that each setting of a section may have; none for one that is no choice."""
    return {name: _choices(wanted) for name, wanted in _types(kind).items()}


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of a file (none: the defaults), with the environment's overrides.

    Shapes: environ defaults to the process's; OUTCROP_SERVER_PORT sets [server] port.
    Errors: ConfigMistake when the file is missing or is no TOML; when it or the environment names a setting that there
            is not, or gives one a value of the wrong type or out of its range; what `check` raises.
    """
    environ = os.environ if environ is None else environ
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigMistake(f"{path}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigMistake(f"{path}: {error}") from error
    check_keys(str(path or "configuration"), table, [*SECTIONS, *BINDINGS])
    config = Config(root=path.parent.resolve() if path else Path.cwd())
    for name, kind in SECTIONS.items():
        config = replace(config, **{name: _section(name, kind, table.get(name, {}), environ)})
    config = replace(config, **{name: _bindings(name, table.get(name, {})) for name in BINDINGS})
    config = replace(config, agents=tuple(_agent(binding) for binding in config.agents))
    check(config)
    return config


def check(config: Config) -> None:
    """Nothing, where the settings can be used, each for itself and together.

    Errors: ConfigMistake naming the setting.
    """
    server, jobs = config.server, config.jobs
    if not server.host.strip():
        raise ConfigMistake("[server] host is empty; 127.0.0.1 is this machine alone, 0.0.0.0 all of its networks")
    if not re.fullmatch(r"[0-9]{12}", server.account_id):
        raise ConfigMistake(f"[server] account_id: {server.account_id!r} is not twelve digits")
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", server.region):
        raise ConfigMistake(f"[server] region: {server.region!r} is no region, such as us-east-1")
    least = _BEATS_PER_LEASE * server.beat_s
    if server.lease_s < least and not math.isclose(server.lease_s, least):
        told = f"{server.lease_s:g} is less than {_BEATS_PER_LEASE} times beat_s, which is {server.beat_s:g}"
        raise ConfigMistake(f"[server] lease_s: {told}; one late sign of life would count as death")
    first, most = jobs.notification_first_wait_s, jobs.notification_most_wait_s
    if first > most:
        raise ConfigMistake(f"[jobs] notification_first_wait_s: {first:g} is above notification_most_wait_s, {most:g}")


def _section(name: str, kind: type[Any], table: Any, environ: Mapping[str, str]) -> Any:
    if not isinstance(table, dict):
        raise ConfigMistake(f"[{name}] is not a table")
    given = dict(cast("dict[str, Any]", table))
    check_keys(f"[{name}]", given, [f.name for f in fields(kind)])
    prefix = f"OUTCROP_{name}_".upper()
    variables = {prefix + setting.name.upper(): setting.name for setting in fields(kind)}
    environ = {key: value for key, value in environ.items() if key.startswith(prefix) and not _is_others(key, value)}
    check_keys("environment", environ, variables)
    types = _types(kind)
    for setting in fields(kind):
        place, variable = f"[{name}] {setting.name}", prefix + setting.name.upper()
        if variable in environ:
            place, given[setting.name] = variable, environ[variable]
        if setting.name in given:
            given[setting.name] = _value(place, given[setting.name], setting, types[setting.name])
    return kind(**given)


def _is_others(variable: str, value: str) -> bool:
    """Whether Kubernetes has set a variable for a Service whose name begins like ours.

    Shapes: OUTCROP_SERVER_PORT=tcp://10.0.0.1:8700 is of the Service outcrop-server.
    """
    if variable.endswith("_PORT") and value.startswith(("tcp://", "udp://", "sctp://")):
        return True
    return _OF_KUBERNETES.fullmatch(variable) is not None


def _agent(binding: Binding) -> Binding:
    """The same binding with every value checked and of its type."""
    place, given = f"[agents] '{binding.pattern}'", dict(binding.settings)
    check_keys(place, given, [*PER_AGENT, "budget"])
    if "budget" in given:
        given["budget"] = _table(f"{place} budget", given["budget"], BudgetSettings)
    turns = {name: value for name, value in given.items() if name != "budget"}
    return replace(binding, settings=given | _table(place, turns, TurnSettings))


def _table(place: str, given: Any, kind: type[Any]) -> dict[str, Any]:
    """A table of settings that a dataclass describes, every value of its type."""
    if not isinstance(given, dict):
        raise ConfigMistake(f"{place} is not a table")
    table, types = cast("dict[str, Any]", given), _types(kind)
    described = {setting.name: setting for setting in fields(kind)}
    check_keys(place, table, described)
    return {name: _value(f"{place} {name}", value, described[name], types[name]) for name, value in table.items()}


def _types(kind: type[Any]) -> dict[str, Any]:
    """The type that each setting has once it is set."""
    hints = get_type_hints(kind)
    return {
        name: next(part for part in get_args(hint) if part is not NoneType) if isinstance(hint, UnionType) else hint
        for name, hint in hints.items()
    }


def _value(place: str, given: Any, setting: Field[Any], wanted: Any) -> Any:
    if allowed := _choices(wanted):
        return _chosen(place, given, allowed)
    value = _typed(place, given, wanted)
    _check_limits(place, value, **setting.metadata["limits"])
    return value


def _choices(wanted: Any) -> tuple[str, ...]:
    return get_args(wanted) if get_origin(wanted) is Literal else ()


def _chosen(place: str, value: Any, choices: Sequence[str]) -> str:
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ConfigMistake(f"{place}: {value!r} is none of {', '.join(choices)}{hint}")
    return value


def _check_limits(
    place: str, value: Any, *, at_least: float = -math.inf, above: float = -math.inf, at_most: float = math.inf
) -> None:
    if not isinstance(value, int | float):
        return
    if not (value >= at_least and above < value <= at_most and value < math.inf):
        told = {"of at least": at_least, "above": above, "of at most": at_most}
        limits = " and ".join(f"{words} {limit:g}" for words, limit in told.items() if math.isfinite(limit))
        raise ConfigMistake(f"{place}: {value!r} is no number {limits}")


def _typed(place: str, value: Any, wanted: type[Any]) -> Any:
    if isinstance(value, str) and wanted in (int, float):
        try:
            return wanted(value)
        except ValueError as error:
            raise ConfigMistake(f"{place}: '{value}' is no {wanted.__name__}") from error
    if wanted is bool and not isinstance(value, bool):
        if value not in ("true", "false"):
            raise ConfigMistake(f"{place}: {value!r} is neither true nor false")
        return value == "true"
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise ConfigMistake(f"{place}: {value!r} is no {wanted.__name__}")
    return value


def _bindings(name: str, table: Any) -> tuple[Binding, ...]:
    if not isinstance(table, dict):
        raise ConfigMistake(f"[{name}] is not a table")
    found: list[Binding] = []
    for pattern, settings in cast("dict[str, Any]", table).items():
        if not isinstance(settings, dict):
            raise ConfigMistake(f"[{name}] '{pattern}' is not a table of settings")
        found.append(Binding(pattern, cast("dict[str, Any]", settings)))
    return tuple(found)
