"""Write docs/reference/coverage.md: every operation of both services, implemented or not.

    python docs/generate_coverage.py --write     write the page
    python docs/generate_coverage.py --check     exit 1 when the page is not what the code says

The operations come from the installed botocore's service models, what is implemented from the registry.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from botocore.model import ServiceModel

from outcrop.operations import registry
from outcrop.wire.services import services

PAGE = Path(__file__).resolve().parent / "reference" / "coverage.md"
NOTE = "<!-- Written by `make docs` from the code; changes made here are lost. -->"


def main(arguments: list[str] | None = None) -> int:
    """0 when the page is, or now is, what the code says; 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true")
    mode.add_argument("--check", action="store_true")
    asked = parser.parse_args(arguments)
    page = coverage_page()
    if page == current():
        return 0
    if asked.write:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page, encoding="utf-8")
    print(f"docs/reference/coverage.md: {'written' if asked.write else 'out of date; make docs writes it'}")
    return 0 if asked.write else 1


def current() -> str:
    """The page as it is on disk, "" where there is none."""
    return PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""


def coverage_page() -> str:
    """The page as it should be."""
    implemented = set(registry.load())
    lines = [
        NOTE,
        "",
        "# Coverage",
        "",
        "Every operation is routed, parsed and checked from its service model. One without an implementation answers",
        "HTTP 501 with the code `NotImplementedException` and names itself in the message.",
        "",
        "| Service | Operations | Implemented |",
        "|---|---|---|",
    ]
    for name, service in services().items():
        mine = [operation for operation in service.operation_names if (name, operation) in implemented]
        lines.append(f"| `{name}` | {len(service.operation_names)} | {len(mine)} |")
    for name, service in services().items():
        lines += ["", f"## {name}", "", "| Operation | Method and path | Implemented |", "|---|---|---|"]
        lines += _rows(name, service, implemented)
    return "\n".join([*lines, ""])


def _rows(name: str, service: ServiceModel, implemented: set[tuple[str, str]]) -> Iterator[str]:
    for operation in sorted(service.operation_names):
        http = service.operation_model(operation).http
        state = "yes" if (name, operation) in implemented else ""
        yield f"| `{operation}` | `{http['method']} {http['requestUri']}` | {state} |"


if __name__ == "__main__":
    raise SystemExit(main())
