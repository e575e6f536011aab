"""Adapters whose packages cannot be installed beside the others, by the interfaces these publish.

The stand-ins have the names, signatures and types of NeMo-RL (`nemo_rl.environments.interfaces`),
NeMo-Gym (`nemo_gym.base_resources_server`), tinker-cookbook 0.6.1 (`rl.types`, `renderers`) and
verifiers 0.4.0 (`verifiers.v1`), and no more than what an adapter or its trainer's loop touches.
"""

import asyncio
import importlib
import pickle
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any, Generic, NamedTuple, TypeVar

import pytest
import torch
from openai.types.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from seal_env.env import SelfEditEnv
from seal_env.errors import UserError
from seal_env.integrations import shared
from seal_env.testing import identity

SEED = 3
"""Seed that is nobody's default."""
T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")


@pytest.fixture
def settings(models):
    """An environment whose rewards depend on problem, text and seed."""
    return identity(1, 2, model=models["llama"], reward="log_likelihood")


@pytest.fixture
def adapter(monkeypatch):
    """Imports an adapter anew, beside packages that it finds."""

    def load(name, **packages):
        for package, contents in packages.items():
            package = package.replace("__", ".")
            for parent in [package[:i] for i, c in enumerate(package) if c == "."]:
                if parent not in packages:
                    monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
            module = ModuleType(package)
            vars(module).update(contents)
            monkeypatch.setitem(sys.modules, package, module)
        name = f"seal_env.integrations.{name}"
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        monkeypatch.setitem(sys.modules, name, module)  # and it is forgotten after the test
        return module

    yield load
    for sessions in shared._SESSIONS.values():
        sessions.close()
    shared._SESSIONS.clear()


def wanted(settings, problem, *texts):
    env = SelfEditEnv(**settings)
    context = env.reset(options={"problems": problem})[0]["context"]
    rewards = []
    for text in (context, *texts):
        env.reset(seed=SEED, options={"problems": problem})
        rewards.append(env.step(text)[1])
    assert len(set(rewards)) == len(rewards)
    return (context, *texts), rewards


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("nemo_rl", "NVIDIA-NeMo/RL"),
        ("nemo_gym", "NVIDIA-NeMo/Gym"),
        ("tinker", "pip install tinker-cookbook"),
        ("verifiers", "pip install verifiers"),
        ("skyrl", r"pip install 'seal-env\[skyrl\]'"),
    ],
)
def test_a_missing_package_is_one_line_that_says_what_to_install(
    name, package, adapter, monkeypatch
):
    for missing in ("ray", "nemo_gym", "tinker", "verifiers", "skyrl_gym"):
        for module in [m for m in sys.modules if m.split(".")[0] == missing]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=package):
        adapter(name)


def test_environments_of_the_same_settings_are_one(settings):
    one = shared.shared_sessions(settings)
    try:
        assert shared.shared_sessions(dict(reversed(settings.items()))) is one
        other = shared.shared_sessions(settings | {"invalid_penalty": 1.0})
        assert other is not one and other.config.invalid_penalty == 1.0
    finally:
        for sessions in shared._SESSIONS.values():
            sessions.close()
        shared._SESSIONS.clear()


# NeMo-RL


class EnvironmentReturn(NamedTuple):
    observations: list[dict[str, str]]
    metadata: list[Any]
    next_stop_strings: list[list[str] | None] | list[None]
    rewards: torch.Tensor
    terminateds: torch.Tensor
    answers: list[str | None] | None = None


class EnvironmentInterface(ABC):
    @abstractmethod
    def step(self, message_log_batch: list[Any], metadata: list[Any]) -> EnvironmentReturn: ...

    @abstractmethod
    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict]: ...


def test_nemo_rl_steps_a_batch(adapter, settings):
    module = adapter(
        "nemo_rl",
        ray={"remote": lambda kind: SimpleNamespace(remote=kind)},
        nemo_rl__environments__interfaces={
            "EnvironmentInterface": EnvironmentInterface,
            "EnvironmentReturn": EnvironmentReturn,
        },
    )
    env = module.SelfEditActor.remote({"env_config": settings, "seed": SEED})
    texts, rewards = wanted(settings, 3, "Nothing.")
    ask = {"role": "user", "content": "Write.", "token_ids": torch.tensor([1])}
    logs = [
        [ask, {"role": "assistant", "content": t, "token_ids": ask["token_ids"]}] for t in texts
    ]
    result = env.step(logs, [{"problem": 3}] * 2)
    assert torch.equal(result.rewards, torch.tensor(rewards, dtype=torch.float32))
    assert result.terminateds.tolist() == [True, True]
    assert {o["role"] for o in result.observations} == {"environment"}
    assert "does not say" in result.observations[1]["content"]
    assert len(result.metadata) == len(result.next_stop_strings) == 2
    batch = {"total_reward": result.rewards}
    mean = float(result.rewards.mean())
    assert env.global_post_process_and_metrics(batch) == (batch, {"self_edit_reward": mean})
    assert env.sessions.batcher.metrics().batch_sizes == {2: 1}


# NeMo-Gym


class BaseVerifyRequest(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    responses_create_params: dict[str, Any]
    response: Response


class BaseVerifyResponse(BaseVerifyRequest):
    reward: float


class SimpleResourcesServer(BaseModel):
    config: BaseModel


def responded(text):
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {
        "id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [part]
    }  # fmt: skip
    return {
        "id": "r", "created_at": 0, "model": "x", "object": "response", "output": [message],
        "parallel_tool_calls": False, "tool_choice": "auto", "tools": [],
    }  # fmt: skip


def test_nemo_gym_verifies_responses(adapter, settings):
    module = adapter(
        "nemo_gym",
        nemo_gym__base_resources_server={
            "BaseResourcesServerConfig": BaseModel,
            "BaseVerifyRequest": BaseVerifyRequest,
            "BaseVerifyResponse": BaseVerifyResponse,
            "SimpleResourcesServer": SimpleResourcesServer,
        },
    )
    server = module.SelfEditResourcesServer(config={"env_config": settings, "seed": SEED})
    texts, rewards = wanted(settings, 3, "Nothing.")
    rows = [
        {"responses_create_params": {"input": "Write."}, "response": responded(t), "problem": 3}
        for t in texts
    ]
    request = server.verify.__annotations__["body"]
    assert request is module.SelfEditVerifyRequest  # what FastAPI reads bodies by
    bodies = [module.SelfEditVerifyRequest.model_validate(row) for row in rows]

    async def verify():
        return await asyncio.gather(*(server.verify(body) for body in bodies))

    replies = asyncio.run(verify())
    assert [reply.reward for reply in replies] == rewards
    assert replies[0].error is None and "does not say" in replies[1].error
    assert [reply.response.output_text for reply in replies] == list(texts)


# Tinker cookbook


@dataclass
class StepResult:
    reward: float
    episode_done: bool
    next_observation: Any
    next_stop_condition: Any
    metrics: dict[str, float | int] = field(default_factory=dict)
    logs: dict[str, Any] = field(default_factory=dict)


class Env(ABC):
    @abstractmethod
    async def initial_observation(self) -> Any: ...

    @abstractmethod
    async def step(self, action: list[int], *, extra: Any = None) -> StepResult: ...


class EnvGroupBuilder(ABC):
    @abstractmethod
    async def make_envs(self) -> Any: ...

    async def cleanup(self) -> None:
        return None


class Renderer:
    """Messages as code points; a message ends with 0."""

    def build_generation_prompt(self, messages, role="assistant", prefill=None):
        return [ord(char) for char in messages[-1]["content"]]

    def get_stop_sequences(self):
        return [0]

    def parse_response(self, response):
        text = "".join(map(chr, response)).rstrip("\0")
        return {"role": "assistant", "content": text}, "stop_sequence"


def test_tinker_rewards_a_group(adapter, settings):
    module = adapter(
        "tinker",
        tinker={"ModelInput": SimpleNamespace(empty=list)},
        tinker_cookbook__renderers={"get_text_content": lambda message: message["content"]},
        tinker_cookbook__rl__types={
            "Env": Env,
            "EnvGroupBuilder": EnvGroupBuilder,
            "StepResult": StepResult,
        },
    )
    texts, rewards = wanted(settings, 3, "Nothing.")
    builder = module.SelfEditGroupBuilder(settings, 3, Renderer(), 2, SEED)
    builder = pickle.loads(pickle.dumps(builder))

    async def rollout():  # tinker_cookbook.rl.rollouts.do_group_rollout
        envs = await builder.make_envs()
        for env, text in zip(envs, texts, strict=True):
            prompt, stop = await env.initial_observation()
            assert texts[0] in "".join(map(chr, prompt)) and stop == [0]
            done = await env.step([*map(ord, text), 0], extra={"stop_reason": "stop"})
            assert done.episode_done and done.reward == 0.0
        rewarded = await builder.compute_group_rewards([None, None], envs)
        await builder.cleanup()
        return rewarded

    assert asyncio.run(rollout()) == [
        (rewards[0], {"invalid": 0.0}),
        (rewards[1], {"invalid": 1.0}),
    ]
    assert builder.logging_tags() == ["self_edit"]


# verifiers


class TasksetConfig(BaseModel):
    id: str = ""
    task: Any = None


class TaskData(BaseModel):
    model_config = ConfigDict(frozen=True)
    idx: int | None = None
    name: str | None = None
    prompt: str | None = None


class Task(Generic[T, U, V]):
    def __init__(self, data, config=None):
        self.data, self.config = data, config


class Taskset(ABC, Generic[T, U]):
    def __init__(self, config):
        self.config = config

    @abstractmethod
    def load(self): ...


class SingleAgentEnvConfig(BaseModel):
    taskset: dict[str, Any] = Field(default_factory=dict)


def reward(function):
    function.reward = True
    return function


def test_verifiers_loads_tasks_and_scores_replies(adapter, settings):
    kinds = {"Task": Task, "TaskData": TaskData, "Taskset": Taskset, "TasksetConfig": TasksetConfig}
    names = {"State": dict, "TaskConfig": dict, "Trace": SimpleNamespace, "Env": object}
    module = adapter(
        "verifiers",
        verifiers__v1={
            **kinds,
            **names,
            "reward": reward,
            "SingleAgentEnvConfig": SingleAgentEnvConfig,
            "load_environment": lambda config: config.taskset,
        },
    )
    config = module.SelfEditTasksetConfig(env_config=settings, problems=4, seed=SEED)
    tasks = list(module.SelfEditTaskset(config).load())
    texts, rewards = wanted(settings, 3, "Nothing.")
    assert [task.data.problem for task in tasks] == [0, 1, 2, 3]
    assert texts[0] in tasks[3].data.prompt and tasks[3].self_edit.reward
    data = module.SelfEditData.model_validate_json(tasks[3].data.model_dump_json())
    task = module.SelfEditTask(data)

    async def score():
        traces = [SimpleNamespace(last_reply=text) for text in texts]
        return await asyncio.gather(*(task.self_edit(trace=trace) for trace in traces))

    assert asyncio.run(score()) == rewards
    loaded = module.load_environment(env_config=settings, problems=4)
    assert loaded == {"id": "self_edit", "env_config": settings, "problems": 4}
