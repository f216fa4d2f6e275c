"""The questions of the benchmark, and what the model says to each.

    turn      three model calls, two tools one after the other, an answer of 20 pieces
    report    one model call, an answer of 200 pieces
    paced     the same, one piece a millisecond
    regions   two model calls, four tools of 50 ms side by side, a short answer
    chat      one model call, a short answer: what fills a session with earlier turns
    flood     one model call, an answer of 1 MB in 100 pieces: more than a connection holds
    trouble   the model refuses: the turn fails

The model's last piece names the number of user turns it was shown, so an engine that drops
history gives a wrong answer. Used by the model server and by the load that checks answers.
"""

from __future__ import annotations

from dataclasses import dataclass

INSTRUCTION = "You are a stock assistant. Use the tools to answer questions about stock and prices."
REGIONS = {"eu": "check_region", "us": "check_region", "ap": "check_region_blocking", "sa": "check_region_blocking"}


@dataclass(frozen=True, slots=True)
class Workload:
    """One question and its answer.

    Shapes: pieces are what the model streams before the last piece.
    Units: gap_s in seconds between pieces; 0 sends a whole reply at once.
    """

    name: str
    question: str
    pieces: tuple[str, ...]
    gap_s: float = 0.0

    def answer(self, turn: int) -> str:
        """The whole answer when it comes in the session's n-th turn, counted from 1."""
        return "".join(self.pieces) + last_piece(turn)


def last_piece(turn: int) -> str:
    """The end of every answer."""
    return f" [turn {turn}]"


_ANSWER = "SKU-55| has| 42| units| on| hand| in| warehouse| DUB-1|,| and| its| list| price| is| 19.99| EUR| per| unit."
_REPORT = ("word000", *(f" word{number:03d}" for number in range(1, 199)))

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("turn", "Check inventory for SKU-55", tuple(_ANSWER.split("|"))),
        Workload("report", "Write a long report", _REPORT),
        Workload("paced", "Write a long report, slowly", _REPORT, gap_s=0.001),
        Workload("regions", "Compare four regions", ("All", " four", " regions", " have", " stock", " today", ".")),
        Workload("chat", "Tell me a short fact about storage", ("This", " is", " a", " short answer.")),
        Workload("flood", "Print everything", tuple("#" * 10_000 for _ in range(100))),
        Workload("trouble", "Make trouble", ()),
    )
}
