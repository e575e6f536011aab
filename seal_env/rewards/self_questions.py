"""Reward term `self_questions`: questions that nobody had to write."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from seal_env.checks import check_fields
from seal_env.errors import UserError
from seal_env.probes.self_questions import OwnQuestions
from seal_env.rewards.base import RewardInputs, TermValue

MOST_QUESTIONS, MOST_SAMPLES = 64, 64
"""Bounds on the settings."""


@dataclass
class SelfQuestions:
    """Mean log-likelihood of the base's answers to questions of its own, in nats per token.

    ``self_questions = mean over questions of (1 / T) * sum over t of log p_new(y_t | question,
    y_<t)``, from -100 to 0, where the untouched learner wrote question and answer y, of T tokens,
    with the passage in view. It must answer the same when it is asked again with the passage, and
    not without (`seal_env.probes.self_questions`). Asked as the task's own questions are. 0 for a
    passage about which it writes no usable question; ``usable`` is 0 then. What is not finite
    counts as -100. Source: question generation with a round-trip filter (Alberti et al. 2019, arXiv
    1906.05416, section 3), by one and the same model. Parts: `accuracy` (by `seal_env.grading`; 0
    without questions), `usable` (number of questions), `questions`, `labels` and `answers`.

    Raises:
        UserError: A setting is out of bounds.
    """

    questions: int = 16
    """Largest number of questions per passage."""
    samples: int = 4
    """Texts with questions that the base writes per passage."""
    temperature: float = 0.7
    """Temperature at which they are drawn; 0 for the likeliest text alone."""
    skip_known: bool = True
    """Whether questions are left out that the base answers without the passage: nothing can be
    learned for them."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 1 <= self.questions <= MOST_QUESTIONS:
            raise UserError(f"questions {self.questions}: must be 1 to {MOST_QUESTIONS}")
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise UserError(f"samples {self.samples}: must be 1 to {MOST_SAMPLES}")
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"temperature {self.temperature}: must be finite and not below 0")
        samples = self.samples if self.temperature > 0 else 1
        self._own = OwnQuestions(self.questions, samples, self.temperature, self.skip_known)
        self.probes = (self._own,)

    def __call__(self, measured: RewardInputs) -> TermValue:
        """See the class."""
        own = measured.result(self._own)
        usable = len(own.questions)
        parts = {
            "accuracy": sum(own.verdicts) / usable if usable else 0.0,
            "usable": usable,
            "questions": [question.text for question in own.questions],
            "labels": [question.answer for question in own.questions],
            "answers": list(own.answers),
        }
        return TermValue(fmean(own.log_likelihoods) if usable else 0.0, parts)
