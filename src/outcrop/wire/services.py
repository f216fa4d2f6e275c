"""The service models: bedrock-agent and bedrock-agent-runtime as the installed botocore has them, and our own.

    botocore/data/<service>/<version>/service-2.json.gz                    -> dict -> patched -> ServiceModel
    operations/extensions/models/outcrop/<version>/service-2.json          -> dict ------------> ServiceModel

Nothing of AWS's is copied into this repository. What its models get wrong, or what Outcrop accepts
beyond them, stands in the two tables of patches below and nowhere else. Ours says itself what it means.
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
EXTENSIONS = "outcrop"
SERVICES = (CONTROL_PLANE, RUNTIME, EXTENSIONS)

OWN_MODELS = Path(__file__).parents[1] / "operations" / "extensions" / "models"
"""Our own model, in folders as botocore's loader wants them, so that clients can load the very file that we load."""

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
"""Shapes that replace those of path members, by member name, in every operation of AWS's services."""


@cache
def service(name: str) -> ServiceModel:
    """The model of one service, AWS's patched.

    Errors: FileNotFoundError when the installed botocore does not have the service.
    """
    if name == EXTENSIONS:
        return ServiceModel(orjson.loads((_newest(OWN_MODELS / name) / "service-2.json").read_bytes()), name)
    packed = (_newest(_DATA / name) / "service-2.json.gz").read_bytes()
    description: dict[str, Any] = orjson.loads(gzip.decompress(packed))
    _patch(description, PATCHES.get(name, {}))
    return ServiceModel(description, name)


def services() -> dict[str, ServiceModel]:
    """All services by name: the control plane, the runtime, our own."""
    return {name: service(name) for name in SERVICES}


def _newest(folder: Path) -> Path:
    return max(path for path in folder.iterdir() if path.is_dir())


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
