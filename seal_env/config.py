"""Settings of the environment and its inner loop: names, paths and plain data.

Nothing here imports torch, so that the command line can describe its options at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from gymnasium.spaces import Text

from seal_env.checks import check_fields, construct
from seal_env.edits import EDITS, EditLanguage
from seal_env.engine.config import FinetuneConfig, LoraConfig
from seal_env.errors import UserError
from seal_env.tasks import TASKS, Task

LONGEST_EPISODE = 1 << 20
"""Bound on the problems of an episode."""
MOST_WORKERS = 4096
"""Bound on the workers."""
LONGEST_TIMEOUT = 86_400
"""Bound on the timeout of a worker, in seconds."""


@dataclass(frozen=True)
class InnerLoopConfig:
    """Settings of the inner loop. The defaults are SEAL's."""

    lora: LoraConfig = field(default_factory=LoraConfig)
    """The adapter."""
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    """The optimizer."""
    max_tokens: int = 8192
    """Most tokens of one self-edit, over all its sequences; the rest is cut off."""
    tokens_per_pass: int | None = None
    """Bound on the tokens that go through the model at once; None for as many as are quick and
    fit into the memory that is free (`seal_env.engine.capacity`)."""
    chat: bool | None = None
    """Whether questions are put as chat turns; None: if the tokenizer has a chat template."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_tokens < 2:
            raise UserError(f"max_tokens {self.max_tokens}: must be at least 2")


@dataclass(frozen=True)
class EnvConfig:
    """Everything that `gym.make("SelfEdit-v0", ...)` takes; names, paths and plain data."""

    task: str = "biographies"
    """Where problems come from: a name in `seal_env.tasks.TASKS`, or "package.module:Name"."""
    model: str = "tiny"
    """The learner: "tiny", a folder, a .gguf file, or a name on the Hugging Face hub."""
    edit: str = "training-data"
    """The self-edit language: a name in `seal_env.edits.EDITS`, or "package.module:Name"."""
    reward: str = "accuracy"
    """A weighted sum of terms of `seal_env.rewards.REWARDS`, e.g. "accuracy + 0.3 *
    log_likelihood". In a stream `retention` is added unless it is named (as 0 * retention)."""
    horizon: int = 1
    """Problems in an episode; the learner keeps what it learned from one to the next."""
    stream: str = "continue"
    """How the learner goes on from problem to problem: a name in `seal_env.streams.STREAMS`, or
    "package.module:Name", and what is added to it, e.g. "merge + gate"."""
    stream_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Keyword arguments of the stream's parts, by name, e.g. {"gate": {"epsilon": 0.05}}."""
    probe: int | None = None
    """Earlier problems of the episode to ask about at a step, drawn anew each time; at the last
    step all are. None: all at every step, which takes time quadratic in the horizon."""
    split: str = "train"
    """Which of the task's splits problems are drawn from."""
    data: str | None = None
    """A file or data set for tasks that read one."""
    task_options: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the task."""
    edit_options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the self-edit language."""
    reward_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Keyword arguments of the reward's terms by the names that the reward has for them, e.g.
    {"shift": {"margin": 0.5}}."""
    inner: InnerLoopConfig | None = None
    """How self-edits are carried out; None for what suits the model (`seal_env.presets`)."""
    adapter: str | None = None
    """Folder of a PEFT adapter that the learner starts from, merged into its weights."""
    invalid_penalty: float = 1.0
    """A self-edit that cannot be carried out is rewarded like doing nothing, less this."""
    trust_remote_code: bool = False
    """Whether a model may bring Python code of its own, which is then run."""
    dtype: str = "auto"
    """Precision of the frozen weights: float32, bfloat16, or auto: on a CPU the quicker one."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""
    workers: int = 0
    """Ray actors that carry self-edits out, each on a GPU where there are any; 0 for this process.
    Rewards are the same to the bit."""
    ray_address: str | None = None
    """Ray cluster of the workers, such as auto or HOST:PORT; None for a Ray on this machine."""
    worker_timeout: float = 600.0
    """Seconds without progress after which a worker is replaced."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 1 <= self.horizon <= LONGEST_EPISODE:
            raise UserError(
                f"horizon {self.horizon}: an episode has at least 1 problem, at most "
                f"{LONGEST_EPISODE}"
            )
        if self.probe is not None and self.probe < 0:
            raise UserError(f"probe {self.probe}: a number of problems, at least 0")
        if not math.isfinite(self.invalid_penalty) or self.invalid_penalty < 0:
            raise UserError(f"invalid_penalty {self.invalid_penalty}: must be finite and not < 0")
        if not 0 <= self.workers <= MOST_WORKERS:
            raise UserError(f"workers {self.workers}: from 0 to {MOST_WORKERS}")
        if self.ray_address is not None and not self.workers:
            raise UserError(f"ray_address {self.ray_address!r}: say how many workers, too")
        if not 0 < self.worker_timeout <= LONGEST_TIMEOUT:
            raise UserError(
                f"worker_timeout {self.worker_timeout}: seconds, above 0 and at most "
                f"{LONGEST_TIMEOUT}"
            )

    def kwargs(self) -> dict[str, Any]:
        """The settings as keyword arguments: ``gym.make("SelfEdit-v0", **config.kwargs())``.

        Names, paths and plain data, so that the environment's spec can be copied, pickled and
        written as JSON.
        """
        return {one.name: getattr(self, one.name) for one in fields(self)}


def make_task(name: str, data: str | None = None, options: Mapping[str, Any] | None = None) -> Task:
    """Constructs a task by name.

    Raises:
        UserError: There is no such task, or it does not take these options.
    """
    given = dict(options or {}) | ({} if data is None else {"data": data})
    task: Task = _construct(TASKS.load(name), Task, "task", name, given)
    return task


def make_language(config: EnvConfig) -> EditLanguage:
    """Constructs the self-edit language that a config names; it is not bound to a model yet.

    Raises:
        UserError: There is no such language, or it does not take these options.
    """
    kind = EDITS.load(config.edit)
    language: EditLanguage = _construct(
        kind, EditLanguage, "self-edit language", config.edit, config.edit_options
    )
    return language


def default_prompt(task: Task, language: EditLanguage) -> str:
    """Name of the prompt by which a policy is asked for self-edits in a language."""
    return language.default_prompt or task.default_prompt


def takes_text(language: EditLanguage) -> bool:
    """Whether a language model can be asked for self-edits: they are texts, or a prompt says how.

    A language of vectors, such as `subspace`, reads texts too, but no usual prompt asks for such.
    """
    return isinstance(language.action_space(), Text) or language.default_prompt is not None


def _construct(kind: Any, base: type[Any], what: str, name: str, options: Mapping[str, Any]) -> Any:
    if not callable(kind):
        raise UserError(f"{what} {name!r}: is no class; name a subclass of {base.__name__}")
    part = construct(kind, options, f"{what} {name!r}")
    if not isinstance(part, base):
        raise UserError(f"{what} {name!r}: {type(part).__name__} is no subclass of {base.__name__}")
    return part
