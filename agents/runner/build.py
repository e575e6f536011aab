"""Construction of agents: by name, from a run folder, or from a user's own module."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from seal_agents import AGENTS
from seal_agents.base import Agent, AgentContext, AgentOptions, Progress
from seal_agents.policies.options import ADAPTER, PolicyOptions
from seal_agents.renamed import updated
from seal_agents.run_folder import RunFolder
from seal_agents.runner.configs import TrainConfig
from seal_env.config import EnvConfig, InnerLoopConfig
from seal_env.errors import UserError


@dataclass(frozen=True)
class Built:
    """An agent and, if a run trained it, the learner of that run."""

    agent: Agent
    """The agent."""
    follows: str | None = None
    """Folder of the adapter of the learner that followed it in training; None if none did."""


def parted(name: str) -> tuple[str, str]:
    """An agent's name, split at its colon, as in ``edits:gpt4_1``.

    The colon of a user's own ``package.module:Name`` is part of the name.
    """
    head, _, argument = name.partition(":")
    return (head, argument) if head in AGENTS else (name, "")


def agent_class(name: str) -> type[Agent]:
    """The class behind an agent's name.

    Raises:
        UserError: There is none, or it is no agent, or an incomplete one.
    """
    kind = AGENTS.load(parted(name)[0])
    if not (isinstance(kind, type) and issubclass(kind, Agent)):
        raise UserError(f"agent {name!r} is not a subclass of seal_agents.Agent")
    if missing := sorted(kind.__abstractmethods__):
        raise UserError(f"agent {name!r} has no method {', '.join(missing)}; define it")
    _check_options(name, kind.Options)
    return kind


def _check_options(name: str, options: Any) -> None:
    """Checks an agent's `Options`, which may be a user's own."""
    known = isinstance(options, type) and issubclass(options, AgentOptions)
    if not known or "__dataclass_fields__" not in vars(options):
        raise UserError(
            f"agent {name!r}: its Options must be a frozen dataclass derived from "
            f"seal_agents.base.AgentOptions"
        )
    for f in fields(options):
        if f.init and f.default is MISSING and f.default_factory is MISSING:
            raise UserError(f"agent {name!r}: {f.name} of its Options needs a default")


def build(name: str, env: EnvConfig, seed: int, progress: Progress, options: AgentOptions) -> Built:
    """Constructs an agent by name, or by the folder of the run that trained it.

    Args:
        name: Name, run folder or "package.module:Name".
        env: The environment's settings.
        seed: The run's seed.
        progress: Progress callback.
        options: Options of the trained agent; `base` shares those of `PolicyOptions`.

    Raises:
        UserError: There is no such agent, or it cannot be used here.
    """
    if parted(name)[0] in AGENTS:
        shared = {}
        if agent_class(name).Options is PolicyOptions and isinstance(options, PolicyOptions):
            shared = {f.name: getattr(options, f.name) for f in fields(PolicyOptions)}
        return Built(make(name, env, seed, progress, shared))
    if name and Path(name).is_dir():
        return _trained(Path(name), env, seed, progress)
    if ":" not in name:
        raise UserError(
            f"policy {name!r}: neither a folder of a trained run nor an agent; "
            f"{AGENTS.advice(name)}"
        )
    return Built(make(name, env, seed, progress))


def _trained(folder: Path, env: EnvConfig, seed: int, progress: Progress) -> Built:
    """The agent of a training run at its last checkpoint."""
    run = RunFolder.existing(folder)
    config = run.read_json("config.json")
    if config["command"] != "train":
        raise UserError(
            f"policy {str(folder)!r}: a run of seal-env {config['command']} trained nothing"
        )
    if not run.rounds_done():
        raise UserError(f"policy {str(folder)!r}: the run has no checkpoint yet")
    model = str(config["env"]["model"])
    if model != env.model and Path(model).resolve() != Path(env.model).resolve():
        raise UserError(
            f"policy {str(folder)!r}: was trained on --model {model}, and this is {env.model}"
        )
    agent = make(config["agent"], env, seed, progress, config["options"])
    checkpoint = run.checkpoint(run.rounds_done())
    load(agent, checkpoint)
    followed = config["learner"] == "follow" and (checkpoint / ADAPTER).is_dir()
    return Built(agent, str(checkpoint / ADAPTER) if followed else None)


def make(
    name: str,
    env: EnvConfig,
    seed: int,
    progress: Progress,
    options: Mapping[str, Any] | None = None,
) -> Agent:
    """Constructs an agent with options as of `asdict`."""
    kind, (head, argument) = agent_class(name), parted(name)
    if argument and not kind.takes:
        raise UserError(f"agent {name!r}: {head} takes nothing behind a colon; leave it out")
    chosen = restored(kind.Options, options or {})
    context = AgentContext(env, seed, argument, chosen, progress)
    try:
        inspect.signature(kind).bind(context)
    except TypeError:
        raise UserError(
            f"agent {name!r}: its constructor takes an AgentContext and nothing else: "
            f"def __init__(self, context)"
        ) from None
    return kind(context)


def load(agent: Agent, checkpoint: Path) -> None:
    """Loads a checkpoint, unless the agent saved nothing."""
    if any(checkpoint.iterdir()):
        agent.load(checkpoint)


def restored(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """A dataclass instance from what `asdict` made of it in this or an earlier version.

    Raises:
        UserError: The values do not fit.
    """
    default = kind()
    known = {}
    for name, value in updated(values, asdict(default)).items():
        inner = getattr(default, name, None)
        known[name] = (
            restored(type(inner), value)
            if is_dataclass(inner) and isinstance(value, Mapping)
            else tuple(value)
            if isinstance(value, list)
            else value
        )
    try:
        return kind(**known)
    except TypeError as error:
        raise UserError(f"settings do not fit {kind.__name__}: {error}") from error


def trained_with(run: RunFolder) -> TrainConfig:
    """The settings of a training run, without the agent's options.

    Raises:
        UserError: It is no training run, or has no checkpoint yet.
    """
    from seal_env.env import make_config  # here: it imports torch

    known = run.read_json("config.json") or {"command": None}
    if known["command"] != "train" or not run.rounds_done():
        raise UserError(f"--run {run.path}: trained nothing; give the run of a trained agent")
    known = updated(known, asdict(TrainConfig()))
    env = dict(known["env"])
    env["inner"] = restored(InnerLoopConfig, env["inner"])
    names = {f.name for f in fields(TrainConfig)} - {"env", "options", "out", "references"}
    settings = {name: known[name] for name in names & set(known)}
    return TrainConfig(env=make_config(env), **settings)
