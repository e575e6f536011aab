"""Reward term `cloze`: what the updated learner knows of the passage's own facts."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from seal_env.checks import check_fields
from seal_env.errors import UserError
from seal_env.probes.cloze import ClozeSpans
from seal_env.rewards.base import RewardInputs, TermValue

MOST_SPANS = 1024
"""Bound on the spans of a passage."""


@dataclass
class ClozeLikelihood:
    """Mean log-likelihood of spans of the passage, closed book, in nats per token, -100 to 0.

    ``cloze = mean over spans of (1 / T) * sum over t of log p_new(s_t | title, beginning of the
    sentence, s_<t)``, where s is a number, a name or the last content word of a sentence
    (`seal_env.probes.spans`) and T its number of tokens. Neither questions nor labels are needed,
    and the passage is not in view. 0 for a passage without spans. What is not finite counts as
    -100. Source: salient span masking as of REALM (Guu et al. 2020, arXiv 2002.08909, section
    3.4), as a measurement instead of a training objective.

    With `mask`, a span is not learned where the training data has it behind the three words that
    are before it in the passage: a self-edit has to say the fact in other words. This holds for the
    passage that is trained on after a self-edit, too. The learner is another one than without
    `mask`, and less accurate: report the accuracy of one that was trained without.

    Parts: `spans` and `per_span`.

    Raises:
        UserError: A setting is out of bounds.
    """

    spans: int = 16
    """Largest number of spans per passage."""
    mask: bool = False
    """Whether a span has no loss where the training data has it in the passage's own words."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 1 <= self.spans <= MOST_SPANS:
            raise UserError(f"spans {self.spans}: must be 1 to {MOST_SPANS}")
        self._spans = ClozeSpans(self.spans, self.mask)
        self.probes = (self._spans,)

    def __call__(self, measured: RewardInputs) -> TermValue:
        """See the class."""
        cloze = measured.result(self._spans)
        likelihoods = list(cloze.log_likelihoods)
        parts = {"spans": [span.text.strip() for span in cloze.spans], "per_span": likelihoods}
        return TermValue(fmean(likelihoods) if likelihoods else 0.0, parts)
