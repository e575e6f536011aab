"""Probe `Votes`: what the untouched learner takes to be right, by a vote of its own samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from seal_env.content_keys import problem_key
from seal_env.engine.generation import generate
from seal_env.engine.rendering import Content, DoesNotFit
from seal_env.engine.sampling import Sampling
from seal_env.grading.squad import normalized
from seal_env.hashing import stable_hash
from seal_env.probes.base import Probe, ProbeContext, Probed, Subject
from seal_env.tasks.base import Problem, Question


class Vote(NamedTuple):
    """The outcome of the vote on one question."""

    label: str
    """The answer with the most votes; "" if nobody voted."""
    share: float
    """Its share of all samples, 0 to 1."""


@dataclass(frozen=True)
class Votes(Probe[tuple[Vote, ...]]):
    """A majority vote over answers that the untouched learner draws, one per question.

    The voters are samples of the base alone: not the candidates of a group, since what a self-edit
    is worth may not depend on those beside it. The seeds of the samples come from the question and
    from what is read with it. The gold answers are not looked at.
    """

    samples: int
    """Answers drawn per question."""
    temperature: float
    """The temperature at which they are drawn; 0 for the likeliest answer alone."""
    open_book: bool
    """Whether the passage is in view."""

    def measure(
        self, subjects: Sequence[Subject], context: ProbeContext
    ) -> list[Probed[tuple[Vote, ...]]]:
        """See `Probe.measure`: one vote per question of each subject's problem."""
        keys = [(self, problem_key(subject.problem)) for subject in subjects]
        for key, subject in zip(keys, subjects, strict=True):
            if key not in context.measured:
                context.measured[key] = self.vote(subject.problem, context)
        votes = [context.measured[key] for key in keys]
        return [Probed(vote, vote) for vote in votes]

    def vote(self, problem: Problem, context: ProbeContext) -> tuple[Vote, ...]:
        """The outcome of the vote on each question of a problem."""
        return tuple(map(_count, self._ballots(problem, context)))

    def _ballots(self, problem: Problem, context: ProbeContext) -> list[list[str]]:
        """The answers that the samples give to each question of a problem."""
        asked = context.evaluator.tokenize(problem).asked
        ballots: list[list[str]] = [[] for _ in asked]
        prompts: list[list[int]] = []
        drawn: list[tuple[int, int]] = []  # question, seed
        for number, (question, tokens) in enumerate(zip(problem.questions, asked, strict=True)):
            try:
                prompt = self._prompt(problem, question, tokens.room, context)
            except DoesNotFit:
                continue
            if tokens.choices:
                # The likeliest choice is what every sample says.
                choices = list(tokens.choices.values())
                means = context.learner.score(
                    [prompt] * len(choices), choices, [0] * len(choices), None
                )
                best = max(zip(means, tokens.choices, strict=True), key=lambda pair: pair[0])[1]
                ballots[number] = [best] * self.samples
                continue
            for sample in range(self.samples):
                seed = stable_hash("vote", self.open_book, problem.context, question.text, sample)
                drawn.append((number, seed))
                prompts.append(prompt)
        longest = max((tokens.longest for tokens in asked), default=1)
        written = generate(
            context.learner,
            prompts,
            Sampling(longest, self.temperature, stop_at_newline=True),
            seeds=[seed for _, seed in drawn],
        )
        for (number, _), ids in zip(drawn, written, strict=True):
            text = context.learner.decode(ids[: asked[number].longest])
            ballots[number].append(text.strip().split("\n")[0].strip())
        return ballots

    def _prompt(
        self, problem: Problem, question: Question, room: int, context: ProbeContext
    ) -> list[int]:
        """What the samples read: the passage, if it is in view, and the question.

        Raises:
            DoesNotFit: The question is too long for the model.
        """
        task, evaluator = context.task, context.evaluator
        parts = task.prompt_parts(task.question_prompt(question))
        if self.open_book:
            parts = Content(task.reads(problem)), "\n", *parts
        learner = context.learner
        return learner.renderer.prompt(parts, learner.max_length - room, evaluator.chat).ids


def _count(ballots: Sequence[str]) -> Vote:
    """The outcome of a vote; answers that are equal after SQuAD's normalization are one."""
    counted = Counter(normalized(ballot) for ballot in ballots if normalized(ballot))
    if not counted:
        return Vote("", 0.0)
    winner, count = counted.most_common(1)[0]  # of equals the one drawn first
    label = next(ballot for ballot in ballots if normalized(ballot) == winner)
    return Vote(label, count / len(ballots))
