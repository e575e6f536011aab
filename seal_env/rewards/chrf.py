"""Reward term `chrf`: character n-gram F-score, by sacrebleu (Popović 2015)."""

from __future__ import annotations

from sacrebleu.metrics.chrf import CHRF

from seal_env.rewards.answer_metric import AnswerMetric


class ChrF(AnswerMetric):
    """Mean over the questions of the chrF2 of the answer against a right one, 0 to 1.

    ``chrf = mean over questions of 5 * p * r / (4 * p + r)``, where p and r are the mean precision
    and recall of character n-grams, n = 1 to 6 (as far as both texts have some), spaces left out;
    letter case counts. Unit: sacrebleu's percent divided by 100. It gives partial credit for other
    forms of a word, and needs no words at all. Source: Popović 2015 (WMT15, W15-3049); settings are
    sacrebleu's defaults (Post 2018, arXiv 1804.08771). Needs the extra ``metrics``.
    """

    def __init__(self) -> None:
        self._chrf = CHRF()

    def match(self, answer: str, gold: str) -> float:
        """The chrF2 of an answer against one reference."""
        return min(self._chrf.sentence_score(answer, [gold]).score / 100, 1.0)
