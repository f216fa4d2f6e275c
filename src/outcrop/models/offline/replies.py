"""What a reply to one of the offline model's own questions gives.

    "5" + (quantity) -> {"quantity": 5}

Called by the planner, which knows what was asked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from outcrop.models.offline.slots import Filled, fill, missing
from outcrop.models.offline.spans import find_spans
from outcrop.models.offline.tools import Param, Toolset
from outcrop.models.offline.values import convert
from outcrop.models.offline.wording import yes_or_no

_LEAD = re.compile(
    r"^(?:it'?s|it is|that would be|make it|use|for|to|in|i think)\s+(?:the\s+)?|^the\s+(?=\S+(?:\s\S+)?\W*$)", re.I
)


def fill_reply(params: Sequence[Param], reply: str, offered: Toolset) -> Filled:
    """The asked parameters that a reply gives; a plain reply to a single question is the value itself."""
    wanted = [replace(param, required=True) for param in params]
    filled = fill(wanted, reply, [span for span in find_spans(reply) if span.kind != "phrase"], offered)
    open_params = missing(wanted, filled.inputs)
    whole = _LEAD.sub("", reply.strip())
    for param in open_params:
        if param.type == "boolean":
            value: Any = yes_or_no(param, reply, is_reply=True)
        elif len(open_params) > 1 or filled.used or param.type == "object":
            value = None
        elif param.type == "array":
            parts = [part for part in re.split(r"\s*,\s*(?:and\s+)?|\s+(?:and|&)\s+", whole.strip(" .!?")) if part]
            value = convert(param, parts) if parts else None
        else:
            value = convert(param, re.sub(r"\s*\bplease\b\W*$", "", whole.strip(" .!?\"'\n")) or reply.strip())
        if value is not None and value != "":
            filled.inputs[param.name] = value
    return filled
