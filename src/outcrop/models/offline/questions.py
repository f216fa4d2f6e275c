"""The offline model's questions for missing parameters, written and read back.

    reserve_stock lacks quantity <-> "To reserve stock, I need the quantity (...). What should I use?"

Called by the planner. The model keeps no state, so an open question is found in the conversation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from outcrop.models.offline.tools import Param, Toolset, ToolView
from outcrop.models.offline.words import enumerate_words


def question(tool: ToolView, lacking: Sequence[Param]) -> str:
    """The question for what a call lacks, in the one form that `read_question` reads back."""
    labels = enumerate_words([f"the {param.label}" for param in lacking])
    hints = [hint for param in lacking if (hint := _hint(param))]
    known = f" ({'; '.join(hints)})" if hints else ""
    return f"To {tool.label}, I need {labels}{known}. What should I use?"


def _hint(param: Param) -> str:
    of = f"{param.label}: "
    if param.choices:
        return f"{of}one of {enumerate_words([str(choice) for choice in param.choices[:10]], 'or')}"
    text = " ".join(param.description.split()).rstrip(". ")
    return f"{of}{text[:120]}" if text and text.lower() != param.label else ""


def read_question(said: str, offered: Toolset) -> tuple[ToolView, list[Param]] | None:
    """The tool and parameters that an earlier answer asked for; None where it asked nothing."""
    at = said.rfind("To ")
    if at < 0 or not said.rstrip().endswith("What should I use?"):
        return None
    for start in (match.start() for match in re.finditer(r"(?:^|\n)To ", said)):
        asked = said[start:].lstrip("\n")
        for tool in offered.tools:
            lead = f"To {tool.label}, I need "
            if asked.startswith(lead):
                named = re.split(r"\. What should I use\?| \(", asked[len(lead) :])[0]
                labels = set(re.split(r", | and ", named))
                params = [param for param in tool.params if param.required and f"the {param.label}" in labels]
                if params:
                    return tool, params
    return None
