"""The inner loop: (problem, self-edit) pairs in, outcomes out, all in one pass.

Carries self-edits out on the learner (SEAL, arXiv 2506.10943, section 3.1): finetune a fresh
LoRA adapter on each, ask the held-out questions without the context, grade the answers. This
is the only place where a learner's weights change, and they change in adapters alone: the
base is never written to, so there is nothing to restore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seal_env.adapters import AdapterBank, LoraConfig, find_targets
from seal_env.edits.base import SelfEdit
from seal_env.errors import UserError
from seal_env.finetune import Example, FinetuneConfig, Trained, finetune
from seal_env.learner import Learner, Sampling
from seal_env.prompts import render_question
from seal_env.rewards.base import Score
from seal_env.tasks.base import Problem, Task

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
    tokens_per_pass: int = 32768
    """Bound on the tokens that are in memory at once; more self-edits take several passes."""
    chat: bool | None = None
    """Whether questions are put as chat turns; None: if the tokenizer has a chat template."""

    def __post_init__(self) -> None:
        if self.max_tokens < 2 or self.tokens_per_pass < 2:
            raise UserError("max_tokens and tokens_per_pass must be at least 2")


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
    """

    def __init__(self, learner: Learner, task: Task, config: InnerLoopConfig) -> None:
        self.learner, self.task, self.config = learner, task, config
        self.targets = find_targets(learner.model, config.lora)
        self._baselines: dict[str, Score] = {}

    def run(
        self, requests: Sequence[Request], progress: Progress | None = None
    ) -> list[Outcome]:
        """Carries out any number of self-edits.

        What comes of one does not depend on the others, on their number or on their order.

        Args:
            requests: What to do.
            progress: Told about training and asking.
        """
        self.baselines([r.problem for r in requests if r.start is None], progress)
        prepared = [(request, *self._examples(request)) for request in requests]
        outcomes: list[Outcome] = []
        for chunk in _chunks(prepared, self.config.tokens_per_pass):
            outcomes += self._run_together(chunk, progress)
        return outcomes

    def baselines(
        self, problems: Iterable[Problem], progress: Progress | None = None
    ) -> list[Score]:
        """How the untouched learner does on problems; asked once a problem, then kept."""
        wanted = {p.id: p for p in problems}
        missing = [p for key, p in wanted.items() if key not in self._baselines]
        for part in _parts(missing, 64):
            scores = self._ask(part, [0] * len(part), None, progress)
            self._baselines.update(zip((p.id for p in part), scores, strict=True))
        return [self._baselines[key] for key in wanted]

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
        )
        good = [bool(record.steps) and not record.failed for record in records]
        after = self._after(requests, bank, good, progress)
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

    def _examples(self, request: Request) -> tuple[list[Example], bool, str | None]:
        """A self-edit's sequences as tokens, whether a cap cut something, and any error."""
        if request.edit.error is not None:
            return [], False, request.edit.error
        examples, left, truncated = [], self.config.max_tokens, request.edit.truncated
        end = self.learner.end_ids
        for text in request.edit.sequences:
            ids = self.learner.encode(text) + end
            room = min(left, self.learner.max_length)
            if len(ids) > room:
                ids, truncated = ids[:room], True
            if len(ids) >= 2:
                examples.append(Example(tuple(ids)))
            left -= len(ids)
            if left < 2:
                truncated |= text is not request.edit.sequences[-1]
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
            return [
                self.baselines_of([request.problem, *request.earlier]) for request in requests
            ]
        return self._score_all(requests, bank, progress)

    def baselines_of(self, problems: Sequence[Problem]) -> list[Score]:
        """`baselines`, aligned with the problems given (which may repeat)."""
        self.baselines(problems)
        return [self._baselines[p.id] for p in problems]

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
        learner = self.learner
        prompts, golds, asked_by = [], [], []
        for problem, owner in zip(problems, owners, strict=True):
            for question in problem.questions:
                text = self.task.question_prompt(question)
                text = render_question(text, learner.tokenizer, self.config.chat)
                prompts.append(learner.encode_prompt(text, self.config.chat))
                gold = learner.encode_answer(self.task.answer_prefix + question.answer)
                golds.append(gold or learner.end_ids)
                asked_by.append(owner)
        likelihoods = learner.score(prompts, golds, asked_by, bank)

        def tell(done: int) -> None:
            if progress is not None:
                progress("asking", done, len(prompts))

        sampling = Sampling(self.task.answer_tokens, stop_at_newline=True)
        texts = [
            learner.decode(ids).strip().split("\n")[0].strip()
            for ids in learner.generate(prompts, sampling, asked_by, bank, progress=tell)
        ]
        scores, position = [], 0
        for problem in problems:
            count = len(problem.questions)
            answers = tuple(texts[position : position + count])
            verdicts = tuple(self.task.grade(problem, answers))
            scores.append(Score(answers, verdicts, tuple(likelihoods[position : position + count])))
            position += count
        return scores


def _chunks(
    prepared: Sequence[tuple[Request, list[Example], bool, str | None]], budget: int
) -> Iterable[list[tuple[Request, list[Example], bool, str | None]]]:
    """Groups whose longest sequences together stay within the budget."""
    chunk: list[tuple[Request, list[Example], bool, str | None]] = []
    used = 0
    for item in prepared:
        need = max((len(e.ids) for e in item[1]), default=0)
        if chunk and used + need > budget:
            yield chunk
            chunk, used = [], 0
        chunk.append(item)
        used += need
    if chunk:
        yield chunk


def _parts(items: Sequence[Problem], size: int) -> Iterable[Sequence[Problem]]:
    return (items[i : i + size] for i in range(0, len(items), size))
