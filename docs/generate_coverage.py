"""Write the pages about operations: docs/reference/coverage.md and docs/reference/extension-api.md.

    python docs/generate_coverage.py --write     write what has changed
    python docs/generate_coverage.py --check     exit 1 when a page is not what the code says

The operations come from the service models (AWS's from the installed botocore, ours from its file), what is
implemented from the registry.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StringShape, StructureShape

from outcrop.operations import registry
from outcrop.wire.services import EXTENSIONS, services

REFERENCE = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Written by `make docs` from the code; changes made here are lost. -->"


def main(arguments: list[str] | None = None) -> int:
    """0 when every page is, or now is, what the code says; 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true")
    mode.add_argument("--check", action="store_true")
    asked = parser.parse_args(arguments)
    stale = {name: page for name, page in pages().items() if page != current(name)}
    for name, page in stale.items():
        if asked.write:
            REFERENCE.mkdir(parents=True, exist_ok=True)
            (REFERENCE / f"{name}.md").write_text(page, encoding="utf-8")
        print(f"docs/reference/{name}.md: {'written' if asked.write else 'out of date; make docs writes it'}")
    return int(bool(stale) and not asked.write)


def pages() -> dict[str, str]:
    """Every page as it should be."""
    return {"coverage": coverage_page(), "extension-api": extension_page()}


def current(name: str) -> str:
    """A page as it is on disk, "" where there is none."""
    page = REFERENCE / f"{name}.md"
    return page.read_text(encoding="utf-8") if page.exists() else ""


def coverage_page() -> str:
    """Every operation of every service, implemented or not."""
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


# our own service ---------------------------------------------------------------------------------


def extension_page() -> str:
    """What our own service takes and gives, operation by operation."""
    model = services()[EXTENSIONS]
    lines = [NOTE, "", f"# The service {EXTENSIONS}", "", str(model.documentation), ""]
    lines += ["A member that is always there, or has to be, is marked with *.", "", "| Operation | Does |", "|---|---|"]
    operations = [model.operation_model(name) for name in sorted(model.operation_names)]
    lines += [f"| [{one.name}](#{one.name.lower()}) | {one.documentation} |" for one in operations]
    for one in operations:
        lines += _operation(one)
    lines += ["", "## Shapes"]
    for name, shape in sorted(_nested(operations).items()):
        lines += ["", f"### {name}", "", shape.documentation, "", *_members("Member", shape)]
    return "\n".join([*lines, ""])


def _operation(operation: OperationModel) -> Iterator[str]:
    http, takes, gives = operation.http, operation.input_shape, operation.output_shape
    errors = ", ".join(f"`{shape.name}`" for shape in operation.error_shapes)
    yield from ("", f"## {operation.name}", "", operation.documentation, "")
    yield from (f"`{http['method']} {http['requestUri']}`, answered with {http['responseCode']}; or {errors}.",)
    for word, shape in (("Takes", takes), ("Gives", gives)):
        if isinstance(shape, StructureShape) and shape.members:
            yield from ("", *_members(word, shape))


def _members(word: str, shape: StructureShape) -> Iterator[str]:
    yield from (f"| {word} | Type | What it is |", "|---|---|---|")
    for name, member in shape.members.items():
        mark = "*" if name in shape.required_members else ""
        yield f"| `{name}`{mark} | {_type(member)} | {member.documentation} |"


def _type(shape: Shape) -> str:
    if isinstance(shape, ListShape):
        return f"list{_limits(shape)} of {_type(shape.member)}"
    if isinstance(shape, MapShape):
        return f"map of {_type(shape.value)}"
    if isinstance(shape, StructureShape):
        return "any JSON" if shape.is_document_type else f"[{shape.name}](#{shape.name.lower()})"
    if isinstance(shape, StringShape) and shape.enum:
        return ", ".join(f"`{value}`" for value in shape.enum)
    return f"{shape.type_name}{_limits(shape)}"


def _limits(shape: Shape) -> str:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if high is None:
        return f", at least {low:,}" if low else ""
    return f", {low or 0:,} to {high:,}"


def _nested(operations: list[OperationModel]) -> dict[str, StructureShape]:
    """The structures that the operations' members are made of, by name."""
    found: dict[str, StructureShape] = {}

    def look(shape: Shape) -> None:
        if isinstance(shape, ListShape):
            look(shape.member)
        elif isinstance(shape, MapShape):
            look(shape.value)
        elif isinstance(shape, StructureShape) and not shape.is_document_type and shape.name not in found:
            found[shape.name] = shape
            for member in shape.members.values():
                look(member)

    for operation in operations:
        for shape in (operation.input_shape, operation.output_shape):
            for member in shape.members.values() if shape else ():
                look(member)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
