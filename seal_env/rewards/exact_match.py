"""Reward term `exact_match`: SQuAD's exact match."""

from __future__ import annotations

from seal_env.grading.squad import normalized
from seal_env.rewards.answer_metric import AnswerMetric


class ExactMatch(AnswerMetric):
    """Share of the questions whose answer equals a right one after SQuAD's normalization, 0 to 1.

    ``exact_match = mean over questions of max over right answers of [N(answer) = N(right)]``,
    where N drops case, punctuation and articles (`seal_env.grading.squad.normalized`). Source:
    Rajpurkar et al. 2016 (arXiv 1606.05250, section 6.1).
    """

    def match(self, answer: str, gold: str) -> float:
        """1 if the two are equal after normalization, 0 if not."""
        return float(normalized(answer) == normalized(gold))
