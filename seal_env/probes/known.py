"""Probe `KnownQuestions`: questions that the untouched learner answers right, asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from seal_env.engine.banks import LearnerState
from seal_env.engine.mixed_bank import bank_of
from seal_env.probes.base import Probe, ProbeContext, Probed, Subject
from seal_env.score import Score
from seal_env.tasks.base import Problem, first_problems


@dataclass(frozen=True)
class KnownQuestions(Probe[tuple[bool, ...]]):
    """Verdicts of the learner after an update on questions that the untouched one answers right.

    The questions are those of the first problems of the task's `known_split`, as far as the
    untouched learner answers them right. Those about a subject's own context are left out for it.
    """

    questions: int = 28
    """Questions to ask; all those of a problem are, so there may be a few more."""
    problems: int = 32
    """Problems that are looked through for them."""

    def measure(
        self, subjects: Sequence[Subject], context: ProbeContext
    ) -> list[Probed[tuple[bool, ...]]]:
        """See `Probe.measure`. Empty for a subject that no question is left for."""
        known = self._known(context)
        asked = [self._chosen(known, subject.problem) for subject in subjects]
        before, after = (
            self._verdicts(asked, states, context)
            for states in ([s.before for s in subjects], [s.after for s in subjects])
        )
        return [Probed(*pair) for pair in zip(before, after, strict=True)]

    def _verdicts(
        self,
        asked: Sequence[Sequence[Problem]],
        states: Sequence[LearnerState | None],
        context: ProbeContext,
    ) -> list[tuple[bool, ...]]:
        """Verdicts of learners, each on its own problems; the untouched one has all right."""
        verdicts = [tuple(True for p in own for _ in p.questions) for own in asked]
        changed = [i for i, state in enumerate(states) if state is not None and asked[i]]
        if not changed:
            return verdicts
        problems = [problem for i in changed for problem in asked[i]]
        owners = [owner for owner, i in enumerate(changed) for _ in asked[i]]
        bank = bank_of([states[i] for i in changed], context.learner.model)
        scores = iter(context.evaluator.evaluate(problems, owners, bank))
        for i in changed:
            verdicts[i] = tuple(right for _ in asked[i] for right in next(scores).verdicts)
        return verdicts

    def _known(self, context: ProbeContext) -> list[Problem]:
        """Problems with the questions alone that the untouched learner answers right."""
        problems = first_problems(context.task, context.task.known_split, self.problems)
        scores = context.baselines(problems)
        known = (_right(p, s) for p, s in zip(problems, scores, strict=True))
        return [problem for problem in known if problem.questions]

    def _chosen(self, known: Sequence[Problem], problem: Problem) -> list[Problem]:
        """The first of the known problems that are not about a problem's own context."""
        chosen: list[Problem] = []
        count = 0
        for other in known:
            if count >= self.questions:
                break
            if other.context != problem.context:
                chosen.append(other)
                count += len(other.questions)
        return chosen


def _right(problem: Problem, score: Score) -> Problem:
    pairs = zip(problem.questions, score.verdicts, strict=True)
    return replace(problem, questions=tuple(question for question, right in pairs if right))
