"""`seal-env train-critic`: trains and validates a critic on rewarded self-edits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console

from seal_agents.algorithms.self_rewarding import spearman
from seal_agents.run_folder import RunFolder
from seal_agents.runner.build import trained_with
from seal_agents.runner.configs import CriticConfig, TrainConfig
from seal_agents.runner.folders import write_folder
from seal_agents.runner.pairs import Pair, read_pairs, recorded_pairs, worth_of_nothing
from seal_agents.runner.progress import Bars
from seal_agents.runner.rounds import round_problems
from seal_env.config import EnvConfig, make_task
from seal_env.critics import Critic
from seal_env.critics.base import Features
from seal_env.critics.classifier import ClassifierScore
from seal_env.critics.critic import CONFIG
from seal_env.critics.hidden_states import HiddenStates
from seal_env.critics.ridge import fit_ridge
from seal_env.engine.loading import load_learner
from seal_env.errors import UserError
from seal_env.hashing import stable_hash


def train_critic(config: CriticConfig, overwrite: bool, console: Console) -> dict[str, Any]:
    """Runs `seal-env train-critic`; returns the figures of the validation."""
    _check_free(config.out, overwrite)
    env, pairs = _collected(config)
    contexts = {pair.context for pair in pairs}
    if len(contexts) < 2:
        raise UserError(
            f"train-critic: {len(pairs)} self-edits about {len(contexts)} contexts; it takes those "
            f"of 2 contexts or more to say how good a critic is"
        )
    learner = load_learner(env.model, env.dtype, env.device, None, env.trust_remote_code)
    features: Features = HiddenStates(learner)
    if config.classifier is not None:
        features = ClassifierScore(str(config.classifier), learner.device.type)
    bars = Bars(console)
    with bars.counting(1):
        bars.advance(f"reading {len(pairs)} self-edits")
        measured = features.measure(
            [(pair.context, pair.text) for pair in pairs],
            lambda done, total: bars.stage("self-edits", done, total),
        )
    rewards = np.array([pair.reward for pair in pairs])
    folds = _folds(pairs, config.folds)
    figures = {
        "pairs": len(pairs),
        "problems": len(contexts),
        **_validated(measured, rewards, pairs, folds),
        "spearman_of_length": _within([len(p.text) for p in pairs], rewards, pairs),
    }
    critic = Critic(features, fit_ridge(measured, rewards), worth_of_nothing(pairs))
    write_folder(config.out, lambda folder: critic.save(folder, {"reward": env.reward, **figures}))
    _print(figures, folds, console)
    console.print(
        f"wrote {config.out}; use it with --screen 0.5 --critic {config.out}, or as the reward "
        f"term critic with --reward-options critic.path={config.out}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return figures


def _collected(config: CriticConfig) -> tuple[EnvConfig, list[Pair]]:
    """Settings of the learner, and all self-edits."""
    env = EnvConfig(model=config.model, dtype=config.dtype, device=config.device)
    pairs = [] if config.pairs is None else read_pairs(config.pairs)
    first: TrainConfig | None = None
    for path in config.runs:
        run = RunFolder.existing(path)
        taught = trained_with(run)
        if taught.env.horizon > 1:
            raise UserError(
                f"{path}: was trained with --horizon {taught.env.horizon}; a critic learns what "
                f"one self-edit is worth by itself, so give runs with --horizon 1"
            )
        first = taught if first is None else first
        for name in ("model", "reward"):
            here, there = getattr(taught.env, name), getattr(first.env, name)
            if here != there:
                raise UserError(
                    f"{path}: was trained with --{name} {here}, and {config.runs[0]} with "
                    f"{there}; give runs with the same"
                )
        task = make_task(taught.env.task, taught.env.data, taught.env.task_options)
        rounds = range(1, run.rounds_done() + 1)
        problems = {r: round_problems(task, taught, r) for r in rounds}
        pairs += recorded_pairs(run, taught.agent, task, problems)
    return env if first is None else first.env, pairs


def _folds(pairs: Sequence[Pair], count: int) -> np.ndarray:
    """Fold of each pair; all self-edits about one context are in the same."""
    contexts = sorted({pair.context for pair in pairs}, key=lambda c: stable_hash("fold", c))
    fold = {context: i % min(count, len(contexts)) for i, context in enumerate(contexts)}
    return np.array([fold[pair.context] for pair in pairs])


def _validated(
    measured: np.ndarray, rewards: np.ndarray, pairs: Sequence[Pair], folds: np.ndarray
) -> dict[str, float]:
    """Figures of predictions for contexts that were held out of the training."""
    predicted = np.empty(len(rewards))
    for fold in np.unique(folds):
        out = folds == fold
        predicted[out] = fit_ridge(measured[~out], rewards[~out]).predict(measured[out])
    spread = float(((rewards - rewards.mean()) ** 2).sum())
    error = float(((rewards - predicted) ** 2).sum())
    return {
        "spearman": _within(predicted, rewards, pairs),
        "r2": 1 - error / spread if spread > 0 else 0.0,
    }


def _within(
    values: Sequence[float] | np.ndarray, rewards: np.ndarray, pairs: Sequence[Pair]
) -> float:
    """Mean over groups of Spearman's correlation with the reward; 0 if no group has one."""
    groups: dict[str, list[int]] = {}
    for i, pair in enumerate(pairs):
        groups.setdefault(pair.group, []).append(i)
    found = [
        spearman([float(values[i]) for i in group], [float(rewards[i]) for i in group])
        for group in groups.values()
    ]
    known = [value for value in found if value is not None]
    return fmean(known) if known else 0.0


def _print(figures: dict[str, Any], folds: np.ndarray, console: Console) -> None:
    console.print(
        f"{figures['pairs']} self-edits about {figures['problems']} contexts; on contexts held out "
        f"({len(np.unique(folds))} folds): Spearman within a problem {figures['spearman']:.3f} "
        f"(the length alone {figures['spearman_of_length']:.3f}), R2 {figures['r2']:.3f}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _check_free(out: Path, overwrite: bool) -> None:
    """Checks that the new folder overwrites nothing but a critic that it may overwrite."""
    if not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / CONFIG).is_file()):
        raise UserError(f"--out {out}: exists and is no critic; give another folder")
    if any(out.iterdir()) and not overwrite:
        raise UserError(f"--out {out}: holds a critic; give another folder, or --overwrite")
