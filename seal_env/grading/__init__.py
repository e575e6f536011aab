"""Grading of free-form answers: offline, or by a model as the judge."""

from seal_env.grading.offline import grade_answer

__all__ = ["grade_answer"]
