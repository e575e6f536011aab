"""Reward term `balanced_accuracy`: accuracy where one answer is right too often."""

from __future__ import annotations

from statistics import fmean

from seal_env.grading.squad import normalized
from seal_env.rewards.base import RewardInputs, TermValue


class BalancedAccuracy:
    """Mean over the different right answers of the accuracy on their questions, 0 to 1.

    ``balanced_accuracy = mean over answers a of (right answers to questions with gold answer a) /
    (questions with gold answer a)``, where gold answers that are equal after SQuAD's normalization
    are one. A learner that says one thing to everything gets 1 / (number of different right
    answers), however often that thing is right: the guard where most answers are "yes", or one of
    few choices. Equal to `accuracy` if all right answers differ. Source: Brodersen et al. 2010
    (ICPR, "The balanced accuracy and its posterior distribution"), macro-averaged recall. Part:
    `answers`, the number of different right answers.
    """

    needs_questions = True

    def __call__(self, measured: RewardInputs) -> TermValue:
        """See the class."""
        groups: dict[str, list[bool]] = {}
        for question, right in zip(measured.questions, measured.after.verdicts, strict=True):
            groups.setdefault(normalized(question.answer), []).append(right)
        value = fmean(fmean(own) for own in groups.values())
        return TermValue(value, {"answers": len(groups)})
