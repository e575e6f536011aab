"""Conversion of agents' actions to records of a run folder, and of records to experiences."""

from __future__ import annotations

from collections.abc import Sequence

from seal_agents.base import Action, Agent, Experience, Observation
from seal_agents.run_folder import Record
from seal_env.engine.sampling import Completion
from seal_env.errors import UserError


def actions(
    agent: Agent, observations: Sequence[Observation], seeds: Sequence[int]
) -> Sequence[Action]:
    """An agent's actions, checked, since it may be a user's own.

    Raises:
        UserError: They are not one text, `Completion` or None per observation.
    """
    written = agent.act(observations, seeds)
    name = type(agent).__name__
    if isinstance(written, str) or len(written) != len(observations):
        raise UserError(
            f"agent {name}: act must return one text for each of the {len(observations)} "
            f"observations; it returned {'one text' if isinstance(written, str) else len(written)}"
        )
    for one in written:
        if not isinstance(one, str | Completion | None):
            raise UserError(
                f"agent {name}: act must return texts, Completions or None; it returned a "
                f"{type(one).__name__}"
            )
        if isinstance(one, Completion) and len(one.tokens) != len(one.log_probs):
            raise UserError(
                f"agent {name}: a Completion has {len(one.tokens)} tokens and "
                f"{len(one.log_probs)} log_probs; give one for each token"
            )
    return written


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
    """Experience of a record; records of earlier versions have no tokens."""
    known = "token_ids" in record
    return Experience(
        observation,
        record["text"] or "",
        record["reward"],
        record,
        group=str(record["problem"]),
        tokens=tuple(record["token_ids"]) if known else None,
        log_probs=tuple(record["log_probs"]) if known else None,
        ended=known and record["ended"],
    )
