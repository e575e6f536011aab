"""Episodes, K side by side: the common part of `SelfEditEnv` and `SelfEditVectorEnv`.

An episode is a stream of `horizon` problems. At each step the policy reads a problem and writes a
self-edit, or None for the no-op; the inner loop carries it out on the learner's adapter, which
persists until the next step. An adapter belongs to one episode, so the end of an episode restores
the learner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from gymnasium.spaces import Text

from seal_env.assembly import make_learner, make_loop, make_reward
from seal_env.config import EnvConfig, make_language, make_task
from seal_env.edits.base import SelfEdit
from seal_env.engine.banks import LearnerState
from seal_env.errors import UserError, one_line
from seal_env.evaluation import Progress
from seal_env.hashing import stable_hash
from seal_env.inner_loop import EditResult, Executor, Request
from seal_env.rewards import RewardInputs
from seal_env.score import Score
from seal_env.streams import History, parse_stream
from seal_env.tasks.base import Problem, problem_at
from seal_env.updates.base import Update
from seal_env.workers.remote_loop import RemoteLoop

STATE_EXTRAS = 4
"""Number of entries of `model_state` after the hidden state: loss on the context (nats per token),
norm of the adapter, last reward, fraction of the horizon left."""
ENDLESS = 1 << 31
"""Bound on the indices of problems that are drawn from an endless split."""
NO_OP = SelfEdit(error="no-op")
"""Stands in requests to `InnerLoop.no_op`, which ignores it."""


@dataclass
class Episode:
    """One running episode."""

    problems: tuple[Problem, ...]
    """The stream."""
    seed: int
    """Inner seed, of adapters and data order."""
    step: int = 0
    """Number of finished problems."""
    state: LearnerState | None = None
    """The learner by now; None for the untouched base."""
    last_reward: float = 0.0
    """Reward of the last step; 0 before the first."""
    history: History = ()
    """Updates so far, if the stream keeps them."""
    learned: list[float] = field(default_factory=list)
    """Accuracy on each finished problem right after its step."""
    change: float = 0.0
    """Mean difference between the accuracies on earlier problems after the last step and
    `learned`, over those that were asked; 0 before the second step."""


@dataclass(frozen=True)
class Step:
    """Result of one step."""

    reward: float
    """The reward."""
    terminated: bool
    """Whether the episode's last problem is done."""
    info: dict[str, Any]
    """See `SelfEditEnv`."""


class Episodes:
    """Parts named by a config, and the episodes that use them.

    Args:
        config: The environment's settings.
        count: Number of episodes side by side.
        observe_final: Whether the learner of an episode that is over is described, too; if not,
            its hidden state and its context loss in observations are 0.
    """

    def __init__(self, config: EnvConfig, count: int, observe_final: bool = True) -> None:
        self.config, self.observe_final = config, observe_final
        self.task = make_task(config.task, config.data, config.task_options)
        self.language = make_language(config)
        self._reads_text = isinstance(self.language.action_space(), Text)
        self.reward = make_reward(config, self.task)
        if not self.task.has_questions:
            self._check_reward(f"task {config.task!r}")
        self.stream = parse_stream(config.stream, config.stream_options)
        self.use_adapter(config.adapter)
        self.running: list[Episode | None] = [None] * count

    def use_adapter(self, adapter: str | None) -> None:
        """Sets the learner to the base with a PEFT adapter merged, or for None to the base."""
        config = replace(self.config, adapter=adapter)
        learner = make_learner(config)
        self.language.bind(learner, self.task)
        self.loop = make_loop(config, self.task, self.reward, self.stream, learner)
        self._described = learner.cache.setdefault("described", {})
        self.executor: Executor = self.loop
        if config.workers:
            states = config.horizon > 1 or self.observe_final
            self.executor = RemoteLoop(config, self.loop, states)

    def draw(self, random: np.random.Generator) -> tuple[Problem, ...]:
        """Random stream of problems."""
        size = self.task.size(self.config.split)
        if size is not None and size < 1:
            raise UserError(f"split {self.config.split!r} of the data holds no problem")
        indices = random.integers(ENDLESS if size is None else size, size=self.config.horizon)
        return tuple(problem_at(self.task, self.config.split, int(i)) for i in indices)

    def resolve(self, given: Any) -> tuple[Problem, ...]:
        """Stream from a user's problem, index in the split, or list of these."""
        if isinstance(given, np.ndarray):
            given = given.tolist()
        items = given if isinstance(given, list | tuple) else [given]
        if len(items) != self.config.horizon:
            raise UserError(
                f"options['problems']: got {len(items)} for an episode, the horizon is "
                f"{self.config.horizon}; give one problem a step"
            )
        resolved = []
        for item in items:
            if isinstance(item, int | np.integer) and not isinstance(item, bool):
                item = problem_at(self.task, self.config.split, int(item))
            if not isinstance(item, Problem):
                raise UserError(
                    f"options['problems']: {type(item).__name__} is neither a Problem nor an index"
                )
            if not item.questions:
                self._check_reward(f"options['problems']: problem {item.id!r}")
            resolved.append(item)
        return tuple(resolved)

    def _check_reward(self, what: str) -> None:
        """Checks that no term of the reward needs questions.

        Args:
            what: What has none, for the message.

        Raises:
            UserError: A term does.
        """
        needing = self.reward.needing_questions
        if needing:
            raise UserError(
                f"{what} has no questions, which the reward's {', '.join(needing)} needs; "
                f"reward without labels, such as cloze or self_questions"
            )

    def begin(self, slot: int, problems: tuple[Problem, ...], seed: int) -> None:
        """Starts an episode in a slot, on the untouched learner."""
        self.running[slot] = Episode(problems, seed)

    def reset_info(self, slot: int) -> dict[str, Any]:
        """Info of `reset` for a new episode."""
        problem = self._episode(slot).problems[0]
        return {"problem": problem.id, "title": problem.title}

    def observe(self, slots: Sequence[int]) -> list[dict[str, Any]]:
        """Observations of some slots; see `SelfEditEnv`."""
        episodes = [self._episode(slot) for slot in slots]
        current = [e.problems[min(e.step, len(e.problems) - 1)] for e in episodes]
        nothing = np.zeros(self.loop.learner.width, dtype=np.float32), 0.0
        described = [nothing] * len(episodes)
        read = [i for i, e in enumerate(episodes) if self.observe_final or e.step < len(e.problems)]
        states = [episodes[i].state for i in read]
        for i, one in zip(read, self._describe([current[i] for i in read], states), strict=True):
            described[i] = one
        observations = []
        for episode, problem, (hidden, loss) in zip(episodes, current, described, strict=True):
            norm = 0.0 if episode.state is None else episode.state.norm()
            left = 1 - episode.step / len(episode.problems)
            state = np.concatenate([hidden, [loss, norm, episode.last_reward, left]])
            finite = np.nan_to_num(state.astype(np.float32))
            observation = {"context": self.task.reads(problem), "model_state": finite}
            if self.config.horizon > 1:
                observation["earlier"] = np.array([episode.change], dtype=np.float32)
            observations.append(observation)
        return observations

    def over(self) -> list[int]:
        """Slots whose episode is over."""
        numbered = enumerate(self.running)
        return [slot for slot, e in numbered if e is not None and e.step == len(e.problems)]

    def step(
        self,
        actions: Sequence[Any],
        progress: Progress | None = None,
        slots: Sequence[int] | None = None,
    ) -> list[Step]:
        """Carries out one self-edit per slot, all in one pass of the inner loop.

        Args:
            actions: The self-edits: any text, or elements of the language's action space. None,
                the no-op, leaves the learner unchanged.
            progress: Callback for the progress of the inner loop.
            slots: Slot of each action; None for the first ones.

        Raises:
            UserError: An action is no text where the language reads texts.
        """
        slots = range(len(actions)) if slots is None else slots
        requests, asked = [], []
        for slot, given in zip(slots, actions, strict=True):
            episode, action = self._going(slot), self._action(given, slot)
            problem = episode.problems[episode.step]
            seed = episode.seed
            edit = NO_OP if action is None else self.language.parse(action, problem)
            asked.append(self._asked(episode))
            requests.append(
                Request(
                    problem=problem,
                    edit=edit,
                    seed=seed if episode.step == 0 else stable_hash(seed, episode.step),
                    start=episode.state,
                    earlier=tuple(episode.problems[i] for i in asked[-1]),
                    text=_text(action, edit),
                    history=episode.history,
                )
            )
        results: dict[int, EditResult] = {}
        for run, acts in ((self.executor.run, True), (self.executor.no_op, False)):
            chosen = [i for i, action in enumerate(actions) if (action is not None) == acts]
            if chosen:
                done = run([requests[i] for i in chosen], progress)
                results.update(zip(chosen, done, strict=True))
        return [
            self._finish(self._episode(slot), actions[i], requests[i], results[i], asked[i])
            for i, slot in enumerate(slots)
        ]

    def _asked(self, episode: Episode) -> list[int]:
        """Indices of the earlier problems to ask about at an episode's step, ascending."""
        step, probe = episode.step, self.config.probe
        if probe is None or probe >= step or step + 1 == len(episode.problems):
            return list(range(step))
        random = np.random.default_rng(stable_hash("probe", episode.seed, step))
        return sorted(random.choice(step, probe, replace=False).tolist())

    def _episode(self, slot: int) -> Episode:
        episode = self.running[slot]
        if episode is None:
            raise RuntimeError("call reset before step")
        return episode

    def _going(self, slot: int) -> Episode:
        episode = self._episode(slot)
        if episode.step == len(episode.problems):
            raise RuntimeError("the episode is over: call reset before the next step")
        return episode

    def _action(self, given: Any, slot: int) -> Any:
        """Action of the right type; for a subclass of str the plain text."""
        if given is None or not self._reads_text:
            return given
        if not isinstance(given, str):
            place = f" of environment {slot}" if len(self.running) > 1 else ""
            raise UserError(f"the self-edit{place} must be a str, not {type(given).__name__}")
        return str.__str__(given)

    def _finish(
        self,
        episode: Episode,
        action: Any,
        request: Request,
        result: EditResult,
        asked: Sequence[int],
    ) -> Step:
        context, step = self.task.reads(request.problem), episode.step
        value = self.reward(reward_inputs(context, request, result, step))
        reward = value.reward
        if action is not None and result.error is not None:
            reward -= self.config.invalid_penalty
        episode.state, episode.history = result.state, result.history
        episode.last_reward = reward
        episode.step += 1
        info = _info(request.problem, request.edit.update, result)
        idle = self.reward(_idle_inputs(context, request, result, step))
        if self.config.horizon > 1:
            episode.learned.append(result.after.accuracy)
            now = [after.accuracy for _, after in result.earlier]
            changes = [a - episode.learned[i] for i, a in zip(asked, now, strict=True)]
            # Without questions there are no accuracies.
            episode.change = sum(changes) / len(changes) if changes and now[0] == now[0] else 0.0
            info["stream"] = {
                "earlier": list(asked),
                "accuracy": now,
                "accuracy_before": [before.accuracy for before, _ in result.earlier],
                "rolled_back": result.rolled_back,
            }
        info |= {"terms": value.terms, "reward_before": idle.reward}
        if value.parts:
            info["parts"] = value.parts
        if action is None or isinstance(action, str):
            info["text"] = None if action is None else str.__str__(action)
        return Step(reward, episode.step == len(episode.problems), info)

    def _describe(
        self, problems: Sequence[Problem], states: Sequence[LearnerState | None]
    ) -> list[tuple[np.ndarray, float]]:
        """Mean hidden state and loss of each context, cached for the untouched learner."""
        read = [self.task.reads(problem) for problem in problems]
        first = {text: i for i, text in reversed(list(enumerate(read))) if states[i] is None}
        wanted = [
            i
            for i, (text, state) in enumerate(zip(read, states, strict=True))
            if state is not None or (text not in self._described and first[text] == i)
        ]
        fresh: dict[int, tuple[np.ndarray, float]] = {}
        if wanted:
            learner = self.loop.learner
            texts = [learner.renderer.reading(read[i]) for i in wanted]
            bank = self.loop.bank_of([states[i] for i in wanted])
            hidden, losses = learner.describe(texts, list(range(len(wanted))), bank)
            fresh = dict(zip(wanted, zip(hidden, losses, strict=True), strict=True))
            for i in wanted:
                if states[i] is None:
                    self._described[read[i]] = fresh[i]
        return [fresh[i] if i in fresh else self._described[t] for i, t in enumerate(read)]


def _text(action: Any, edit: SelfEdit) -> str:
    """A self-edit as a text: what was written, or a summary of what is no text."""
    if isinstance(action, str):
        return action
    return "" if edit.update is None else edit.update.summary()


def reward_inputs(
    context: str, request: Request, result: EditResult, step: int | None = None
) -> RewardInputs:
    """Measurements of an update, for its reward."""
    return RewardInputs(
        before=result.before,
        after=result.after,
        earlier=result.earlier,
        earlier_problems=step,
        questions=request.problem.questions,
        context=context,
        text=request.text,
        trained_tokens=result.trained.tokens if result.trained and not result.error else 0,
        probed={probe: measured.after for probe, measured in result.probed.items()},
    )


def _idle_inputs(context: str, request: Request, result: EditResult, step: int) -> RewardInputs:
    """Measurements had nothing been changed."""
    return RewardInputs(
        before=result.before,
        after=result.before,
        earlier=tuple((score, score) for score, _ in result.earlier),
        earlier_problems=step,
        questions=request.problem.questions,
        context=context,
        probed={probe: measured.before for probe, measured in result.probed.items()},
    )


def _info(problem: Problem, update: Update[Any] | None, result: EditResult) -> dict[str, Any]:
    """Info of a result, as new plain objects."""
    trained = result.trained
    return {
        "problem": problem.id,
        "title": problem.title,
        **_scored(result.after, ""),
        **_scored(result.before, "_before"),
        "sequences": [] if update is None else list(update.texts()),
        "parsed": "" if update is None else update.summary(),
        "truncated_edit": result.truncated,
        "truncated_prompt": result.truncated_prompt,
        "error": one_line(result.error or ""),
        "steps": trained.steps if trained else 0,
        "tokens": trained.tokens if trained else 0,
        "train_loss": trained.loss if trained and math.isfinite(trained.loss) else 0.0,
    }


def _scored(score: Score, suffix: str) -> dict[str, Any]:
    asked = bool(score.answers)
    return {
        f"accuracy{suffix}": score.accuracy if asked else None,
        f"log_likelihood{suffix}": score.log_likelihood if asked else None,
        f"answers{suffix}": list(score.answers),
        f"verdicts{suffix}": list(score.verdicts),
    }
