"""Reward term `vote`: agreement with pseudo-labels, for questions that nobody has answered."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from seal_env.checks import check_fields
from seal_env.errors import UserError
from seal_env.grading.squad import normalized
from seal_env.probes.votes import Votes
from seal_env.rewards.base import RewardInputs, TermValue

MOST_SAMPLES = 1024
"""Samples per question; more change no vote."""


@dataclass
class Vote:
    """Share of the questions that the updated learner answers as the majority of samples, 0 to 1.

    ``vote = mean over questions with a label of [N(answer) = N(label)]``, where the label is the
    most frequent of `samples` answers of the untouched learner to the question and N is SQuAD's
    normalization (`seal_env.grading.squad.normalized`). 0 if no question has a label. The gold
    answers are not looked at, so any text will do for them. Source: TTRL (Zuo et al. 2025, arXiv
    2504.16084, section 2), where the samples of the policy itself vote; here the base votes, with
    the passage in view, so that what a self-edit is worth does not depend on the others of its
    group. Parts: `labels` and `shares` (of the samples that voted for each label).

    Raises:
        UserError: A setting is out of bounds.
    """

    samples: int = 16
    """Answers that vote, per question."""
    temperature: float = 0.6
    """Temperature (TTRL's) at which they are drawn; 0 for the likeliest answer alone."""
    open_book: bool = True
    """Whether the passage is in view; without it the base votes by what it knows."""
    least_share: float = 0.0
    """Smallest share of the samples that makes an answer a label."""

    needs_questions: ClassVar[bool] = True
    uses_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_fields(self)
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise UserError(f"samples {self.samples}: must be 1 to {MOST_SAMPLES}")
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature {self.temperature}: must be finite and not below 0")
        if not 0 <= self.least_share <= 1:
            raise UserError(f"least_share {self.least_share}: must be 0 to 1")
        samples = self.samples if self.temperature > 0 else 1
        self._votes = Votes(samples, self.temperature, self.open_book)
        self.probes = (self._votes,)

    def __call__(self, measured: RewardInputs) -> TermValue:
        """See the class."""
        votes = measured.result(self._votes)
        pairs = zip(votes, measured.after.answers, strict=True)
        agree = [
            normalized(answer) == normalized(vote.label)
            for vote, answer in pairs
            if vote.label and vote.share >= self.least_share
        ]
        parts = {"labels": [v.label for v in votes], "shares": [v.share for v in votes]}
        return TermValue(sum(agree) / len(agree) if agree else 0.0, parts)
