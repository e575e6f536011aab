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
def sessions(models):
    with Sessions(EnvConfig(**identity(1, 2, model=models["llama"]))) as sessions:
        yield sessions


def test_what_is_handed_in_first_is_rewarded_in_shared_passes(sessions, models):
    reference = SelfEditEnv(**identity(1, 2, model=models["llama"]))
    context = reference.reset(options={"problems": 3})[0]["context"]
    envs = [SelfEditToolEnv(sessions) for _ in range(3)]
    for env, texts in zip(envs, ([context, "x"], ["Nothing."], []), strict=True):
        prompt = env.reset(problem=3, prompt=[])
        assert context in prompt and prompt.endswith(ASK)
        replies = [env.write(text) for text in texts]
        assert replies == ["Handed in.", "There is a text already."][: len(texts)]
    assert [env.get_reward() for env in envs] == [1.0, 0.0, 0.0]
    assert sessions.batcher.metrics().batch_sizes == {2: 1, 1: 1}
    envs[0].reset(problem=3)
    assert envs[0].get_reward() == 0.0


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
    assert logged["rewards/SelfEditToolEnv/mean"] == 0.0
    assert sessions.batcher.metrics().requests == 2
