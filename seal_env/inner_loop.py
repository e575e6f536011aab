"""The inner loop: (problem, self-edit) pairs in, outcomes out, all in one pass.

Carries self-edits out on the learner (SEAL, arXiv 2506.10943, section 3.1): finetune a fresh
LoRA adapter on each, ask the held-out questions without the context, grade the answers. This
is the only place where a learner's weights change, and they change in adapters alone: the
base is never written to, so there is nothing to restore.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import NamedTuple

import torch
from torch import Tensor

from seal_env.adapters import AdapterBank, LoraConfig, find_targets
from seal_env.budget import adapters_at_once, check_fits, token_budget
from seal_env.edits.base import SelfEdit
from seal_env.errors import UserError
from seal_env.finetune import Example, FinetuneConfig, Trained, finetune
from seal_env.learner import Learner, Sampling
from seal_env.prompts import render_question
from seal_env.rewards.base import Score
from seal_env.tasks.base import Problem, Question, Task
from seal_env.workers import run_parts, split_evenly

ASKING = 16
"""So many times the tokens of a training pass are read at once in asking, which keeps nothing for
a backward pass."""
Progress = Callable[[str, int, int], None]
"""Called with a stage's name, what is done of it, and how much there is."""


@dataclass(frozen=True)
class InnerLoopConfig:
    """How a self-edit is carried out on the learner. The defaults are SEAL's."""

    lora: LoraConfig = field(default_factory=LoraConfig)
    """The adapter."""
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    """The optimiser."""
    max_tokens: int = 8192
    """Most tokens of one self-edit, over all its sequences; the rest is cut off."""
    tokens_per_pass: int | None = None
    """Bound on the tokens that go through the model at once; None for as many as are quick and
    fit into the memory that is free (`seal_env.budget`)."""
    chat: bool | None = None
    """Whether questions are put as chat turns; None: if the tokenizer has a chat template."""

    def __post_init__(self) -> None:
        if self.max_tokens < 2:
            raise UserError(f"max_tokens {self.max_tokens}: must be at least 2")


@dataclass(frozen=True)
class Request:
    """One self-edit to carry out."""

    problem: Problem
    """What is asked afterwards."""
    edit: SelfEdit
    """What the learner is trained on."""
    seed: int
    """Fixes the adapter's initial weights and the data order, and nothing else does."""
    start: Tensor | None = None
    """Weights of an adapter to go on from (a stream); None for a fresh one."""
    earlier: tuple[Problem, ...] = ()
    """Further problems to ask about, before and after."""


@dataclass(frozen=True)
class Outcome:
    """What came of one self-edit."""

    before: Score
    """The learner as it was, on the problem."""
    after: Score
    """The updated learner; `before` itself if nothing was trained."""
    earlier: tuple[tuple[Score, Score], ...]
    """Before and after on each of the request's earlier problems."""
    trained: Trained | None
    """What the training took; None if there was none."""
    weights: Tensor | None
    """The adapter's weights after it, shape (size,); what the request started from if none."""
    truncated: bool
    """Whether a cap cut something off the self-edit."""
    error: str | None
    """Why nothing was trained, in one line; None if something was."""


class InnerLoop:
    """Carries self-edits out on a learner and measures what they did.

    Args:
        learner: The base model, frozen.
        task: Puts the questions and grades the answers.
        config: How.
        baselines: What the untouched learner scored on each problem, as far as it is known;
            added to.
    """

    def __init__(
        self,
        learner: Learner,
        task: Task,
        config: InnerLoopConfig,
        baselines: dict[Problem, Score] | None = None,
    ) -> None:
        self.learner, self.task, self.config = learner, task, config
        self.targets = find_targets(learner.model, config.lora)
        self._baselines = {} if baselines is None else baselines
        longest = min(config.max_tokens, learner.max_length)
        self.tokens_per_pass = token_budget(
            learner, self.targets, config.lora, longest, config.tokens_per_pass
        )
        """Tokens that go through the model at once in training."""

    def run(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Outcome]:
        """Carries out any number of self-edits.

        What comes of one does not depend on the others, on their number or on their order.

        Args:
            requests: What to do.
            progress: Told about training and asking.
        """
        self.baselines([r.problem for r in requests if r.start is None], progress)
        prepared = [(request, *self.examples(request)) for request in requests]
        outcomes: list[Outcome] = []
        longest = max((len(e.ids) for _, examples, *_ in prepared for e in examples), default=0)
        lora, budget = self.config.lora, self.tokens_per_pass
        check_fits(self.learner, self.targets, lora, budget, longest)
        together = adapters_at_once(self.learner.device, self.new_bank(0).size)
        for start in range(0, len(prepared), together):
            outcomes += self._run_together(prepared[start : start + together], progress)
        return outcomes

    def baselines(
        self, problems: Iterable[Problem], progress: Progress | None = None
    ) -> list[Score]:
        """How the untouched learner does on problems; asked once a problem, then kept."""
        wanted = dict.fromkeys(problems)
        missing = [problem for problem in wanted if problem not in self._baselines]
        if missing:
            scores = self._ask(missing, [0] * len(missing), None, progress)
            self._baselines.update(zip(missing, scores, strict=True))
        return [self._baselines[problem] for problem in wanted]

    def new_bank(self, count: int) -> AdapterBank:
        """Room for so many adapters of this loop's shape."""
        return AdapterBank(self.targets, self.config.lora, count, self.learner.device)

    def bank_of(self, weights: Sequence[Tensor | None]) -> AdapterBank | None:
        """Adapters with given weights (None: no change); None if there are none at all."""
        if all(w is None for w in weights):
            return None
        bank = self.new_bank(len(weights))
        for index, flat in enumerate(weights):
            if flat is not None:
                bank.weights[index] = flat.to(bank.weights.device)
        return bank

    def _run_together(
        self,
        chunk: Sequence[tuple[Request, list[Example], bool, str | None]],
        progress: Progress | None,
    ) -> list[Outcome]:
        requests = [request for request, *_ in chunk]
        before = self._scores(requests, self.bank_of([r.start for r in requests]), progress)
        bank = self.new_bank(len(chunk))
        bank.initialise([r.seed for r in requests])
        for index, request in enumerate(requests):
            if request.start is not None:
                bank.weights[index] = request.start.to(bank.weights.device)

        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress("training", done, total)

        records = finetune(
            self.learner,
            bank,
            [examples for _, examples, _, _ in chunk],
            self.config.finetune,
            [r.seed for r in requests],
            tell,
            self.tokens_per_pass,
        )
        good = [bool(record.steps) and not record.failed for record in records]
        after = self._after(requests, bank, good, progress)
        # Weights can be finite and yet so large that the model's numbers no longer are.
        good = [
            ok and all(math.isfinite(score.log_likelihood) for score in scores)
            for ok, scores in zip(good, after, strict=True)
        ]
        outcomes = []
        for index, (request, _, truncated, error) in enumerate(chunk):
            if good[index]:
                weights: Tensor | None = bank.copy_of(index)
            else:
                weights = request.start
                error = error or "training diverged: the loss or the weights became infinite or NaN"
            first, *rest = before[index]
            new, *new_rest = after[index] if good[index] else before[index]
            outcomes.append(
                Outcome(
                    before=first,
                    after=new,
                    earlier=tuple(zip(rest, new_rest, strict=True)),
                    trained=records[index] if records[index].steps else None,
                    weights=weights,
                    truncated=truncated,
                    error=error,
                )
            )
        return outcomes

    def examples(self, request: Request) -> tuple[list[Example], bool, str | None]:
        """A self-edit's sequences as tokens, whether a cap cut something, and any error."""
        if request.edit.error is not None:
            return [], False, request.edit.error
        examples, left, truncated = [], self.config.max_tokens, request.edit.truncated
        end = self.learner.end_ids
        for position, text in enumerate(request.edit.sequences):
            ids = self.learner.encode(text) + end
            room = min(left, self.learner.max_length)
            if len(ids) > room:
                ids, truncated = ids[:room], True
            if len(ids) >= 2:
                examples.append(Example(tuple(ids)))
            left -= len(ids)
            if left < 2:
                truncated |= position + 1 < len(request.edit.sequences)
                break
        if not examples:
            return [], truncated, "nothing to train on: the self-edit holds no text"
        return examples, truncated, None

    def _after(
        self,
        requests: Sequence[Request],
        bank: AdapterBank,
        good: Sequence[bool],
        progress: Progress | None,
    ) -> list[list[Score]]:
        """Scores of the updated learners; an empty list where nothing was trained."""
        chosen = [i for i, ok in enumerate(good) if ok]
        scores: list[list[Score]] = [[] for _ in requests]
        if not chosen:
            return scores
        kept = self.new_bank(len(chosen))
        kept.weights.copy_(bank.weights[torch.tensor(chosen, device=bank.weights.device)])
        asked = self._score_all([requests[i] for i in chosen], kept, progress)
        for i, score in zip(chosen, asked, strict=True):
            scores[i] = score
        return scores

    def _scores(
        self, requests: Sequence[Request], bank: AdapterBank | None, progress: Progress | None
    ) -> list[list[Score]]:
        """Scores before the update, from the kept baselines where there was none before."""
        if bank is None:
            return [self.baselines_of([request.problem, *request.earlier]) for request in requests]
        return self._score_all(requests, bank, progress)

    def baselines_of(self, problems: Sequence[Problem]) -> list[Score]:
        """`baselines`, aligned with the problems given (which may repeat)."""
        self.baselines(problems)
        return [self._baselines[problem] for problem in problems]

    def _score_all(
        self, requests: Sequence[Request], bank: AdapterBank, progress: Progress | None
    ) -> list[list[Score]]:
        problems = [p for r in requests for p in (r.problem, *r.earlier)]
        owners = [i for i, r in enumerate(requests) for _ in range(1 + len(r.earlier))]
        scores = iter(self._ask(problems, owners, bank, progress))
        return [[next(scores) for _ in range(1 + len(r.earlier))] for r in requests]

    def _ask(
        self,
        problems: Sequence[Problem],
        owners: Sequence[int],
        bank: AdapterBank | None,
        progress: Progress | None,
    ) -> list[Score]:
        """Asks the questions of problems, each under its adapter, and grades the answers."""
        asked = [
            self.question_tokens(question, owner)
            for problem, owner in zip(problems, owners, strict=True)
            for question in problem.questions
        ]
        sizes = [len(a.prompt) + a.room for a in asked]
        done: list[int] = []

        def job(part: range) -> Callable[[Event], tuple[list[float], list[str]]]:
            return lambda stop: self._ask_some(asked[part.start : part.stop], bank, tell, stop)

        def tell(new: int) -> None:
            done.append(new)
            if progress is not None:
                progress("asking", sum(done), len(asked))

        found = run_parts([job(p) for p in split_evenly(sizes, self.learner.workers(len(asked)))])
        likelihoods = [value for part, _ in found for value in part]
        texts = [text for _, part in found for text in part]
        scores, position = [], 0
        for problem in problems:
            stop = position + len(problem.questions)
            answers = tuple(texts[position:stop])
            verdicts = tuple(self.task.grade(problem, answers))
            scores.append(Score(answers, verdicts, tuple(likelihoods[position:stop])))
            position = stop
        return scores

    def _ask_some(
        self,
        asked: Sequence[Asked],
        bank: AdapterBank | None,
        tell: Callable[[int], None],
        stop: Event,
    ) -> tuple[list[float], list[str]]:
        """Some of the questions, as many at once as the token budget allows."""
        likelihoods: list[float] = []
        texts: list[str] = []
        sizes = [len(a.prompt) + a.room for a in asked]
        for part in _within(sizes, ASKING * self.tokens_per_pass):
            if stop.is_set():
                break
            some = asked[part.start : part.stop]
            new_likelihoods, new_texts = self._answers(some, bank)
            likelihoods += new_likelihoods
            texts += new_texts
            tell(len(some))
        return likelihoods, texts

    def question_tokens(self, question: Question, owner: int) -> Asked:
        """A question as the learner reads it."""
        learner, task = self.learner, self.task
        text = render_question(task.question_prompt(question), learner.tokenizer, self.config.chat)
        gold = learner.encode_answer(task.answer_prefix + question.answer) or learner.end_ids
        room = max(len(gold), task.answer_tokens)
        prompt = learner.encode_prompt(text, self.config.chat)
        return Asked(prompt[-max(learner.max_length - room, 1) :], gold, room, owner)

    def _answers(
        self, asked: Sequence[Asked], bank: AdapterBank | None
    ) -> tuple[list[float], list[str]]:
        """Log-likelihoods of the gold answers, and the learner's own answers."""
        prompts, owners = [a.prompt for a in asked], [a.owner for a in asked]
        likelihoods = self.learner.score(prompts, [a.gold for a in asked], owners, bank)
        sampling = Sampling(self.task.answer_tokens, stop_at_newline=True)
        found = self.learner.generate(prompts, sampling, owners, bank)
        return likelihoods, [
            self.learner.decode(ids).strip().split("\n")[0].strip() for ids in found
        ]


class Asked(NamedTuple):
    """A question in tokens."""

    prompt: list[int]
    """What the learner reads."""
    gold: list[int]
    """The right answer."""
    room: int
    """Tokens that an answer may take."""
    owner: int
    """The adapter that answers."""


def _within(sizes: Sequence[int], budget: int) -> Iterable[range]:
    """Splits items into runs whose sizes add up to at most the budget, or that are single."""
    start, used = 0, 0
    for index, size in enumerate(sizes):
        if index > start and used + size > budget:
            yield range(start, index)
            start, used = index, 0
        used += size
    if start < len(sizes):
        yield range(start, len(sizes))
