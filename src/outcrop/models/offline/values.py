"""Values in the JSON types that parameters declare.

Called wherever the offline model puts a value into a tool input: what does not fit the declared
type never gets there.
"""

from __future__ import annotations

import re
from typing import Any, cast

from outcrop.models.offline.tools import Param


def convert(param: Param, raw: Any) -> Any:
    """A value in the parameter's own type; None where it cannot be."""
    if param.type == "array":
        items = cast("list[Any]", raw) if isinstance(raw, list) else [raw]
        values = [scalar(param.item, one) for one in items]
        return None if any(value is None for value in values) else values
    if param.type == "object":
        return cast("dict[str, Any]", raw) if isinstance(raw, dict) else None
    if param.choices:
        return next((choice for choice in param.choices if str(choice).lower() == str(raw).lower()), None)
    return scalar(param.type, raw)


def scalar(kind: str, raw: Any) -> Any:
    """A value as a JSON schema type other than array and object; None where it cannot be."""
    if isinstance(raw, (dict, list)) or kind in ("object", "array"):
        return None
    if kind == "boolean":
        return raw if isinstance(raw, bool) else {"true": True, "false": False}.get(str(raw).lower())
    if kind == "string":
        return str(raw) if not isinstance(raw, bool) else str(raw).lower()
    text = str(raw).replace(",", "")
    if isinstance(raw, bool) or not re.fullmatch(r"-?\d{1,30}(?:\.\d{1,30})?", text):
        return None
    if re.fullmatch(r"-?\d+(?:\.0+)?", text):
        return int(text.split(".")[0])
    return float(text) if kind == "number" else None
