"""TRL's environment_factory through `GRPOTrainer` of the pinned version."""

from functools import partial

import pytest
from helpers import quick_grpo
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOTrainer
from trl.chat_template_utils import qwen3_chat_template

from seal_env.config import EnvConfig
from seal_env.env import SelfEditEnv
from seal_env.integrations.trl_environment import ASK, SelfEditToolEnv, rows
from seal_env.sessions import Sessions
from seal_env.testing import identity


@pytest.fixture
def settings(models):
    return identity(1, 2, model=models["llama"], reward="log_likelihood")


@pytest.fixture
def sessions(settings):
    with Sessions(EnvConfig(**settings)) as sessions:
        yield sessions


def test_what_is_handed_in_first_is_rewarded_in_shared_passes(sessions, settings):
    reference, wanted = SelfEditEnv(**settings), []
    context = reference.reset(options={"problems": 3})[0]["context"]
    for text in (context, "Nothing.", ""):
        reference.reset(seed=3, options={"problems": 3})
        wanted.append(reference.step(text)[1])
    envs = [SelfEditToolEnv(sessions, seed=3) for _ in range(3)]
    for env, texts in zip(envs, ([context, "x"], ["Nothing."], []), strict=True):
        prompt = env.reset(problem=3, prompt=[])
        assert context in prompt and prompt.endswith(ASK)
        replies = [env.write(text) for text in texts]
        assert replies == ["Handed in.", "There is a text already."][: len(texts)]
    assert [env.get_reward() for env in envs] == wanted and wanted[0] != wanted[1]
    assert sessions.batcher.metrics().batch_sizes == {2: 1, 1: 1}
    envs[0].reset(problem=3)
    assert envs[0].get_reward() == wanted[2]


@pytest.mark.slow
def test_trls_own_loop_drives_it(sessions, models, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(models["llama"], padding_side="left")
    tokenizer.chat_template = qwen3_chat_template
    config = quick_grpo(tmp_path, per_device_train_batch_size=2, max_steps=1)
    policy = AutoModelForCausalLM.from_pretrained(models["llama"])
    with pytest.warns(UserWarning, match="experimental"):
        trainer = GRPOTrainer(
            policy,
            args=config,
            train_dataset=rows(range(2)),
            processing_class=tokenizer,
            environment_factory=partial(SelfEditToolEnv, sessions),
        )
    assert [tool.__name__ for tool in trainer.tools] == ["write"]
    trainer.train()
    (logged,) = [row for row in trainer.state.log_history if "rewards/SelfEditToolEnv/mean" in row]
    assert logged["rewards/SelfEditToolEnv/mean"] < 0.0  # a log-likelihood
    assert sessions.batcher.metrics().requests == 2
