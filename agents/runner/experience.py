"""Conversion of agents' actions to records of a run folder, and of records to experiences."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from seal_agents.base import Action, Agent, Experience, Observation
from seal_agents.run_folder import Record
from seal_env.engine.sampling import Completion
from seal_env.errors import UserError

MOST_TOKENS = 1 << 31
"""Bound on token ids."""


def actions(
    agent: Agent, observations: Sequence[Observation], seeds: Sequence[int]
) -> Sequence[Action]:
    """An agent's actions, checked, since it may be a user's own.

    Raises:
        UserError: They are not one text, `Completion` or None per observation.
    """
    written: Any = agent.act(observations, seeds)
    name = type(agent).__name__
    listed = hasattr(written, "__len__") and not isinstance(written, str)
    if not listed or len(written) != len(observations):
        kind = "one text" if isinstance(written, str) else f"a {type(written).__name__}"
        kind = "None" if written is None else kind
        raise UserError(
            f"agent {name}: act must return one text for each of the {len(observations)} "
            f"observations; it returned {len(written) if listed else kind}"
        )
    return [_checked(one, name) for one in written]


def _checked(action: Any, name: str) -> Action:
    """An action of the right type, the numbers of a `Completion` as Python's own."""
    if not isinstance(action, str | Completion | None):
        raise UserError(
            f"agent {name}: act must return texts, Completions or None; it returned a "
            f"{type(action).__name__}"
        )
    if not isinstance(action, Completion):
        return action
    try:
        tokens, log_probs = _numbers(action.tokens, action.log_probs)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"agent {name}: a Completion has tokens or log_probs that are no numbers ({error}); "
            f"give two lists of them"
        ) from error
    if len(tokens) != len(log_probs):
        raise UserError(
            f"agent {name}: a Completion has {len(tokens)} tokens and "
            f"{len(log_probs)} log_probs; give one for each token"
        )
    return Completion(action.text, tokens, log_probs, bool(action.ended))


def _numbers(tokens: Any, log_probs: Any) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Token ids and log-probabilities of a user's agent, or from a file, as Python's own numbers.

    Raises:
        TypeError, ValueError: They are no such numbers.
    """
    ids = tuple(operator.index(token) for token in tokens)
    if not all(0 <= token < MOST_TOKENS for token in ids):
        raise ValueError("a token id is negative or too large")
    numbers = tuple(float(value) for value in log_probs)
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a log-probability is infinite or NaN")
    return ids, numbers


def learned(agent: Agent, experiences: Sequence[Experience]) -> dict[str, float]:
    """Metrics of an agent's `learn`, checked, since it may be a user's own.

    Raises:
        UserError: They are not numbers by name.
    """
    returned: Any = agent.learn(experiences)
    name = type(agent).__name__
    if returned is None:  # a user's own agent may well return nothing
        return {}
    if not isinstance(returned, Mapping):
        raise UserError(
            f"agent {name}: learn must return numbers by name, as {{'loss': 0.5}}; it returned a "
            f"{type(returned).__name__}"
        )
    numbers = {}
    for key, value in returned.items():
        try:
            numbers[str(key)] = float(value)
        except (TypeError, ValueError, RuntimeError):  # the last one: a tensor of several
            raise UserError(
                f"agent {name}: learn must return numbers by name; its {str(key)!r} is no number "
                f"({type(value).__name__})"
            ) from None
    return numbers


def text_of(action: Action) -> str | None:
    """Text of an action."""
    return action.text if isinstance(action, Completion) else action


def tokens_of(action: Action) -> Record:
    """Record fields of an action's tokens; empty for a text alone."""
    if not isinstance(action, Completion):
        return {}
    return {
        "token_ids": list(action.tokens),
        "log_probs": list(action.log_probs),
        "ended": action.ended,
    }


def experience(observation: Observation, record: Record) -> Experience:
    """Experience of a record; records of earlier versions have no tokens.

    Raises:
        UserError: The record is damaged.
    """
    with _damage_named(record):
        _check(record)
        return _experience(observation, record)


def check_record(record: Record) -> None:
    """Checks the fields of a record that tables and plots are made of.

    Raises:
        UserError: The record is damaged.
    """
    with _damage_named(record):
        _check(record)


@contextmanager
def _damage_named(record: Record) -> Iterator[None]:
    """Context in which a field that is missing or wrong is one line that names the record."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise UserError(
            f"episodes.jsonl: the {record['phase']} line of round {record['round']} with index "
            f"{record['index']} is damaged ({what}); remove it and resume"
        ) from error


def _check(record: Record) -> None:
    for name in _NUMBERS:
        if not isinstance(record[name], int | float):
            raise TypeError(f"{name} is no number")
    if not isinstance(record["text"], str | None) or not isinstance(record["error"], str):
        raise TypeError("text or error is no text")
    terms = record.get("terms", {})  # records of earlier versions may lack them
    if not all(isinstance(value, int | float) for value in dict(terms).values()):
        raise TypeError("a term is no number")


def _experience(observation: Observation, record: Record) -> Experience:
    tokens, log_probs, ended = None, None, False
    if "token_ids" in record:
        tokens, log_probs = _numbers(record["token_ids"], record["log_probs"])
        if len(tokens) != len(log_probs):
            raise ValueError(f"{len(tokens)} token_ids and {len(log_probs)} log_probs")
        ended = bool(record["ended"])
    return Experience(
        observation,
        record["text"] or "",
        record["reward"],
        record,
        group=str(record["problem"]),
        tokens=tokens,
        log_probs=log_probs,
        ended=ended,
    )


_NUMBERS = ("reward", "evaluations", "accuracy", "accuracy_before", "log_likelihood")
"""Fields of a record that every agent and every round read."""
