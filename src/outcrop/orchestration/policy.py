"""What holds for the turns of one agent: the [turns] settings with what the first matching [agents] binding says.

    names of the agent --first glob that matches--> Binding --over--> [turns]  ->  Policy

A binding wins as a whole: what it does not say comes from [turns], never from a later binding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from outcrop.config import Binding, TurnSettings, bound
from outcrop.orchestration.limits import UNLIMITED, Budget, budget_of


@dataclass(frozen=True, slots=True)
class Policy(TurnSettings):
    """The settings of one agent's turns: those of [turns] as they hold for it, and its budget."""

    budget: Budget = UNLIMITED


def policy_for(agents: Iterable[Binding], turns: TurnSettings, *names: str) -> Policy:
    """The policy of an agent.

    Shapes: agents is `Config.agents`, whose values are checked; names are what the agent goes by: name, id, ARN.
    """
    found = bound(agents, *names)
    said: Mapping[str, Any] = found.settings if found is not None else {}
    own = {setting.name: said.get(setting.name, getattr(turns, setting.name)) for setting in fields(TurnSettings)}
    return Policy(**own, budget=budget_of(said.get("budget", {})))
