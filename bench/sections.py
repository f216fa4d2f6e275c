"""Sections of the scale table, for the terminal and as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

MIB = 2**20
KIB = 2**10


@dataclass(slots=True)
class Section:
    """One small table. Shapes: each line is as long as the head; notes are sentences below it."""

    title: str
    head: Sequence[str]
    lines: list[Sequence[str]] = field(default_factory=list[Sequence[str]])
    notes: list[str] = field(default_factory=list[str])


def markdown(sections: Sequence[Section]) -> str:
    """The tables for the documentation."""
    parts: list[str] = []
    for section in sections:
        rule = ("---", *("---:" for _ in section.head[1:]))
        parts += [f"### {section.title}", ""]
        parts += [f"| {' | '.join(line)} |" for line in (section.head, rule, *section.lines)]
        parts += ["", *(f"- {note}" for note in section.notes), *([""] if section.notes else [])]
    return "\n".join(parts)


def show(sections: Sequence[Section], console: Console) -> None:
    """The tables for a terminal."""
    for section in sections:
        table = Table(title=section.title, title_justify="left")
        for index, name in enumerate(section.head):
            table.add_column(name, justify="left" if index == 0 else "right")
        for line in section.lines:
            table.add_row(*line)
        console.print(table)
        for note in section.notes:
            console.print(f"  {note}", markup=False, soft_wrap=True)


def number(value: float | None, digits: int = 2) -> str:
    """A figure as it stands in a table; nothing where there is none."""
    return "" if value is None else f"{value:,.{digits}f}"


def ratio(value: float | None, base: float | None) -> str:
    """How many times the base a value is."""
    return f"{value / base:.2f}" if value is not None and base else ""
