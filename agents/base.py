"""The interface behind which every agent stands.

A user's own agent is a class in a file of one's own, named on the command line as
``--agent package.module:Name``. It gets observations, returns self-edits, and learns from
what they were worth; running, evaluating, saving and plotting is done around it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar, cast

from seal_env.config import EnvConfig
from seal_env.engine.sampling import Completion
from seal_env.errors import UserError

Observation = Mapping[str, Any]
"""What `SelfEditEnv` observes: ``context`` (str) and ``model_state`` (float32 array)."""
Action = str | Completion | None
"""An agent's answer to an observation: a self-edit as a text alone, or as a text with the tokens
that it was sampled as; None leaves the learner as it is."""
Progress = Callable[[str, int, int], None]
"""Told a stage's name, what is done of it, and how much there is."""


@dataclass(frozen=True)
class AgentOptions:
    """An agent's own settings; each agent that has some defines a frozen dataclass of its own."""


OptionsT = TypeVar("OptionsT", bound=AgentOptions)


@dataclass(frozen=True)
class AgentContext:
    """What an agent is constructed with."""

    env: EnvConfig
    """The environment's settings: which model, which task."""
    seed: int = 0
    """Fixes everything random that the agent does."""
    argument: str = ""
    """What stood behind a colon in the agent's name, as in ``edits:gpt4_1``."""
    options: AgentOptions = AgentOptions()
    """An instance of the agent's `Options`."""
    progress: Progress = lambda stage, done, total: None
    """May be called during long work."""


@dataclass(frozen=True)
class Experience:
    """One self-edit and what it was worth."""

    observation: Observation
    """What the policy had read."""
    text: str
    """The self-edit that was carried out: what was written, unless a curriculum or a wrapper of
    the environment changed it."""
    reward: float
    """The reward."""
    info: Mapping[str, Any]
    """The step's info, see `SelfEditEnv`, and ``reward_before``: what doing nothing is rewarded."""
    group: str
    """The same for all self-edits that are compared with each other: those for one problem."""
    tokens: tuple[int, ...] | None = None
    """Token ids that the agent wrote, as in `Completion`; None where it gave a text alone."""
    log_probs: tuple[float, ...] | None = None
    """Log-probability (nats) of each of `tokens` when it was sampled, as in `Completion`."""
    ended: bool = False
    """Whether the last of `tokens` ended the text, as in `Completion`."""


class Agent(ABC, Generic[OptionsT]):
    """A policy that writes self-edits, and its learning algorithm.

    An agent with options of its own names their class twice: ``class Mine(Agent[MyOptions])`` for
    type checkers, and ``Options = MyOptions`` in its body for the command line.

    Args:
        context: Environment, seed and options.

    Raises:
        UserError: The options are of another class than `Options`.
    """

    Options: ClassVar[type[AgentOptions]] = AgentOptions
    """Class of `options`; the command line has a flag for each of its fields."""
    takes: ClassVar[str] = ""
    """What may stand behind a colon in a built-in agent's name, such as FILE; "" for nothing."""
    evaluations: int = 0
    """Inner loops that the agent has run itself; what it adds while it acts or learns is counted
    with those of the run."""

    def __init__(self, context: AgentContext) -> None:
        if not isinstance(context.options, self.Options):
            raise UserError(
                f"{type(self).__name__} takes options of type {self.Options.__name__}, "
                f"not {type(context.options).__name__}"
            )
        self.context = context
        self.options = cast("OptionsT", context.options)

    @abstractmethod
    def act(self, observations: Sequence[Observation], seeds: Sequence[int]) -> Sequence[Action]:
        """Writes one self-edit for each observation.

        Args:
            observations: What to read; the same one several times where a group is wanted.
            seeds: One an observation. Whatever is drawn at random should be drawn from it, so
                that a run that was stopped goes on as if it had not been.

        Returns:
            A text each, or a `Completion` where `learn` is to get the sampled tokens back; None
            leaves the learner as it is.
        """

    def truncated(self, observation: Observation) -> int:
        """How many tokens of an observation's context the agent has no room to read."""
        return 0

    def learn(self, experiences: Sequence[Experience]) -> Mapping[str, float]:
        """Learns from a round of experience; returns numbers worth plotting, by name."""
        return {}

    def save(self, folder: Path) -> None:
        """Writes what was learned into an empty folder, as plain data and safetensors."""
        return

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote.

        Raises:
            UserError: The folder holds nothing that this agent can use.
        """
        return
