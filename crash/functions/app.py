"""The functions of the crash sweeps: each call and each effect is counted where it happens, on disk.

    calls            a line per call: key, invoice, process
    effects          a line per effect of `pay_plainly`, which does whatever it is asked
    applied/<key>    one file per key that `pay_once` has seen: written in one go, it is the effect
    holds/<invoice>  a FIFO, where the payment of that invoice shall stand still once it is made

`delegate` asks another agent through boto3, under a call id made from its own key: asked again with that key, it hears
what the first call's turn came to, however that call ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import time
import uuid
from typing import Any

FOLDER = os.environ["EFFECTS"]
SLOW_S = float(os.environ["SLOW_S"])
PATIENCE_S = 60.0
_CLIENTS: dict[str, Any] = {}


def pay_plainly(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Pay an invoice, as often as asked."""
    key, invoice = _called(event, context)
    _append("effects", f"{key} {invoice}")
    _stand_still(invoice)
    return _answer(event, {"paid": invoice})


def pay_once(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Pay an invoice, once per key."""
    key, invoice = _called(event, context)
    file = os.open(f"{FOLDER}/applied/{key.replace('/', '_')}", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        is_new = os.fstat(file).st_size == 0
        if is_new:
            os.write(file, f"{key} {invoice}\n".encode())
            os.fsync(file)
    finally:
        os.close(file)
    if is_new:
        _stand_still(invoice)
    return _answer(event, {"paid": invoice})


def delegate(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Let the other agent pay."""
    key, invoice = _called(event, context)
    deadline, number = time.monotonic() + PATIENCE_S, 0
    nodes = os.environ["NODES"].split(",")
    while True:
        try:
            return _answer(event, {"told": _ask(nodes[number % len(nodes)], key, invoice)})
        except Exception:
            if time.monotonic() > deadline:
                raise
            number += 1
            time.sleep(0.05)


def _ask(node: str, key: str, invoice: str) -> str:
    client = _CLIENTS.get(node) or _CLIENTS.setdefault(node, _client(node))
    client.meta.events.register_last("before-send", _Again(key), unique_id="again")
    try:
        asked = client.invoke_agent(
            agentId=os.environ["OTHER_AGENT"],
            agentAliasId="TSTALIASID",
            sessionId=f"nested-{invoice}",
            inputText=f"one {invoice}",
        )
        return b"".join(event["chunk"]["bytes"] for event in asked["completion"] if "chunk" in event).decode()
    finally:
        client.meta.events.unregister("before-send", unique_id="again")


class _Again:
    """Gives a call the id that belongs to a key, and says that it may be a second attempt."""

    def __init__(self, key: str) -> None:
        self._id = str(uuid.uuid5(uuid.NAMESPACE_URL, key))

    def __call__(self, request: Any, **_: Any) -> None:
        request.headers["amz-sdk-invocation-id"] = self._id
        request.headers["amz-sdk-request"] = "attempt=2"


def _client(node: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": 1}, read_timeout=PATIENCE_S)
    given = {"region_name": "us-east-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
    return boto3.client("bedrock-agent-runtime", endpoint_url=node, config=config, **given)


def _called(event: dict[str, Any], context: Any) -> tuple[str, str]:
    """The call's key and invoice, once it is counted."""
    key = context.client_context.custom["idempotencyKey"]
    invoice = next(one["value"] for one in event["parameters"] if one["name"] == "invoice")
    _append("calls", f"{key} {invoice} {event['function']} {os.getpid()}")
    _take_time()
    return key, invoice


def _take_time() -> None:
    """Take a while, where the sweep wants that: so that more actions are under way when something dies."""
    time.sleep(random.uniform(0, SLOW_S))


def _append(name: str, line: str) -> None:
    file = os.open(f"{FOLDER}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{line}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)


def _stand_still(invoice: str) -> None:
    """Say that the payment is made, and wait for the word to go on, where somebody wants that."""
    hold = f"{FOLDER}/holds/{invoice}"
    if os.path.exists(hold):
        with open(hold, "w") as here:
            here.write("here")
        with open(f"{hold}.go"):
            pass  # opens once somebody writes


def _answer(event: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    _take_time()
    body = {"TEXT": {"body": json.dumps(told)}}
    return {
        "messageVersion": "1.0",
        "response": {
            "actionGroup": event["actionGroup"],
            "function": event["function"],
            "functionResponse": {"responseBody": body},
        },
    }
