"""The parts of a Lambda function's ARN.

    arn:aws:lambda:us-east-1:123456789012:function:inventory:PROD
                   region    account               name      qualifier

A bare function name, with or without a qualifier, is accepted too. Bindings and executors
call this; nothing here knows whether the function exists.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LambdaName:
    """One function as an ARN or a name refers to it; parts it does not say are empty."""

    arn: str
    name: str
    qualifier: str = ""
    region: str = ""
    account_id: str = ""

    @property
    def unqualified(self) -> str:
        """The ARN, or the name, without version or alias."""
        return self.arn.removesuffix(f":{self.qualifier}") if self.qualifier else self.arn


def lambda_name(arn: str) -> LambdaName:
    """What an ARN or a function name refers to.

    Shapes: "arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]" or "NAME[:QUALIFIER]"; any other
            text is taken as a name, since whether it exists is for the binding to say.
    """
    parts = arn.split(":")
    if len(parts) >= 7 and parts[0] == "arn" and parts[5] == "function":
        return LambdaName(arn, parts[6], ":".join(parts[7:]), parts[3], parts[4])
    name, _, qualifier = arn.partition(":")
    return LambdaName(arn, name, qualifier)
