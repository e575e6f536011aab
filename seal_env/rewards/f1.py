"""Reward term `f1`: SQuAD's token F1."""

from __future__ import annotations

from seal_env.grading.squad import token_f1
from seal_env.rewards.answer_metric import AnswerMetric


class F1(AnswerMetric):
    """Mean over the questions of the F1 of words between answer and right answer, 0 to 1.

    ``f1 = mean over questions of max over right answers of 2 * p * r / (p + r)``, where p and r
    are the shares of the answer's and of the right answer's words that the other has too, after
    SQuAD's normalization (`seal_env.grading.squad.token_f1`). Source: Rajpurkar et al. 2016 (arXiv
    1606.05250, section 6.1).
    """

    def match(self, answer: str, gold: str) -> float:
        """The F1 of the two bags of words."""
        return token_f1(answer, gold)
