"""Successive halving: many settings on few problems, the best of them on more.

Synchronous successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943, algorithm 1) in
brackets, on a study of optuna, whose sampler (tree-structured Parzen estimator: Bergstra et al.
2011) draws the settings. Optuna's own pruners decide on one trial at a time; here the trials of a
rung are evaluated side by side, and are compared when all are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from seal_agents.tuning.config import TuneConfig
from seal_agents.tuning.space import Candidate, SearchSpace
from seal_env.errors import UserError

FEWEST = 4
"""Problems of a first rung, at least."""
ATTEMPTS = 200
"""Draws after which a space counts as exhausted."""

Measure = Callable[[Sequence[Candidate], int], Sequence[float]]
"""Mean rewards of settings on the first problems, as many as the second argument says."""


@dataclass
class Trial:
    """One setting and how far it came."""

    candidate: Candidate
    """The setting."""
    bracket: int
    """Its bracket, from 0."""
    rewards: dict[int, float]
    """Mean reward by number of problems."""

    @property
    def problems(self) -> int:
        """Most problems that it was tried on."""
        return max(self.rewards)

    @property
    def rank_key(self) -> tuple[int, float]:
        """What trials are ordered by: how far they came, then the reward there."""
        return self.problems, self.rewards[self.problems]


def rungs(config: TuneConfig, problems: int) -> list[int]:
    """Numbers of problems of the rungs of a bracket, ascending."""
    levels = [problems]
    settings = config.bracket // config.reduction
    while settings >= 1 and levels[0] // config.reduction >= FEWEST:
        levels.insert(0, levels[0] // config.reduction)
        settings //= config.reduction
    return levels


def survivors(count: int, reduction: int) -> int:
    """Settings of a rung that go on to the next."""
    return max(1, count // reduction)


def inner_loops(config: TuneConfig, problems: int) -> int:
    """Inner loops of a whole search."""
    total = 0
    for start in range(0, config.trials, config.bracket):
        live, before = min(config.bracket, config.trials - start), 0
        live += len(config.include) if start == 0 else 0
        for level in rungs(config, problems):
            total += live * (level - before)
            live, before = survivors(live, config.reduction), level
    return total


def search(
    config: TuneConfig, problems: int, measure: Measure, include: Sequence[Candidate] = ()
) -> list[Trial]:
    """Trials of a search, the best one first.

    The same measurements give the same search, so one that was stopped is repeated up to where it
    was, from what is known.

    Args:
        config: The search.
        problems: Problems of the last rung.
        measure: Evaluates settings; called once per rung of a bracket.
        include: Settings that are tried in the first bracket besides those that are drawn.

    Raises:
        UserError: The extra `tune` is not installed.
    """
    study = _study(config)
    trials: list[Trial] = []
    known = set(include)
    for start in range(0, config.trials, config.bracket):
        asked: list[tuple[Any, Candidate]] = [(None, one) for one in include if start == 0]
        asked += _ask(study, config.space, min(config.bracket, config.trials - start), known)
        live = {
            number: Trial(candidate, start // config.bracket, {})
            for number, (_, candidate) in enumerate(asked)
        }
        bracket = dict(live)
        for level in rungs(config, problems):
            means = measure([trial.candidate for trial in live.values()], level)
            for (number, trial), mean in zip(live.items(), means, strict=True):
                trial.rewards[level] = mean
                if asked[number][0] is not None:
                    asked[number][0].report(mean, level)
            ordered = sorted(live, key=lambda number: live[number].rewards[level], reverse=True)
            best = ordered[: survivors(len(live), config.reduction)]
            live = {number: live[number] for number in sorted(best)}
        for number, trial in bracket.items():
            if asked[number][0] is not None:
                _tell(study, asked[number][0], trial, problems)
        trials += bracket.values()
    return sorted(trials, key=lambda trial: trial.rank_key, reverse=True)


def _study(config: TuneConfig) -> Any:
    """A study in memory with a seeded sampler."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise UserError(
            f"tune needs {error.name!r}, which is not installed: pip install 'seal-env[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=config.seed, n_startup_trials=config.bracket, multivariate=True, constant_liar=True
    )
    return optuna.create_study(direction="maximize", sampler=sampler)


def _ask(
    study: Any, space: SearchSpace, count: int, known: set[Candidate]
) -> list[tuple[Any, Candidate]]:
    """New trials with settings that no earlier one has; fewer if the space has no more."""
    asked: list[tuple[Any, Candidate]] = []
    for _ in range(ATTEMPTS):
        if len(asked) == count:
            break
        trial = study.ask()
        candidate = space.draw(trial)
        if candidate in known:
            study.tell(trial, state=_state("FAIL"))
            continue
        known.add(candidate)
        asked.append((trial, candidate))
    return asked


def _tell(study: Any, asked: Any, trial: Trial, problems: int) -> None:
    if trial.problems == problems:
        study.tell(asked, trial.rewards[problems])
    else:
        study.tell(asked, state=_state("PRUNED"))


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]
