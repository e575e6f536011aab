"""The inner loop: (problem, self-edit) pairs in, outcomes out, all in one pass.

Carries self-edits out on the learner (SEAL, arXiv 2506.10943, section 3.1): finetune a fresh
LoRA adapter on each, or change the weights as it says, ask the held-out questions without the
context, grade the answers. This is the only place where a learner's weights change, and they
change in adapters and differences beside the base alone: the base is never written to, so there
is nothing to restore.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from seal_env.config import InnerLoopConfig
from seal_env.content_keys import problem_key
from seal_env.edits.base import SelfEdit
from seal_env.engine.capacity import STATES, check_fits, max_adapters_per_batch, token_budget
from seal_env.engine.deltas import DeltaBank, Deltas
from seal_env.engine.learner import Learner
from seal_env.engine.lora import AdapterBank, Bank, find_targets
from seal_env.engine.rendering import DoesNotFit
from seal_env.engine.subspace import Basis
from seal_env.engine.training import Dataset, Example, TrainStats, finetune
from seal_env.evaluation import Evaluator, Progress
from seal_env.score import Score
from seal_env.tasks.base import Generated, Problem, Task

ASKING = 16
"""So many times the tokens of a training pass are read at once in asking, which keeps nothing for
a backward pass."""
DIVERGED = "training diverged: the loss or the weights became infinite or NaN"
Weights = Tensor | Deltas
"""What a learner has beyond the base: an adapter's weights, shape (size,), or plain differences."""


def norm_of(weights: Weights) -> float:
    """The size of what a learner has beyond the base: the root of the sum of all squares."""
    return weights.norm() if isinstance(weights, Deltas) else float(weights.double().norm())


@dataclass(frozen=True)
class Request:
    """One self-edit to carry out."""

    problem: Problem
    """What is asked afterwards."""
    edit: SelfEdit
    """What the learner is trained on."""
    seed: int
    """Fixes the adapter's initial weights and the data order, and nothing else does."""
    start: Weights | None = None
    """What to go on from (a stream); None for the untouched learner."""
    earlier: tuple[Problem, ...] = ()
    """Further problems to ask about, before and after."""


@dataclass(frozen=True)
class EditResult:
    """What came of one self-edit."""

    before: Score
    """The learner as it was, on the problem."""
    after: Score
    """The updated learner; `before` itself if nothing was changed."""
    earlier: tuple[tuple[Score, Score], ...]
    """Before and after on each of the request's earlier problems."""
    trained: TrainStats | None
    """What the training took; None if there was none."""
    weights: Weights | None
    """What the learner has beyond the base after it; what the request started from if nothing was
    changed."""
    truncated: bool
    """Whether a cap cut something off the self-edit."""
    error: str | None
    """Why nothing was changed, in one line; None if something was."""
    truncated_prompt: int = 0
    """Tokens that were cut out of the middle of a question's prompt, the most of any question."""


@dataclass(frozen=True)
class Prepared:
    """A request in tokens."""

    request: Request
    """The request."""
    data: Dataset
    """What is trained on, and how."""
    truncated: bool
    """Whether a cap cut something off the self-edit."""
    error: str | None
    """Why it cannot be carried out, in one line; None if it can."""


class InnerLoop:
    """Carries self-edits out on a learner and measures what they did.

    Args:
        learner: The base model, frozen.
        task: Puts the questions and grades the answers.
        config: How.
        baselines: What the untouched learner scored, by `problem_key`, as far as it is known;
            added to.
    """

    def __init__(
        self,
        learner: Learner,
        task: Task,
        config: InnerLoopConfig,
        baselines: dict[Hashable, Score] | None = None,
    ) -> None:
        self.learner, self.task, self.config = learner, task, config
        self.targets = find_targets(learner.model, config.lora)
        self._baselines = {} if baselines is None else baselines
        longest = min(config.max_tokens, learner.max_length)
        self.tokens_per_pass = token_budget(
            learner, self.targets, config.lora, longest, config.tokens_per_pass
        )
        """Tokens that go through the model at once in training."""
        self.evaluator = Evaluator(learner, task, config.chat, ASKING * self.tokens_per_pass)
        """Puts the questions."""
        self._bases: dict[int, Basis] = {}

    def run(
        self, requests: Sequence[Request], progress: Progress | None = None
    ) -> list[EditResult]:
        """Carries out any number of self-edits.

        What comes of one does not depend on the others, on their number or on their order.

        Args:
            requests: What to do.
            progress: Told about training and asking.
        """
        self.baselines([r.problem for r in requests if r.start is None], progress)
        jobs = [self.prepare(request) for request in requests]
        longest = max((len(e.ids) for job in jobs for e in job.data.examples), default=0)
        check_fits(self.learner, self.targets, self.config.lora, self.tokens_per_pass, longest)
        numbers = [STATES * self.new_bank(0).size, *map(self._dense, requests)]
        together = max_adapters_per_batch(self.learner.device, max(numbers))
        outcomes: list[EditResult] = []
        for start in range(0, len(jobs), together):
            outcomes += self._run_together(jobs[start : start + together], progress)
        return outcomes

    def _dense(self, request: Request) -> int:
        """How many numbers the matrices take that a request changes as they are."""
        touched = {change.name for change in request.edit.changes}
        if isinstance(request.start, Deltas):
            touched |= set(request.start.matrices)
        sizes = (self.learner.model.get_submodule(name).weight.numel() for name in touched)
        return 2 * sum(sizes)  # differences on their own, and stacked with those of the others

    def baselines(
        self, problems: Sequence[Problem], progress: Progress | None = None
    ) -> list[Score]:
        """How the untouched learner does on problems; each is asked once, then kept."""
        keys = [problem_key(problem) for problem in problems]
        pairs = zip(keys, problems, strict=True)
        missing = {key: problem for key, problem in pairs if key not in self._baselines}
        if missing:
            asked = list(missing.values())
            scores = self.evaluator.evaluate(asked, [0] * len(asked), None, progress)
            self._baselines.update(zip(missing, scores, strict=True))
        return [self._baselines[key] for key in keys]

    def new_bank(self, count: int) -> AdapterBank:
        """Room for so many adapters of this loop's shape."""
        return AdapterBank(self.targets, self.config.lora, count, self.learner.device)

    def bank_of(self, weights: Sequence[Weights | None]) -> Bank | None:
        """Learners with given weights (None: the base); None if all are the base.

        All are adapters or all are differences, as in everything that one language makes.
        """
        if all(w is None for w in weights):
            return None
        if any(isinstance(w, Deltas) for w in weights):
            deltas = [w if isinstance(w, Deltas) else Deltas() for w in weights]
            return DeltaBank(deltas, self.learner.device)
        bank = self.new_bank(len(weights))
        for index, flat in enumerate(weights):
            if isinstance(flat, Tensor):
                bank.weights[index] = flat.to(bank.weights.device)
        return bank

    def examples(self, request: Request) -> tuple[list[Example], bool, str | None]:
        """What a self-edit trains on as tokens, whether a cap cut something, and any error."""
        edit = request.edit
        error = edit.error or self.evaluator.tokenize(request.problem).error
        if error is not None:
            return [], False, error
        texts = [Generated("", text) for text in edit.sequences]
        if edit.tools is not None:
            texts += self.task.generate(request.problem, edit.tools, request.seed)
        examples: list[Example] = []
        left, truncated = self.config.max_tokens, edit.truncated
        for position, text in enumerate(texts):
            prompt, answer = self._tokens(text)
            if len(prompt) + len(answer) > left:
                truncated = True
                if prompt and examples:  # less of it would be another example
                    break
            room = min(left, self.learner.max_length)
            if len(prompt) + len(answer) > room:
                truncated = True
                try:
                    prompt = prompt and self.evaluator.prompt_tokens(
                        text.prompt, room - len(answer)
                    )
                except DoesNotFit:
                    continue
                answer = answer[: room - len(prompt)]
            if len(prompt) + len(answer) >= 2:
                unscored = len(prompt) if edit.training.outputs_only else 0
                examples.append(Example((*prompt, *answer), unscored))
            left -= len(prompt) + len(answer)
            if left < 2:
                truncated |= position + 1 < len(texts)
                break
        if not examples and not edit.changes and not edit.coefficients:
            why = "no example fits into the model" if truncated else "the self-edit holds no text"
            return [], truncated, f"nothing to train on: {why}"
        return examples, truncated, None

    def _tokens(self, text: Generated) -> tuple[list[int], list[int]]:
        """What is read and what is learned; prompts as they are put when they are asked."""
        if not text.prompt:
            return [], self.learner.renderer.document(text.answer)
        return self.evaluator.prompt_tokens(text.prompt), self.evaluator.answer_tokens(text.answer)

    def prepare(self, request: Request) -> Prepared:
        """What a self-edit trains on, in tokens, and how."""
        examples, truncated, error = self.examples(request)
        asked = request.edit.training
        config = self.config.finetune
        if asked.learning_rate is not None:
            config = replace(config, learning_rate=asked.learning_rate)
        if asked.epochs is not None:
            config = replace(config, epochs=asked.epochs)
        data = Dataset(examples, config, request.seed, asked.layers)
        return Prepared(request, data, truncated, error)

    def _run_together(
        self, jobs: Sequence[Prepared], progress: Progress | None
    ) -> list[EditResult]:
        requests = [job.request for job in jobs]
        before = self._scores(requests, self.bank_of([r.start for r in requests]), progress)
        weights, records = self._update(jobs, progress)
        after = self._after(requests, weights, progress)
        outcomes = []
        for job, new, record, first, last in zip(
            jobs, weights, records, before, after, strict=True
        ):
            # Weights can be finite and yet so large that the model's numbers no longer are.
            good = bool(last) and all(math.isfinite(score.log_likelihood) for score in last)
            error = None if good else job.error or DIVERGED
            last = last if good else first
            outcomes.append(
                EditResult(
                    before=first[0],
                    after=last[0],
                    earlier=tuple(zip(first[1:], last[1:], strict=True)),
                    trained=record if record.steps else None,
                    weights=new if good else job.request.start,
                    truncated=job.truncated,
                    error=error,
                    truncated_prompt=self.evaluator.tokenize(job.request.problem).cut,
                )
            )
        return outcomes

    def _update(
        self, jobs: Sequence[Prepared], progress: Progress | None
    ) -> tuple[list[Weights | None], list[TrainStats]]:
        """What each learner becomes, None where nothing came of it, and how it was trained."""

        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress("training", done, total)

        bank = self.new_bank(len(jobs))
        bank.initialize([job.request.seed for job in jobs])
        for index, job in enumerate(jobs):
            start, edit = job.request.start, job.request.edit
            if isinstance(start, Tensor):
                bank.weights[index] = start.to(bank.weights.device)
            if edit.coefficients and job.error is None:
                former = start if isinstance(start, Tensor) else None
                moved = self._basis(edit.basis).weights(edit.coefficients, former)
                bank.weights[index] = moved.to(bank.weights.device)
        data = [job.data for job in jobs]
        records = finetune(self.learner, bank, data, tell, self.tokens_per_pass)
        weights: list[Weights | None] = []
        for index, (job, record) in enumerate(zip(jobs, records, strict=True)):
            edit, start = job.request.edit, job.request.start
            if edit.changes and job.error is None:
                earlier = start if isinstance(start, Deltas) else None
                weights.append(Deltas.of(self.learner.model, edit.changes, earlier))
            elif (record.steps and not record.failed) or (edit.coefficients and job.error is None):
                weights.append(bank.copy_of(index))
            else:
                weights.append(None)
        return weights, records

    def _basis(self, seed: int) -> Basis:
        if seed not in self._bases:
            self._bases[seed] = Basis(self.learner, self.targets, self.config.lora, seed)
        return self._bases[seed]

    def _after(
        self,
        requests: Sequence[Request],
        weights: Sequence[Weights | None],
        progress: Progress | None,
    ) -> list[list[Score]]:
        """Scores of the updated learners; an empty list where nothing was changed."""
        chosen = [i for i, new in enumerate(weights) if new is not None]
        scores: list[list[Score]] = [[] for _ in requests]
        if chosen:
            bank = self.bank_of([weights[i] for i in chosen])
            asked = self._score_all([requests[i] for i in chosen], bank, progress)
            for i, score in zip(chosen, asked, strict=True):
                scores[i] = score
        return scores

    def _scores(
        self, requests: Sequence[Request], bank: Bank | None, progress: Progress | None
    ) -> list[list[Score]]:
        """Scores before the update, from the kept baselines where there was none before."""
        if bank is None:
            return [self.baselines([request.problem, *request.earlier]) for request in requests]
        return self._score_all(requests, bank, progress)

    def _score_all(
        self, requests: Sequence[Request], bank: Bank | None, progress: Progress | None
    ) -> list[list[Score]]:
        problems = [p for r in requests for p in (r.problem, *r.earlier)]
        owners = [i for i, r in enumerate(requests) for _ in range(1 + len(r.earlier))]
        scores = iter(self.evaluator.evaluate(problems, owners, bank, progress))
        return [[next(scores) for _ in range(1 + len(r.earlier))] for r in requests]
