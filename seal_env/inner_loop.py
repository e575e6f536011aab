"""The inner loop: (problem, self-edit) pairs in, results out, all in one pass.

Carries self-edits out on the learner (SEAL, arXiv 2506.10943, section 3.1): asks the held-out
questions without the context, updates the learner as each self-edit says (`seal_env.updates`),
asks again, and grades the answers. This is the only place where a learner changes, and it changes
in states beside the base alone: the base is never written to, so there is nothing to restore. Of
what kind an update is, nothing here knows.
"""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from re import Pattern
from typing import Any, Protocol

import torch

from seal_env.config import InnerLoopConfig
from seal_env.content_keys import problem_key
from seal_env.edits.base import SelfEdit
from seal_env.engine.banks import Bank, LearnerState
from seal_env.engine.capacity import STATES, check_fits, max_adapters_per_batch, token_budget
from seal_env.engine.learner import Learner
from seal_env.engine.lora import find_targets
from seal_env.engine.mixed_bank import bank_of
from seal_env.engine.training import TrainStats
from seal_env.evaluation import Evaluator, Progress
from seal_env.probes.base import Probe, ProbeContext, Probed, Subject
from seal_env.score import Score
from seal_env.streams.base import History, Stream, StreamStep
from seal_env.streams.continued import Continue
from seal_env.tasks.base import Problem, Task
from seal_env.updates.base import PreparedUpdate, Update, UpdateContext, UpdateResult

ASKING = 16
"""So many times the tokens of a training pass are read at once in asking, which keeps nothing for
a backward pass."""
HELD = 2
"""So many times a learner's frozen state is in memory: by itself, and stacked with the others'."""
DIVERGED = "training diverged: the loss or the weights became infinite or NaN"


@dataclass(frozen=True)
class Request:
    """One self-edit to carry out."""

    problem: Problem
    """What is asked afterwards."""
    edit: SelfEdit
    """How the learner changes."""
    seed: int
    """Fixes the adapter's initial weights and the data order, and nothing else does."""
    start: LearnerState | None = None
    """The learner before it (a stream); None for the untouched base."""
    earlier: tuple[Problem, ...] = ()
    """Further problems to ask about, before and after."""
    text: str = ""
    """The self-edit as a text, for probes that read it."""
    history: History = ()
    """Updates of the stream so far, if the loop's stream keeps them (`EditResult.history`)."""


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
    state: LearnerState | None
    """The learner after it, None for the untouched base; `Request.start` if nothing was changed."""
    truncated: bool
    """Whether a cap cut something off the self-edit."""
    error: str | None
    """Why nothing was changed, in one line; None if something was."""
    truncated_prompt: int = 0
    """Tokens that were cut out of the middle of a question's prompt, the most of any question."""
    probed: Mapping[Probe[Any], Probed[Any]] = field(default_factory=dict)
    """Measurements of the loop's probes."""
    history: History = ()
    """That of the request, and this update if it changed the learner and the stream keeps it."""
    rolled_back: str = ""
    """Why the stream took the update back, in one line; empty if it did not."""


@dataclass(frozen=True)
class PreparedRequest:
    """A request whose update is ready to be carried out."""

    request: Request
    """The request."""
    update: PreparedUpdate[Any] | None
    """Its update, as the stream carries it out; None if there is an error."""
    truncated: bool
    """Whether a cap cut something off the self-edit."""
    error: str | None
    """Why it cannot be carried out, in one line; None if it can."""
    step: StreamStep | None = None
    """Its update as the self-edit asks for it; None if there is an error."""


class Executor(Protocol):
    """Whatever turns requests into results: `InnerLoop` here, or workers (`seal_env.workers`)."""

    def run(
        self, requests: Sequence[Request], progress: Progress | None = None
    ) -> list[EditResult]:
        """Results of self-edits; see `InnerLoop.run`."""

    def no_op(
        self, requests: Sequence[Request], progress: Progress | None = None
    ) -> list[EditResult]:
        """Results of doing nothing; see `InnerLoop.no_op`."""


class InnerLoop:
    """Carries self-edits out on a learner and measures what they did.

    Args:
        learner: The base model, frozen.
        task: Puts the questions and grades the answers.
        config: How.
        baselines: What the untouched learner scored, by `problem_key`, as far as it is known;
            added to.
        probes: What is measured of every learner beside its scores.
        measured: What probes measured of the untouched learner, as far as it is known; added to.
        stream: How a learner goes on that an earlier self-edit has changed.
    """

    def __init__(
        self,
        learner: Learner,
        task: Task,
        config: InnerLoopConfig,
        baselines: dict[Hashable, Score] | None = None,
        probes: Sequence[Probe[Any]] = (),
        measured: dict[Hashable, Any] | None = None,
        stream: Stream | None = None,
    ) -> None:
        self.learner, self.task, self.config = learner, task, config
        self.stream = Continue() if stream is None else stream
        """How a learner goes on that an earlier self-edit has changed."""
        targets = find_targets(learner.model, config.lora)
        self._baselines = {} if baselines is None else baselines
        longest = min(config.max_tokens, learner.max_length)
        tokens_per_pass = token_budget(
            learner, targets, config.lora, longest, config.tokens_per_pass
        )
        self.probes = tuple(probes)
        """What is measured of every learner beside its scores."""
        self.evaluator = Evaluator(learner, task, config.chat, ASKING * tokens_per_pass)
        """Puts the questions."""
        self.context = UpdateContext(
            learner=learner,
            task=task,
            evaluator=self.evaluator,
            targets=targets,
            lora=config.lora,
            finetune=config.finetune,
            max_tokens=config.max_tokens,
            tokens_per_pass=tokens_per_pass,
            masks=self._masks,
        )
        """What updates are carried out with."""
        self._probing = ProbeContext(
            learner=learner,
            task=task,
            evaluator=self.evaluator,
            baselines=self.baselines,
            measured={} if measured is None else measured,
        )
        for probe in self.probes:
            probe.prepare(self._probing)
        self._most: int | None = None  # learners side by side, after memory ran out with more

    def run(
        self, requests: Sequence[Request], progress: Progress | None = None
    ) -> list[EditResult]:
        """Carries out any number of self-edits.

        What comes of one does not depend on the others, on their number or on their order. Where a
        device that others use, too, runs out of memory, fewer are carried out side by side.

        Args:
            requests: What to do.
            progress: Told about training and asking.

        Raises:
            torch.OutOfMemoryError: Memory does not even do for one.
        """
        self.baselines([r.problem for r in requests if r.start is None], progress)
        prepared = [self.prepare(request) for request in requests]
        count = self._fitting([p.update for p in prepared if p.update is not None])
        results: list[EditResult] = []
        while len(results) < len(prepared):
            count = min(count, self._most or count)
            some = prepared[len(results) : len(results) + count]
            results += self._within_memory(some, progress) or ()
        return results

    def _within_memory(
        self, prepared: Sequence[PreparedRequest], progress: Progress | None
    ) -> list[EditResult] | None:
        """Results; None if memory ran out with several, and fewer are to be tried."""
        try:
            return self._run_together(prepared, progress)
        except torch.OutOfMemoryError:
            if len(prepared) == 1:
                raise
        # After the except block: the error holds the frames, and they the tensors of the pass.
        self._most = len(prepared) // 2
        warnings.warn(
            f"out of memory with {len(prepared)} self-edits side by side; going on with "
            f"{self._most} at a time",
            stacklevel=3,
        )
        gc.collect()
        if self.learner.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def no_op(
        self, requests: Sequence[Request], progress: Progress | None = None
    ) -> list[EditResult]:
        """Asks learners as they are and changes nothing; the requests' edits are ignored.

        Args:
            requests: Problems and learners.
            progress: Told about asking.
        """
        scores: dict[int, list[Score]] = {}
        for changed in (False, True):
            chosen = [i for i, r in enumerate(requests) if (r.start is not None) == changed]
            asked = [requests[i] for i in chosen]
            bank = self.bank_of([r.start for r in asked])
            if bank is None:
                self.baselines([p for r in asked for p in (r.problem, *r.earlier)], progress)
            scores.update(zip(chosen, self._scores(asked, bank, progress), strict=True))
        results = []
        for i, request in enumerate(requests):
            score, *earlier = scores[i]
            reading = self.evaluator.tokenize(request.problem)
            results.append(
                EditResult(
                    before=score,
                    after=score,
                    earlier=tuple((one, one) for one in earlier),
                    trained=None,
                    state=request.start,
                    truncated=False,
                    error=reading.error,
                    truncated_prompt=reading.cut,
                    history=request.history,
                )
            )
        return self._probed(requests, results)

    def _masks(self, problem: Problem) -> list[Pattern[str]]:
        """What the probes hide of a problem from training; see `Probe.masks`."""
        return [mask for probe in self.probes for mask in probe.masks(problem)]

    def _probed(
        self, requests: Sequence[Request], results: Sequence[EditResult]
    ) -> list[EditResult]:
        """Results with the measurements of the loop's probes."""
        subjects = [
            Subject(request.problem, request.start, result.state, request.text)
            for request, result in zip(requests, results, strict=True)
        ]
        measured: list[dict[Probe[Any], Probed[Any]]] = [{} for _ in subjects]
        for probe in self.probes:
            found = probe.measure(subjects, self._probing)
            for own, result in zip(measured, found, strict=True):
                own[probe] = result
        return [replace(r, probed=own) for r, own in zip(results, measured, strict=True)]

    def _fitting(self, updates: Sequence[PreparedUpdate[Any]]) -> int:
        """Learners that may be updated side by side; memory bounds them.

        Raises:
            UserError: A training sequence does not fit into memory.
        """
        context = self.context
        datasets = [p.data for p in updates if p.data is not None]
        longest = max((len(e.ids) for data in datasets for e in data.examples), default=0)
        check_fits(self.learner, context.targets, context.lora, context.tokens_per_pass, longest)
        numbers = [p.update.numbers(p.start, context) for p in updates]
        numbers += [HELD * p.below.size for p in updates if p.below is not None]
        anchored = [data.anchor.state for data in datasets if data.anchor is not None]
        numbers += [HELD * state.size for state in anchored if state is not None]
        numbers.append(STATES * context.new_bank(0).size)
        return max_adapters_per_batch(self.learner.device, max(numbers))

    def baselines(
        self, problems: Sequence[Problem], progress: Progress | None = None
    ) -> list[Score]:
        """Scores of the untouched learner on problems; each is evaluated once, then cached."""
        keys = [problem_key(problem) for problem in problems]
        pairs = zip(keys, problems, strict=True)
        missing = {key: problem for key, problem in pairs if key not in self._baselines}
        if missing:
            asked = list(missing.values())
            scores = self.evaluator.evaluate(asked, [0] * len(asked), None, progress)
            self._baselines.update(zip(missing, scores, strict=True))
        return [self._baselines[key] for key in keys]

    def known_baselines(self, problems: Sequence[Problem]) -> list[Score | None]:
        """Scores of the untouched learner on problems, None where a problem is not cached."""
        return [self._baselines.get(problem_key(problem)) for problem in problems]

    def add_baselines(self, problems: Sequence[Problem], scores: Sequence[Score | None]) -> None:
        """Adds scores of the untouched learner to the cache, as far as they are given."""
        for problem, score in zip(problems, scores, strict=True):
            if score is not None:
                self._baselines.setdefault(problem_key(problem), score)

    def bank_of(self, states: Sequence[LearnerState | None]) -> Bank | None:
        """A bank with which learners answer (None: the base); None if all are the base."""
        return bank_of(states, self.learner.model)

    def prepare(self, request: Request) -> PreparedRequest:
        """Makes a request ready to be carried out: checks, and training data in tokens."""
        edit, update = request.edit, request.edit.update
        error = edit.error or self.evaluator.tokenize(request.problem).error
        if update is not None and error is None:
            error = self.stream.refusal(update, request.start)
        if update is None or error is not None:
            return PreparedRequest(request, None, False, error)
        own = update.prepare(request.problem, request.seed, request.start, self.context)
        truncated = edit.truncated or own.truncated
        if own.error is not None:
            return PreparedRequest(request, None, truncated, own.error)
        step = StreamStep(own, request.history)
        ready = self.stream.prepare(step, self.context)
        return PreparedRequest(request, ready, truncated, None, step)

    def _run_together(
        self, prepared: Sequence[PreparedRequest], progress: Progress | None
    ) -> list[EditResult]:
        requests = [p.request for p in prepared]
        before = self._scores(requests, self.bank_of([r.start for r in requests]), progress)
        updated = self._update(prepared, progress)
        after = self._after(requests, [u.state for u in updated], progress)
        finite = self._finite(requests, [u.state for u in updated], after)
        results = []
        for ready, new, first, last, good in zip(
            prepared, updated, before, after, finite, strict=True
        ):
            error = None if good or new.rolled_back else ready.error or DIVERGED
            last = last if good else first
            history = ready.request.history
            if good and self.stream.remembers:
                assert ready.step is not None
                history = (*history, ready.step.remembered())
            results.append(
                EditResult(
                    before=first[0],
                    after=last[0],
                    earlier=tuple(zip(first[1:], last[1:], strict=True)),
                    trained=new.trained,
                    state=new.state if good else ready.request.start,
                    truncated=ready.truncated,
                    error=error,
                    truncated_prompt=self.evaluator.tokenize(ready.request.problem).cut,
                    history=history,
                    rolled_back=new.rolled_back,
                )
            )
        return self._probed(requests, results)

    def _update(
        self, prepared: Sequence[PreparedRequest], progress: Progress | None
    ) -> list[UpdateResult]:
        """Carries out the updates of each kind side by side; one result per request."""
        results = [UpdateResult(None)] * len(prepared)
        kinds: dict[type[Update[Any]], dict[int, PreparedUpdate[Any]]] = {}
        for index, ready in enumerate(prepared):
            if ready.update is not None:
                kinds.setdefault(type(ready.update.update), {})[index] = ready.update
        for kind, batch in kinds.items():
            new = kind.apply_batch(list(batch.values()), self.context, progress)
            for index, result in zip(batch, new, strict=True):
                results[index] = result
        changed = {i: p.step for i, p in enumerate(prepared) if p.step and results[i].state}
        new = self.stream.conclude(
            list(changed.values()), [results[i] for i in changed], self.context
        )
        for index, result in zip(changed, new, strict=True):
            results[index] = result
        return results

    def _after(
        self,
        requests: Sequence[Request],
        states: Sequence[LearnerState | None],
        progress: Progress | None,
    ) -> list[list[Score]]:
        """Scores of the updated learners; an empty list where nothing was changed."""
        changed = [i for i, state in enumerate(states) if state is not None]
        scores: list[list[Score]] = [[] for _ in requests]
        if changed:
            bank = self.bank_of([states[i] for i in changed])
            asked = self._score_all([requests[i] for i in changed], bank, progress)
            for i, score in zip(changed, asked, strict=True):
                scores[i] = score
        return scores

    def _finite(
        self,
        requests: Sequence[Request],
        states: Sequence[LearnerState | None],
        after: Sequence[Sequence[Score]],
    ) -> list[bool]:
        """Whether each learner was changed and its numbers are finite.

        A state can be finite and yet so large that the model's numbers no longer are. Where no
        question shows it, the loss of the passage does.
        """
        likelihoods = [_likelihoods(scores) for scores in after]
        silent = [i for i, own in enumerate(likelihoods) if after[i] and not own]
        if silent:
            read = [self.task.reads(requests[i].problem) for i in silent]
            texts = [self.learner.renderer.reading(text) for text in read]
            bank = self.bank_of([states[i] for i in silent])
            _, losses = self.learner.describe(texts, range(len(silent)), bank)
            for i, loss in zip(silent, losses, strict=True):
                likelihoods[i] = [loss]
        return [
            bool(scores) and all(map(math.isfinite, own))
            for scores, own in zip(after, likelihoods, strict=True)
        ]

    def _scores(
        self, requests: Sequence[Request], bank: Bank | None, progress: Progress | None
    ) -> list[list[Score]]:
        """Scores before the update, from the cached baselines where there was none before."""
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


def _likelihoods(scores: Sequence[Score]) -> list[float]:
    return [value for score in scores for value in score.log_likelihoods]
