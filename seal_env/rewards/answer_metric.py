"""What the terms that compare answers as texts have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from statistics import fmean

from seal_env.rewards.base import RewardInputs, TermValue


class AnswerMetric(ABC):
    """Mean over the questions of how well the updated learner's answer matches a right one.

    Of several right answers (`Question.answers`) the best match counts, as in SQuAD's evaluation
    (arXiv 1606.05250, section 6.1). The part `per_question` has the match of each question.
    """

    needs_questions = True

    @abstractmethod
    def match(self, answer: str, gold: str) -> float:
        """How well an answer matches a right one, 0 to 1."""

    def __call__(self, measured: RewardInputs) -> TermValue:
        """See the class."""
        pairs = zip(measured.questions, measured.after.answers, strict=True)
        matches = [
            max(self.match(answer, gold) for gold in question.answers) for question, answer in pairs
        ]
        return TermValue(fmean(matches), {"per_question": matches})
