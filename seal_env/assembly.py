"""The inner loop and the reward that a config names.

Environments make them in their own process, and workers (`seal_env.workers`) in theirs.
"""

from __future__ import annotations

from collections.abc import Hashable

from seal_env.config import EnvConfig, InnerLoopConfig
from seal_env.content_keys import Same, frozen
from seal_env.engine.learner import Learner
from seal_env.engine.loading import load_learner
from seal_env.engine.shapes import shape_of
from seal_env.inner_loop import InnerLoop
from seal_env.presets import model_preset
from seal_env.rewards import Reward, parse_reward
from seal_env.streams.base import Stream
from seal_env.tasks.base import Task


def make_reward(config: EnvConfig, task: Task) -> Reward:
    """The reward of a config, with retention in a stream whose problems have questions."""
    reward = parse_reward(config.reward, config.reward_options)
    stream = config.horizon > 1 and task.has_questions
    if stream and "retention" not in reward.names:
        # In a stream the reward of a step includes the accuracy lost on earlier problems.
        reward = parse_reward(f"{config.reward} + retention", config.reward_options)
    return reward


def make_learner(config: EnvConfig) -> Learner:
    """The learner of a config, from the process's pool if it is there."""
    return load_learner(
        config.model, config.dtype, config.device, config.adapter, config.trust_remote_code
    )


def make_loop(
    config: EnvConfig, task: Task, reward: Reward, stream: Stream, learner: Learner
) -> InnerLoop:
    """The inner loop of a config; loops of equal settings share what the base scored.

    Args:
        config: Settings.
        task: The config's task.
        reward: The config's reward, whose probes the loop takes.
        stream: The config's stream.
        learner: The config's learner.
    """
    inner = config.inner
    if inner is None:
        inner = model_preset(config.model, shape_of(learner.model.config)).inner
    scores, measured = (
        learner.cache.setdefault((kind, *_asks(config, task, inner)), {})
        for kind in ("scores", "probes")
    )
    return InnerLoop(learner, task, inner, scores, reward.probes, measured, stream)


def _asks(config: EnvConfig, task: Task, inner: InnerLoopConfig) -> tuple[Hashable, ...]:
    """Cache key of the untouched learner's scores, without the problem."""
    options = frozen(config.task_options)
    said = (task.answer_tokens, task.answer_prefix, inner.chat)
    return Same(type(task)), options, config.data, *said
