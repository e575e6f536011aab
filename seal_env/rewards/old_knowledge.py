"""Reward term `old_knowledge`: what the update made the learner forget of what the base knew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from seal_env.checks import check_fields
from seal_env.errors import UserError
from seal_env.probes.known import KnownQuestions
from seal_env.rewards.base import RewardInputs, TermValue


@dataclass
class OldKnowledge:
    """Share of the base's right answers that are still right after the update, less 1: -1 to 0.

    ``old_knowledge = right after / right before - 1``, over questions about other problems of the
    task that the untouched learner answers right (`seal_env.probes.known`): -0.25 means that one
    in four is forgotten. 0 if it answers none right. Where `retention` is about the problems of
    the same episode, this is about what the base brought along. Source: the forgetting measure of
    Chaudhry et al. 2018 (arXiv 1801.10112), with the untouched learner as the best one so far.
    Parts: `asked` and `right`.

    Raises:
        UserError: A number is below 1.
    """

    questions: int = 28
    """Questions to ask again; all those of a problem are, so there may be a few more."""
    problems: int = 32
    """Problems that are looked through for them."""

    needs_questions: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fields(self)
        for name, value in (("questions", self.questions), ("problems", self.problems)):
            if value < 1:
                raise UserError(f"{name} {value}: must be at least 1")
        self._known = KnownQuestions(self.questions, self.problems)
        self.probes = (self._known,)

    def __call__(self, measured: RewardInputs) -> TermValue:
        """See the class."""
        verdicts = measured.result(self._known)
        right = sum(verdicts)
        value = right / len(verdicts) - 1 if verdicts else 0.0
        return TermValue(value, {"asked": len(verdicts), "right": right})
