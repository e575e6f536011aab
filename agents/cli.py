"""The command line: ``seal-env train | evaluate | adapt | chat | tune | report`` and others.

A command's implementation is imported after its options are read, so that help, the version and a
mistyped flag are answered without waiting for torch.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from rich.console import Console

from seal_agents.adapt.configs import AdaptConfig, ChatConfig, suited_to
from seal_agents.parsing import did_you_mean, early, nearest, parse
from seal_agents.presets import preset
from seal_agents.runner.build import agent_class, parted
from seal_agents.runner.configs import (
    AUTO,
    CriticConfig,
    DistillConfig,
    EvaluateConfig,
    ExportConfig,
    ServeConfig,
    TrainConfig,
)
from seal_agents.runner.settings import read_pairs, read_part_pairs
from seal_agents.tuning.config import TuneConfig
from seal_env import __version__
from seal_env.checks import build
from seal_env.config import EnvConfig
from seal_env.edits import EDITS
from seal_env.errors import UserError
from seal_env.presets import ModelPreset, model_preset, read_preset
from seal_env.rewards import REWARDS
from seal_env.tasks import TASKS

Chosen = TypeVar("Chosen")

ADAPTED = "report.md"
"""The report of a folder that adapt wrote."""
PAIRS = tyro.conf.arg(metavar="[KEY=VALUE ...]")
USAGE = """\
usage: seal-env COMMAND [OPTIONS]

  train          train an agent and compare it with baselines on held-out problems
  evaluate       compare policies on the same problems
  adapt          teach a model one's own documents: an adapter, and a report on what it learned
  chat           ask an adapted model, before and after side by side
  tune           find the inner loop's settings for a model
  distill        train a small policy that chooses from a menu on a run's best self-edits
  train-critic   train a model of the reward on the self-edits of runs
  serve          serve an environment to other trainers, in OpenEnv's protocol
  export         write a run's self-edits or its policy for other libraries
  report         show a run's table and self-edits, and redraw its plots

seal-env COMMAND --help lists a command's options; seal-env --version says which this is.
"""


@dataclass(frozen=True, kw_only=True)
class PartOptions:
    """Options of the environment's parts."""

    task_options: Annotated[tuple[str, ...], PAIRS] = ()
    """Options of the task, such as split_seed=1 or, for a judge, grader=judge judge.base_url=URL
    judge.model=NAME."""
    edit_options: Annotated[tuple[str, ...], PAIRS] = ()
    """Options of the self-edit language, such as config.passage=none."""
    reward_options: Annotated[tuple[str, ...], PAIRS] = ()
    """Options of terms of the reward, such as shift.margin=0.5."""
    stream_options: Annotated[tuple[str, ...], PAIRS] = ()
    """Options of the stream's parts, such as gate.epsilon=0.05."""


@dataclass(frozen=True, kw_only=True)
class PresetOptions(PartOptions):
    """Options of the environment's parts, and the preset that gives other flags' defaults."""

    preset: str | None = None
    """Defaults of the inner loop and the reward: a file that tune wrote, or the name of one that
    comes with the package, such as seal for the paper's; None for what suits the model."""


@dataclass(frozen=True)
class TrainCommand(PresetOptions):
    """Train an agent and compare it with baselines on held-out problems."""

    config: Annotated[TrainConfig, tyro.conf.arg(name="")]
    """The run."""
    resume: bool = False
    """Resume the run in --out, if there is one."""
    overwrite: bool = False
    """Delete the run in --out, if there is one, and start a new one."""


@dataclass(frozen=True)
class EvaluateCommand(PresetOptions):
    """Compare policies on the same problems."""

    config: Annotated[EvaluateConfig, tyro.conf.arg(name="")] = field(
        default_factory=EvaluateConfig
    )
    """The run."""
    resume: bool = False
    """Resume the run in --out, if there is one."""
    overwrite: bool = False
    """Delete the run in --out, if there is one, and start a new one."""


@dataclass(frozen=True)
class TuneCommand(PartOptions):
    """Find the inner loop's settings for a model by successive halving; write a preset file."""

    config: Annotated[TuneConfig, tyro.conf.arg(name="")] = field(default_factory=TuneConfig)
    """The search."""
    resume: bool = False
    """Resume the search in --out, if there is one."""
    overwrite: bool = False
    """Delete the search in --out, if there is one, and start a new one."""


@dataclass(frozen=True)
class DistillCommand:
    """Train a small policy that chooses from a menu on a run's best self-edits; compare the two."""

    config: Annotated[DistillConfig, tyro.conf.arg(name="")] = field(default_factory=DistillConfig)
    """The new run."""
    resume: bool = False
    """Resume the run in --out, if there is one."""
    overwrite: bool = False
    """Delete the run in --out, if there is one, and start a new one."""


@dataclass(frozen=True)
class CriticCommand:
    """Train a model of the reward on the self-edits of runs, and say how well it ranks them."""

    config: Annotated[CriticConfig, tyro.conf.arg(name="")]
    """The critic."""
    overwrite: bool = False
    """Replace the critic in --out, if there is one."""


@dataclass(frozen=True)
class AdaptCommand:
    """Teach a model one's own documents; write an adapter and a report on what it learned."""

    config: Annotated[AdaptConfig, tyro.conf.arg(name="")] = field(default_factory=AdaptConfig)
    """The adaptation."""
    preset: str | None = None
    """Preset: a file that tune wrote, or one of the shipped ones by name."""
    resume: bool = False
    """Resume the adaptation in --out, if there is one."""
    overwrite: bool = False
    """Delete the adaptation in --out, if there is one, and start a new one."""


@dataclass(frozen=True)
class ServeCommand(PresetOptions):
    """Serve an environment to other trainers, in OpenEnv's protocol."""

    config: Annotated[ServeConfig, tyro.conf.arg(name="")] = field(default_factory=ServeConfig)
    """The server."""


@dataclass(frozen=True)
class ExportCommand:
    """Write a run's self-edits as a data set, or its policy as an adapter with a card."""

    config: Annotated[ExportConfig, tyro.conf.arg(name="")]
    """The export."""
    overwrite: bool = False
    """Replace the export in --out, if there is one."""


@dataclass(frozen=True)
class ReportCommand:
    """Show a run's table and some of its self-edits, and redraw its plots."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders."""
    samples: int = 3
    """Self-edits shown per round."""
    html: bool = False
    """Write a page instead, to the first run's folder: the plots, and all self-edits with their
    answers; several runs are side by side."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; exits with status 2 and one line if something cannot be done.

    An exception in a user's own agent or task is not swallowed: its author needs the traceback.
    """
    argv = list(sys.argv[1:] if arguments is None else arguments)
    # A user's own agent or task lies in the folder where the command is given.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    reading = argv[:1] in (["report"], ["serve"], ["chat"], ["train-critic"], ["export"])
    go_on = "" if reading else "; go on with --resume"
    try:
        try:
            _run(argv)
        finally:
            sys.stdout.flush()
    except UserError as error:
        print(f"seal-env: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # torch's, which is not imported here
            raise
        what = " ".join(str(error).split(". ")[0].split())
        print(f"seal-env: {what}: lower --num-envs, or free memory{go_on}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # whoever reads the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"seal-env: {where}{error.strerror}{go_on}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"seal-env: stopped{go_on}", file=sys.stderr)
        sys.exit(130)


def _run(argv: list[str]) -> None:
    commands: dict[str, Callable[[list[str]], None]] = {
        "train": _train,
        "evaluate": _evaluate,
        "adapt": _adapt,
        "chat": _chat,
        "tune": _tune,
        "distill": _distill,
        "train-critic": _train_critic,
        "serve": _serve,
        "export": _export,
        "report": _report,
    }
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
    elif argv[0] in ("-V", "--version"):
        print(f"seal-env {__version__}")
    elif argv[0] == "distil":  # its name in earlier versions
        commands["distill"](argv[1:])
    elif argv[0] not in commands:
        what = "option" if argv[0].startswith("-") else "command"
        hint = did_you_mean(nearest(argv[0], [*commands, "--help", "--version"]))
        raise UserError(
            f"unknown {what} {argv[0]!r}{hint or ':'} the commands are {', '.join(commands)}"
        )
    else:
        commands[argv[0]](argv[1:])


def _train(argv: list[str]) -> None:
    agent = early(argv, "agent", TrainConfig.agent)
    model = early(argv, "model", EnvConfig.model)
    kind = agent_class(agent)  # imports the agent's module, which may add presets
    usual = preset(model, parted(agent)[0])
    suited = chosen_preset(argv)
    task = TASKS.load(early(argv, "task", EnvConfig.task))
    reward = getattr(task, "default_reward", None) or suited.reward
    env = EnvConfig(inner=suited.inner, reward=reward)
    name = f"preset of model {model!r} and agent {agent!r}"
    options = build(kind.Options, usual.options, name)
    plain = TrainConfig(env, agent, options)
    default = build(TrainConfig, {**vars(plain), **usual.run}, name)
    chosen = parse("train", TrainCommand, argv, TrainCommand(default))
    config = replace(chosen.config, env=_with_options(chosen, chosen.config.env, suited))
    from seal_agents.runner.train import train

    _quiet()
    train(config, chosen.resume, chosen.overwrite, Console())


def _evaluate(argv: list[str]) -> None:
    suited = chosen_preset(argv)
    default = EvaluateCommand(EvaluateConfig(env=EnvConfig(inner=suited.inner, split=AUTO)))
    chosen = parse("evaluate", EvaluateCommand, argv, default)
    config = replace(chosen.config, env=_with_options(chosen, chosen.config.env, suited))
    from seal_agents.runner.train import evaluate

    _quiet()
    evaluate(config, chosen.resume, chosen.overwrite, Console())


def _tune(argv: list[str]) -> None:
    inner = model_preset(early(argv, "model", EnvConfig.model)).inner
    default = TuneConfig()
    default = replace(default, env=replace(default.env, inner=inner))
    chosen = parse("tune", TuneCommand, argv, TuneCommand(default))
    config = replace(chosen.config, env=_with_options(chosen, chosen.config.env, ModelPreset()))
    from seal_agents.tuning.tune import tune

    _quiet()
    tune(config, chosen.resume, chosen.overwrite, Console())


def _distill(argv: list[str]) -> None:
    chosen = parse("distill", DistillCommand, argv)
    from seal_agents.runner.distill import distill

    _quiet()
    distill(chosen.config, chosen.resume, chosen.overwrite, Console())


def _train_critic(argv: list[str]) -> None:
    chosen = parse("train-critic", CriticCommand, argv)
    from seal_agents.runner.train_critic import train_critic

    _quiet()
    train_critic(chosen.config, chosen.overwrite, Console())


def _adapt(argv: list[str]) -> None:
    suited = chosen_preset(argv)
    inner = suited_to(early(argv, "mode", AdaptConfig.mode), suited.inner)
    default = AdaptCommand(AdaptConfig(inner=inner, passage=suited.passage))
    chosen = parse("adapt", AdaptCommand, argv, default)
    from seal_agents.adapt.run import adapt

    _quiet()
    adapt(chosen.config, chosen.resume, chosen.overwrite, Console())


def _chat(argv: list[str]) -> None:
    chosen = parse("chat", ChatConfig, argv)
    from seal_agents.adapt.chat import chat

    _quiet()
    chat(chosen, Console())


def _serve(argv: list[str]) -> None:
    suited = chosen_preset(argv)
    default = ServeCommand(ServeConfig(env=EnvConfig(inner=suited.inner)))
    chosen = parse("serve", ServeCommand, argv, default)
    config, env = chosen.config, _with_options(chosen, chosen.config.env, suited)
    if config.layout is not None:
        from seal_env.serving.space import write_space

        write_space(config.layout, env, config.requirement)
        print(f"wrote {config.layout}: openenv validate {config.layout}, openenv push")
        return
    from seal_env.serving.app import serve

    _quiet()
    serve(env, config.host, config.port, config.batching, config.limits)


def _export(argv: list[str]) -> None:
    chosen = parse("export", ExportCommand, argv)
    from seal_agents.runner.export import export

    _quiet()
    export(chosen.config, chosen.overwrite, Console())


def _report(argv: list[str]) -> None:
    chosen = parse("report", ReportCommand, argv)
    if not chosen.runs:
        raise UserError("report: name the folder of at least one run")
    if chosen.html:
        from seal_agents.runner.html import write_page

        write_page(chosen.runs, Console())
        return
    from seal_agents.reporting.report import report

    for path in chosen.runs:
        if (path / ADAPTED).is_file():
            Console().print((path / ADAPTED).read_text("utf-8"), markup=False, soft_wrap=True)
        else:
            report(path, Console(), chosen.samples)


def _quiet() -> None:
    """Keeps "Loading weights: ..." out of a file of errors."""
    import transformers

    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()


def _with_options(chosen: PartOptions, env: EnvConfig, suited: ModelPreset) -> EnvConfig:
    """The environment's settings with the options of its parts; those given beat the preset's."""
    task = read_pairs("--task-options", chosen.task_options, TASKS.load(env.task))
    pairs = chosen.edit_options
    if env.edit == EnvConfig.edit and suited.passage != ModelPreset.passage:
        pairs = (f"config.passage={suited.passage}", *pairs)
    edit = read_pairs("--edit-options", pairs, EDITS.load(env.edit))
    reward = read_part_pairs("--reward-options", chosen.reward_options, REWARDS.load)
    stream = _stream_options(chosen.stream_options)
    return replace(
        env, task_options=task, edit_options=edit, reward_options=reward, stream_options=stream
    )


def _stream_options(pairs: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Options of the stream's parts."""
    if not pairs:
        return {}
    from seal_env.streams import load_part

    return read_part_pairs("--stream-options", pairs, load_part)


def chosen_preset(argv: list[str]) -> ModelPreset:
    """The preset that --preset names, else that of --model; it gives other flags' defaults."""
    name = early(argv, "preset", "")
    return read_preset(name) if name else model_preset(early(argv, "model", EnvConfig.model))
