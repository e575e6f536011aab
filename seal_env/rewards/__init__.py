"""Reward terms, one file each; a reward is a weighted sum of terms.

A reward is a text such as ``"accuracy"``, ``"accuracy + 0.3 * log_likelihood"`` or, with another
term, ``"accuracy - 0.1 * mypackage.module:MyTerm"``.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

from seal_env.checks import construct
from seal_env.errors import UserError, printable
from seal_env.probes.base import Probe
from seal_env.registry import Registry
from seal_env.rewards.base import RewardInputs, RewardTerm, TermValue, needs_questions, probes_of

REWARDS = Registry(
    "reward term",
    {
        "accuracy": "seal_env.rewards.accuracy:Accuracy",
        "balanced_accuracy": "seal_env.rewards.balanced_accuracy:BalancedAccuracy",
        "bleu": "seal_env.rewards.bleu:Bleu",
        "chrf": "seal_env.rewards.chrf:ChrF",
        "cloze": "seal_env.rewards.cloze:ClozeLikelihood",
        "critic": "seal_env.rewards.critic:PredictedReward",
        "exact_match": "seal_env.rewards.exact_match:ExactMatch",
        "f1": "seal_env.rewards.f1:F1",
        "kl": "seal_env.rewards.kl:KL",
        "length": "seal_env.rewards.length:Length",
        "log_likelihood": "seal_env.rewards.log_likelihood:LogLikelihood",
        "old_knowledge": "seal_env.rewards.old_knowledge:OldKnowledge",
        "retention": "seal_env.rewards.retention:Retention",
        "rubric": "seal_env.rewards.rubric:Rubric",
        "self_questions": "seal_env.rewards.self_questions:SelfQuestions",
        "shift": "seal_env.rewards.shift:Shift",
        "vote": "seal_env.rewards.vote:Vote",
    },
    extra="metrics",
)

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PIECE = re.compile(rf"\s*(?P<sign>[+-]?)\s*(?:(?P<weight>{_NUMBER})\s*\*\s*)?(?P<name>[\w.:]+)\s*")


class RewardValue(NamedTuple):
    """What a self-edit is worth."""

    reward: float
    """The weighted sum."""
    terms: dict[str, float]
    """Each term's own value, by name."""
    parts: dict[str, dict[str, Any]]
    """What terms are made of, by the names of those that say it."""


@dataclass(frozen=True)
class Reward:
    """Weighted sum of terms."""

    terms: tuple[tuple[str, float, RewardTerm], ...]
    """Name, weight and term of each summand."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the terms."""
        return tuple(name for name, _, _ in self.terms)

    @property
    def needing_questions(self) -> tuple[str, ...]:
        """Names of the terms that have no value for a problem without questions."""
        return tuple(name for name, _, term in self.terms if needs_questions(term))

    @property
    def probes(self) -> tuple[Probe[Any], ...]:
        """What has to be measured for the terms, each once."""
        return tuple(dict.fromkeys(p for _, _, term in self.terms for p in probes_of(term)))

    def __call__(self, measured: RewardInputs) -> RewardValue:
        """The reward of what was measured.

        Raises:
            UserError: The value of a term is no finite number.
        """
        values: dict[str, float] = {}
        parts: dict[str, dict[str, Any]] = {}
        for name, _, term in self.terms:
            given = term(measured)
            if isinstance(given, TermValue):
                parts[name] = dict(given.parts)
                given = given.value
            values[name] = _finite(name, given)
        reward = sum(weight * values[name] for name, weight, _ in self.terms)
        return RewardValue(reward, values, parts)


def _finite(name: str, value: Any) -> float:
    """Value of a term as a float."""
    try:
        if isinstance(value, Real) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer beyond the range of floats
        pass
    raise UserError(
        f"reward term {name!r}: must return a finite number; it returned {printable(repr(value))}"
    )


def parse_reward(text: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> Reward:
    """Reward from a text such as ``"accuracy + 0.3 * log_likelihood"``.

    Args:
        text: The sum.
        options: Keyword arguments of terms, by the names that the sum has for them.

    Raises:
        UserError: The text is no such sum, names an unknown term, or a term does not take its
            options.
    """
    options = options or {}
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
        terms.append((name, weight, _term(name, options.get(name, {}))))
        position = found.end()
    if not terms:
        raise UserError("the reward is empty: name a term, for example 'accuracy'")
    names = [name for name, _, _ in terms]
    for name in options:
        if name not in names:
            raise UserError(
                f"reward_options: the reward {text!r} has no term {name!r}; "
                f"it has {', '.join(names)}"
            )
    return Reward(tuple(terms))


def _term(name: str, options: Mapping[str, Any]) -> RewardTerm:
    """A term by name: an instance of a class, or a function as it is."""
    kind = REWARDS.load(name)
    if inspect.isfunction(kind):
        if options:
            raise UserError(f"reward term {name!r}: is a function, which takes no options")
        return kind
    if not callable(kind):
        raise UserError(f"reward term {name!r}: is neither a class nor a function")
    term: RewardTerm = construct(kind, options, f"reward term {name!r}")
    if not callable(term):
        raise UserError(f"reward term {name!r}: has no method __call__; define it")
    return term


__all__ = ["REWARDS", "Reward", "RewardInputs", "RewardTerm", "RewardValue", "parse_reward"]
