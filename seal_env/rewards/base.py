"""Interface of reward terms: measurements in, a number out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

from seal_env.probes.base import Probe
from seal_env.score import Score
from seal_env.tasks.base import Question

T = TypeVar("T")


@dataclass(frozen=True)
class RewardInputs:
    """Measurements of one self-edit."""

    before: Score
    """Score of the learner before the update (in a stream: after the previous step)."""
    after: Score
    """Score of the learner after the update; `before` if there was none."""
    earlier: Sequence[tuple[Score, Score]] = ()
    """Scores of earlier problems of the episode, before and after this update."""
    earlier_problems: int | None = None
    """Number of earlier problems that `earlier` is a random sample of; None if it has all."""
    questions: tuple[Question, ...] = ()
    """Questions of the problem, in the order of the scores' answers."""
    context: str = ""
    """Text that the policy read."""
    text: str = ""
    """The self-edit as a text; of one that is none, its summary; empty for no self-edit."""
    trained_tokens: int = 0
    """Tokens trained on, over all epochs; 0 without training."""
    probed: Mapping[Probe[Any], Any] = field(default_factory=dict)
    """Measurements of the reward's probes; see `result`."""

    def result(self, probe: Probe[T]) -> T:
        """Measurement of one of the term's own probes."""
        return cast(T, self.probed[probe])


@dataclass(frozen=True)
class TermValue:
    """Value of a term, with the numbers that it is made of."""

    value: float
    """Value, finite."""
    parts: Mapping[str, Any]
    """Plain data for ``info["parts"]``, by name; the same names at every step."""


class RewardTerm(Protocol):
    """Function from measurements to a number.

    A term that needs more than the scores has an attribute ``probes``, a tuple of `Probe`;
    `RewardInputs.result` holds their measurements. A term that has no value for a problem without
    questions has an attribute ``needs_questions`` that is true; if it looks at no gold answers,
    also ``uses_labels``, which is false.
    """

    def __call__(self, measured: RewardInputs) -> float | TermValue:
        """Value of the term, finite."""
        ...


def probes_of(term: RewardTerm) -> tuple[Probe[Any], ...]:
    """The probes that a term asks for."""
    return tuple(getattr(term, "probes", ()))


def needs_questions(term: RewardTerm) -> bool:
    """Whether a term has no value for a problem without questions."""
    return bool(getattr(term, "needs_questions", False))


def uses_labels(term: RewardTerm) -> bool:
    """Whether a term looks at gold answers: those that need questions do, unless they say no."""
    return bool(getattr(term, "uses_labels", needs_questions(term)))
