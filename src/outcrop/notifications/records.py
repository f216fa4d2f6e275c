"""Notification targets as they are stored: in the shape that GetNotificationTarget answers, and their secrets.

    {targetId, name, kind: WEBHOOK | EVENT_BRIDGE, webhook | eventBridge: {settings},
     events: [TURN_COMPLETED, ...], agents: [globs over names, ids and ARNs], status: ACTIVE | DISABLED, ...}

The operations store and check them; the Deliverer reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, cast

from outcrop import plugins
from outcrop.clock import SystemClock
from outcrop.config import ConfigMistake
from outcrop.notifications.base import Agent, Notice, Target, event_name
from outcrop.notifications.posting import Means, Post

SEAM = "outcrop.notifications.targets"
_SECRET = re.compile(r"(secret|password|token|key)$", re.IGNORECASE)


def matching(records: Iterable[Mapping[str, Any]], notice: Notice) -> list[Mapping[str, Any]]:
    """The records that want a notice: active, of its event and of its agent; a list left out stands for all."""
    event = event_name(notice.kind)
    return [record for record in records if concerns(record, notice.agent) and event in record.get("events", (event,))]


def concerns(record: Mapping[str, Any], agent: Agent) -> bool:
    """Whether a record is active and meant for an agent's turns."""
    globs = record.get("agents", ("*",))
    is_active = record.get("status", "ACTIVE") == "ACTIVE"
    return is_active and any(fnmatchcase(name, glob) for glob in globs for name in agent or ("",))


def settings_of(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings that are of the record's kind.

    Errors: ConfigMistake when the record has none.
    """
    member = member_of(str(record.get("kind", "")))
    settings = record.get(member)
    if not isinstance(settings, Mapping):
        raise ConfigMistake(f"{member} is missing")
    return cast("Mapping[str, Any]", settings)


def member_of(kind: str) -> str:
    """The member of a record that holds the settings of a kind.

    Shapes: "EVENT_BRIDGE" -> "eventBridge".
    """
    first, *rest = kind.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


def target_of(record: Mapping[str, Any], means: Means) -> Target:
    """The target that a record describes; it connects with its first notice.

    Errors: ConfigMistake naming a kind that there is not, or a setting that is missing or cannot be used.
    """
    settings = settings_of(record)
    try:
        target = plugins.load(SEAM, str(record["kind"]).lower(), "target")
    except plugins.UnknownPlugin as error:
        raise ConfigMistake(str(error)) from None
    return target(settings, means)


def check(record: Mapping[str, Any]) -> None:
    """Nothing, when a record describes a target that can be told of something.

    Errors: ConfigMistake.
    """
    target_of(record, Means(Post(), SystemClock()))


def shown(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as answers and logs may show it: its settings without the secrets."""
    member = member_of(str(record.get("kind", "")))
    settings = record.get(member)
    if not isinstance(settings, Mapping):
        return dict(record)
    open_ones = {name: value for name, value in cast("Mapping[str, Any]", settings).items() if not _SECRET.search(name)}
    return {**record, member: open_ones}
