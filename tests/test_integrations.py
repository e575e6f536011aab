"""Adapters to trainers, each through the trainer's own loader and loop."""

import threading

import pytest
import skyrl_gym
import uvicorn
from agent_fixtures import quiet
from datasets import load_dataset
from helpers import quick_grpo
from test_export import a_run
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOTrainer, SFTConfig, SFTTrainer

from seal_agents.runner.configs import ExportConfig
from seal_agents.runner.export import export
from seal_env.config import EnvConfig
from seal_env.env import SelfEditEnv
from seal_env.integrations.prompts import prompt_of, text_of
from seal_env.integrations.trl import SelfEditReward, ServerReward
from seal_env.serving.app import create_app
from seal_env.serving.limits import ServeLimits
from seal_env.sessions import Sessions
from seal_env.testing import identity

SEED = 3
"""Seed that is nobody's default."""


@pytest.fixture
def settings(models):
    """An environment whose rewards depend on problem, text and seed."""
    return identity(1, 2, model=models["llama"], reward="log_likelihood")


def rewards_of(settings, problems, texts, seed=SEED):
    env, rewards = SelfEditEnv(**settings), []
    for problem, text in zip(problems, texts, strict=True):
        env.reset(seed=seed, options={"problems": problem})
        rewards.append(env.step(text)[1])
    return rewards


def contexts(settings, problems):
    env = SelfEditEnv(**settings)
    return [env.reset(options={"problems": p})[0]["context"] for p in problems]


@pytest.fixture
def server(settings):
    """Address of a server, and its environment."""
    sessions = Sessions(EnvConfig(**settings))
    app = create_app(sessions, ServeLimits())
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        thread.join(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}", sessions
    running.should_exit = True
    thread.join(60)
    sessions.close()


def test_rewards_here_and_through_a_server_are_the_environments(settings, server):
    problems = [0, 1, 2, 2]
    texts = [*contexts(settings, problems[:3]), "Nothing."]
    wanted = rewards_of(settings, problems, texts)
    assert len(set(wanted)) == 4 and wanted[:3] != rewards_of(settings, problems, texts, 0)[:3]
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    here = SelfEditReward(EnvConfig(**settings), seed=SEED)
    for reward in (here, ServerReward(server[0], seed=SEED)):
        assert reward(completions=texts, problem=problems, prompts=None) == wanted
        assert reward(completions=messages, problem=problems) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("place", ["here", "server"])
def test_trls_own_loop_trains_on_it(place, settings, server, models, tmp_path):
    local = SelfEditReward(EnvConfig(**settings))
    reward = local if place == "here" else ServerReward(server[0])
    config = quick_grpo(tmp_path, per_device_train_batch_size=4, max_steps=2)
    policy = AutoModelForCausalLM.from_pretrained(models["llama"])
    tokenizer = AutoTokenizer.from_pretrained(models["llama"], padding_side="left")
    data = local.dataset(range(4))
    assert set(data.column_names) == {"prompt", "problem"}
    trainer = GRPOTrainer(policy, reward, config, data, None, tokenizer)
    trainer.train()
    logged = [row for row in trainer.state.log_history if "rewards/self_edit/mean" in row]
    assert len(logged) == 2
    sessions = local.sessions if place == "here" else server[1]
    assert sessions.batcher.metrics().requests == 8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_trls_trainers_take_what_is_exported(kind, models, tmp_path):
    out = export(
        ExportConfig(a_run(tmp_path / "run").path, kind, out=tmp_path / "out"), True, quiet()
    )
    data = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["train"]
    policy = AutoModelForCausalLM.from_pretrained(models["llama"])
    tokenizer = AutoTokenizer.from_pretrained(models["llama"])
    trainer, settings = {"sft": (SFTTrainer, SFTConfig), "dpo": (DPOTrainer, DPOConfig)}[kind]
    quick = {"max_steps": 1, "use_cpu": True, "bf16": False, "report_to": "none"}
    config = settings(str(tmp_path / "trainer"), save_strategy="no", disable_tqdm=True, **quick)
    before = policy.lm_head.weight.clone()
    trainer(policy, args=config, train_dataset=data, processing_class=tokenizer).train()
    assert not policy.lm_head.weight.equal(before)


def test_skyrls_registry_makes_it(settings):
    skyrl_gym.register(id="self-edit", entry_point="seal_env.integrations.skyrl:SelfEditTextEnv")
    (said,) = contexts(settings, [3])
    texts = [said, "Nothing."]
    for text, reward in zip(texts, rewards_of(settings, [3, 3], texts), strict=True):
        extras = {"problem": 3, "seed": SEED}
        env = skyrl_gym.make("self-edit", env_config=settings, extras=extras)
        prompt, info = env.init([])
        assert "problem" in info and prompt[0]["role"] == "user" and said in prompt[0]["content"]
        output = env.step(text)
        assert (output["reward"], output["done"], output["observations"]) == (reward, True, [])


def test_prompts_and_texts(settings):
    with Sessions(EnvConfig(**settings)) as sessions:
        (context,) = contexts(settings, [3])
        assert context in prompt_of(sessions, 3)
    assert text_of("x") == text_of([{"content": "y"}, {"content": "x"}]) == "x"
    assert text_of([{"content": None}]) == ""
