"""Interface of agents.

An agent maps observations to self-edits and learns from their rewards; rollouts, evaluation,
checkpoints and plots are the runner's. An agent of your own is a class in your own module, named on
the command line as ``--agent package.module:Name``.
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
"""Observation of `SelfEditEnv`: ``context`` (str) and ``model_state`` (float32 array)."""
Action = str | Completion | None
"""An agent's answer to an observation: a self-edit as a text alone, or as a text with the tokens
that it was sampled as; None leaves the learner as it is."""
Progress = Callable[[str, int, int], None]
"""Progress callback: name of a stage, items done, items in all."""


@dataclass(frozen=True)
class AgentOptions:
    """Base class of agents' options: frozen dataclasses, one per agent that has options."""


OptionsT = TypeVar("OptionsT", bound=AgentOptions)


@dataclass(frozen=True)
class AgentContext:
    """Constructor argument of agents."""

    env: EnvConfig
    """The environment's settings, model and task among them."""
    seed: int = 0
    """Seed of everything random in the agent."""
    argument: str = ""
    """Text after the colon in the agent's name, as in ``edits:gpt4_1``; "" without a colon."""
    options: AgentOptions | None = None
    """An instance of the agent's `Options`; None for the defaults."""
    progress: Progress = lambda stage, done, total: None
    """Progress callback for long work."""


@dataclass(frozen=True)
class Experience:
    """One self-edit and its reward."""

    observation: Observation
    """The observation that was acted on."""
    text: str
    """The self-edit that was carried out: what was written, unless a curriculum or a wrapper of
    the environment changed it."""
    reward: float
    """The environment's reward."""
    info: Mapping[str, Any]
    """The step's info, see `SelfEditEnv`, and ``reward_before``, the reward without a self-edit."""
    group: str
    """Id of the group whose self-edits are compared with each other: those for one problem."""
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
    """Placeholder of the text after a colon in a built-in agent's name, as FILE; "" for none."""
    on_policy: ClassVar[bool] = False
    """Whether `learn` takes self-edits as samples of the policy: then a choice among them, as
    ``--screen`` makes, biases what is learned."""
    evaluations: int = 0
    """Inner loops that the agent has run itself; what it adds while it acts or learns is counted
    with those of the run."""

    def __init__(self, context: AgentContext) -> None:
        options = self.Options() if context.options is None else context.options
        if not isinstance(options, self.Options):
            raise UserError(
                f"{type(self).__name__} takes options of type {self.Options.__name__}, "
                f"not {type(options).__name__}"
            )
        self.context = context
        self.options = cast("OptionsT", options)

    @abstractmethod
    def act(self, observations: Sequence[Observation], seeds: Sequence[int]) -> Sequence[Action]:
        """Returns one self-edit per observation.

        Args:
            observations: Observations, n of them; equal ones form a group.
            seeds: One seed per observation. Draw everything random from it, so that a resumed
                run equals an uninterrupted one.

        Returns:
            One text per observation, or a `Completion` if `learn` is to get the sampled tokens
            back; None leaves the learner as it is.
        """

    def truncated(self, observation: Observation) -> int:
        """Number of tokens of an observation's context that exceed the agent's input length."""
        return 0

    def learn(self, experiences: Sequence[Experience]) -> Mapping[str, float]:
        """Updates the policy on the experience of one round; returns metrics by name."""
        return {}

    def save(self, folder: Path) -> None:
        """Writes the agent's state into an empty folder, as plain data and safetensors."""
        return

    def load(self, folder: Path) -> None:
        """Reads the state that `save` wrote.

        Raises:
            UserError: The folder holds no state of this agent.
        """
        return
