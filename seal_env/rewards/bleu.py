"""Reward term `bleu`: sentence-level BLEU, by sacrebleu (Post 2018, arXiv 1804.08771)."""

from __future__ import annotations

from sacrebleu.metrics.bleu import BLEU

from seal_env.rewards.answer_metric import AnswerMetric


class Bleu(AnswerMetric):
    """Mean over the questions of the BLEU of the answer against a right one, 0 to 1.

    ``bleu = mean over questions of b * exp(mean over n of log p_n)``, where b is the brevity
    penalty and p_n the precision of n-grams, n = 1 to 4 or to the answer's length in words if
    that is less (``effective_order``). Settings: sacrebleu's for single sentences (exponential
    smoothing of precisions that are 0, tokens by ``13a``, letter case counts). Unit: sacrebleu's
    percent divided by 100. Answers of one or two words give it little to work with; it is for
    answers of sentences. Source: Papineni et al. 2002; Post 2018 (arXiv 1804.08771). Needs the
    extra ``metrics``.
    """

    def __init__(self) -> None:
        self._bleu = BLEU(effective_order=True)

    def match(self, answer: str, gold: str) -> float:
        """The BLEU of an answer against one reference."""
        # Rounding takes a perfect match a little above 100.
        return min(self._bleu.sentence_score(answer, [gold]).score / 100, 1.0)
