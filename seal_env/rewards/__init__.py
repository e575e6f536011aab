"""Reward terms, one file each; a reward is a weighted sum of terms.

A reward is a text such as ``"accuracy"``, ``"accuracy + 0.3 * log_likelihood"`` or, with another
term, ``"accuracy - 0.1 * mypackage.module:MyTerm"``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from seal_env.errors import UserError
from seal_env.registry import Registry
from seal_env.rewards.base import RewardInputs, RewardTerm

REWARDS = Registry(
    "reward term",
    {
        "accuracy": "seal_env.rewards.accuracy:Accuracy",
        "log_likelihood": "seal_env.rewards.log_likelihood:LogLikelihood",
        "retention": "seal_env.rewards.retention:Retention",
    },
)

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PIECE = re.compile(rf"\s*(?P<sign>[+-]?)\s*(?:(?P<weight>{_NUMBER})\s*\*\s*)?(?P<name>[\w.:]+)\s*")


@dataclass(frozen=True)
class Reward:
    """Weighted sum of terms."""

    terms: tuple[tuple[str, float, RewardTerm], ...]
    """Name, weight and term of each summand."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the terms."""
        return tuple(name for name, _, _ in self.terms)

    def __call__(self, measured: RewardInputs) -> tuple[float, dict[str, float]]:
        """The reward of an outcome, and each term's own value by name."""
        values = {name: term(measured) for name, _, term in self.terms}
        return sum(weight * values[name] for name, weight, _ in self.terms), values


def parse_reward(text: str) -> Reward:
    """Reward from a text such as ``"accuracy + 0.3 * log_likelihood"``.

    Raises:
        UserError: The text is no such sum, or names an unknown term.
    """
    terms: list[tuple[str, float, RewardTerm]] = []
    position = 0
    while position < len(text):
        found = _PIECE.match(text, position)
        if found is None or (terms and not found["sign"]):
            raise UserError(
                f"reward {text!r}: cannot read {text[position:]!r}; "
                f"write a sum like 'accuracy + 0.3 * log_likelihood'"
            )
        name = found["name"]
        if any(name == other for other, _, _ in terms):
            raise UserError(f"reward {text!r}: names {name!r} twice; add its weights up")
        weight = float(found["weight"] or 1) * (-1 if found["sign"] == "-" else 1)
        if not math.isfinite(weight):
            raise UserError(
                f"reward {text!r}: the weight of {name!r} is not finite; make it smaller"
            )
        terms.append((name, weight, REWARDS.load(name)()))
        position = found.end()
    if not terms:
        raise UserError("the reward is empty: name a term, for example 'accuracy'")
    return Reward(tuple(terms))


__all__ = ["REWARDS", "Reward", "RewardInputs", "RewardTerm", "parse_reward"]
