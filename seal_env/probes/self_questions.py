"""Probe `OwnQuestions`: questions that the untouched learner writes about a passage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from seal_env.engine.banks import LearnerState
from seal_env.engine.generation import generate
from seal_env.engine.mixed_bank import bank_of
from seal_env.engine.rendering import DoesNotFit
from seal_env.engine.sampling import Sampling
from seal_env.grading import grade_answer
from seal_env.hashing import stable_hash
from seal_env.probes.base import Probe, ProbeContext, Probed, Subject
from seal_env.probes.cloze import bounded
from seal_env.probes.question_pairs import Pair, question_pairs
from seal_env.probes.votes import Votes
from seal_env.prompts import PROMPTS, prompt_tokens
from seal_env.tasks.base import Problem, Question

WRITTEN = 256
"""Length of a text with questions, in tokens at most."""
MOST_READ = 64
"""Pairs that are tried open book, at most."""


class OwnAnswers(NamedTuple):
    """A learner's answers to questions of the base's own."""

    questions: tuple[Question, ...]
    """The questions, with the answers that the base wrote; empty if none is usable."""
    answers: tuple[str, ...]
    """The learner's answer to each."""
    verdicts: tuple[bool, ...]
    """Whether it is right, by `seal_env.grading`."""
    log_likelihoods: tuple[float, ...]
    """Mean log-probability of the base's answer, in nats per token."""


@dataclass(frozen=True)
class OwnQuestions(Probe[OwnAnswers]):
    """Answers of learners, closed book, to questions that the base wrote with the passage in view.

    The base writes `samples` texts of question-answer pairs. A pair is used if the base, asked
    again with the passage in view, answers the same, and does not without. Neither questions nor
    gold answers of the problem are looked at. The seeds come from the passage, and the questions of
    a passage are written once.
    """

    questions: int
    """Largest number of questions per passage."""
    samples: int
    """Texts of pairs that are drawn per passage."""
    temperature: float
    """The temperature at which they are drawn; 0 for the likeliest text alone."""
    skip_known: bool
    """Whether questions are left out that the base answers without the passage."""

    def measure(
        self, subjects: Sequence[Subject], context: ProbeContext
    ) -> list[Probed[OwnAnswers]]:
        """See `Probe.measure`."""
        asked = self._asked([subject.problem for subject in subjects], context)
        before, after = (
            _answers(asked, states, context)
            for states in ([s.before for s in subjects], [s.after for s in subjects])
        )
        return [Probed(*pair) for pair in zip(before, after, strict=True)]

    def _asked(self, problems: Sequence[Problem], context: ProbeContext) -> list[Problem]:
        """The problems with the base's questions in place of their own."""
        keys = [(self, problem.title, context.task.reads(problem)) for problem in problems]
        missing = {
            key: replace(problem, id="", questions=())
            for key, problem in zip(keys, problems, strict=True)
            if key not in context.measured
        }
        texts = self._written(list(missing.values()), context) if missing else []
        for (key, problem), own in zip(missing.items(), texts, strict=True):
            pairs = question_pairs("\n".join(own))[:MOST_READ]
            context.measured[key] = self._usable(problem, pairs, context)
        return [context.measured[key] for key in keys]

    def _written(self, problems: Sequence[Problem], context: ProbeContext) -> list[list[str]]:
        """Texts of question-answer pairs that the base writes about each passage.

        It is asked as a policy is: in a chat turn if its tokenizer has a chat template, however
        questions are put. The cue for a base model begins its own turn then, since small models
        that only read the request answer with summaries.
        """
        learner, name = context.learner, context.task.questions_prompt
        chat = learner.renderer.uses_chat()
        cue = PROMPTS[name].rpartition("\n")[2]
        begun = learner.renderer.answer(cue.rstrip()) if chat else []
        drawn: list[tuple[int, list[int], int]] = []  # problem, prompt, seed
        for number, problem in enumerate(problems):
            reading = context.task.reads(problem)
            room = learner.max_length - min(WRITTEN, learner.max_length // 2) - len(begun)
            try:
                prompt = prompt_tokens(learner.renderer, name, reading, room, chat).ids + begun
            except DoesNotFit:
                continue
            for sample in range(self.samples if problem.context.strip() else 0):
                drawn.append((number, prompt, stable_hash("self_questions", reading, sample)))
        written = generate(
            learner,
            [prompt for _, prompt, _ in drawn],
            Sampling(WRITTEN, self.temperature),
            seeds=[seed for *_, seed in drawn],
            shared=[len(prompt) for _, prompt, _ in drawn],
        )
        texts: list[list[str]] = [[] for _ in problems]
        for (number, *_), ids in zip(drawn, written, strict=True):
            texts[number].append(cue + learner.decode(ids))
        return texts

    def _usable(self, problem: Problem, pairs: Sequence[Pair], context: ProbeContext) -> Problem:
        """The problem with the questions that the passage answers."""
        questions = tuple(Question(pair.question, pair.answer) for pair in pairs)
        asked = replace(problem, questions=questions)
        votes = Votes(1, 0.0, open_book=True).vote(asked, context)
        answered = [vote.label for vote in votes]
        closed = [answer for _, answer in context.evaluator.ask([asked], [0], None)]
        usable = tuple(
            question
            for question, read, guess in zip(questions, answered, closed, strict=True)
            if _right(question, read) and not (self.skip_known and _right(question, guess))
        )
        return replace(problem, questions=usable[: self.questions])


def _answers(
    asked: Sequence[Problem], states: Sequence[LearnerState | None], context: ProbeContext
) -> list[OwnAnswers]:
    """Answers of learners to their own problems' questions."""
    bank = bank_of(states, context.learner.model)
    found = iter(context.evaluator.ask(asked, range(len(asked)), bank))
    return [_graded(problem.questions, found) for problem in asked]


def _graded(questions: tuple[Question, ...], found: Iterator[tuple[float, str]]) -> OwnAnswers:
    own = [next(found) for _ in questions]
    answers = tuple(answer for _, answer in own)
    verdicts = tuple(_right(*pair) for pair in zip(questions, answers, strict=True))
    return OwnAnswers(questions, answers, verdicts, tuple(bounded(value) for value, _ in own))


def _right(question: Question, answer: str) -> bool:
    return grade_answer(question.answer, answer, question.text)
