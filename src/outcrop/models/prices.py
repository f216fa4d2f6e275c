"""What a model call costs: the price that a [models] binding says, and tokens times that price.

    usd_per_million_input_tokens = 3.0      -> 3 micro-dollars per token read
    usd_per_million_output_tokens = 15.0    -> 15 micro-dollars per token written

The catalogue reads a binding's price; budgets count with it. A binding that says none has none: nothing here takes a
model for free.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from outcrop.config import Binding, ConfigMistake
from outcrop.models.settings import number

INPUT, OUTPUT = "usd_per_million_input_tokens", "usd_per_million_output_tokens"
KEYS = (INPUT, OUTPUT)
"""The settings of a binding that this module reads."""


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs.

    Units: US dollars per million tokens, which are micro-dollars per token.
    """

    input: Decimal
    output: Decimal

    def microusd(self, input_tokens: int, output_tokens: int) -> int:
        """What that many tokens cost, the last part of a micro-dollar counted whole."""
        cost = input_tokens * self.input + output_tokens * self.output
        return int(cost.to_integral_value(ROUND_CEILING))


def price_of(binding: Binding) -> Price | None:
    """The price that a binding says, none where it says none.

    Errors: ConfigMistake when it says half of one, or what is no amount.
    """
    said = [key for key in KEYS if key in binding.settings]
    if not said:
        return None
    for key in KEYS:
        if key not in said:
            raise ConfigMistake(f"[models] '{binding.pattern}': {said[0]} needs {key} beside it")
    return Price(_amount(binding, INPUT), _amount(binding, OUTPUT))


def _amount(binding: Binding, key: str) -> Decimal:
    value = number(binding, key, 0.0)
    if not math.isfinite(value):
        raise ConfigMistake(f"[models] '{binding.pattern}': {key} = {value!r} is no number of at least 0")
    return Decimal(str(value))
