"""The service models of bedrock-agent and bedrock-agent-runtime, as the installed botocore has them.

    botocore/data/<service>/<version>/service-2.json.gz -> plain dict -> patched -> ServiceModel

Nothing is copied into this repository. What the models get wrong, or what Outcrop accepts
beyond them, stands in the two tables of patches below and nowhere else.
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import Any

import botocore
import orjson
from botocore.model import ServiceModel

CONTROL_PLANE = "bedrock-agent"
RUNTIME = "bedrock-agent-runtime"
SERVICES = (CONTROL_PLANE, RUNTIME)

_DATA = Path(botocore.__file__).parent / "data"
_BEDROCK = r"arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:"

PATCHES: dict[str, dict[str, dict[str, Any]]] = {
    CONTROL_PLANE: {
        # the model says 4,000, the service enforces its quota of 20,000: control-plane.md 1 (observed)
        "Instruction": {"max": 20_000},
        # written with "/d{12}" for the account, so as it stands no ARN can match: control-plane.md 10 (stated)
        "TaggableResourcesArn": {
            "pattern": _BEDROCK
            + r"((agent|agent-alias|knowledge-base|flow|prompt|retrieval-instruction)/[0-9a-zA-Z]{10}"
            r"|agent-alias/[0-9a-zA-Z]{10}/[0-9a-zA-Z]{10}|flow/[0-9a-zA-Z]{10}/alias/[0-9a-zA-Z]{10}"
            r"|prompt/[0-9a-zA-Z]{10}:[0-9]{1,5})"
        },
    },
    RUNTIME: {},
}
"""Traits that replace a shape's own: service -> shape -> trait -> value."""

PATH_PATCHES: dict[str, dict[str, Any]] = {
    # a name is accepted wherever the path carries the id; an id is also a well-formed name
    "agentId": {"type": "string", "pattern": "([0-9a-zA-Z][_-]?){1,100}"},
    "agentAliasId": {"type": "string", "pattern": "([0-9a-zA-Z][_-]?){1,100}"},
}
"""Shapes that replace those of path members, by member name, in every operation of both services."""


@cache
def service(name: str) -> ServiceModel:
    """The patched model of one service.

    Errors: FileNotFoundError when the installed botocore does not have the service.
    """
    versions = sorted(path for path in (_DATA / name).iterdir() if path.is_dir())
    description: dict[str, Any] = orjson.loads(gzip.decompress((versions[-1] / "service-2.json.gz").read_bytes()))
    _patch(description, PATCHES.get(name, {}))
    return ServiceModel(description, name)


def services() -> dict[str, ServiceModel]:
    """Both services by name, the control plane first."""
    return {name: service(name) for name in SERVICES}


def _patch(description: dict[str, Any], traits: dict[str, dict[str, Any]]) -> None:
    shapes: dict[str, dict[str, Any]] = description["shapes"]
    for shape, replaced in traits.items():
        shapes[shape].update(replaced)
    shapes.update({f"{name}OrName": shape for name, shape in PATH_PATCHES.items()})
    for operation in description["operations"].values():
        members: dict[str, dict[str, Any]] = shapes[operation["input"]["shape"]]["members"]
        for name, member in members.items():
            if name in PATH_PATCHES and member.get("location") == "uri":
                member["shape"] = f"{name}OrName"
