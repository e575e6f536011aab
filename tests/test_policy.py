"""A language model as a policy."""

import json
import math
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from agent_fixtures import context, experience
from transformers import dynamic_module_utils

from seal_agents.algorithms.ppo import PPOOptions, ProximalPolicy
from seal_agents.policies.language_model import Policy, PolicyOptions
from seal_env.critics.hidden_states import without_adapter
from seal_env.engine.training import FinetuneConfig
from seal_env.errors import UserError
from seal_env.prompts import prompt_tokens

SEEN = [{"context": text, "model_state": None} for text in ("Ada is a vet.", "Bo has a cat.", "x")]


def pairs(observations, texts):
    return [experience(o, text, 0.0) for o, text in zip(observations, texts, strict=True)]


def policy(models, trainable=True, argument="", seed=0, **options):
    options = PolicyOptions(**{"max_new_tokens": 8, **options})
    return Policy(context(models["llama"], argument=argument, seed=seed), options, trainable)


def test_what_is_written_depends_on_the_seed_and_the_observation_alone(models):
    writer = policy(models)
    together = writer.write(SEEN, [1, 2, 3])
    assert writer.write(SEEN, [1, 2, 3]) == together
    alone = [writer.write([o], [s])[0] for o, s in zip(SEEN, [1, 2, 3], strict=True)]
    assert alone == together
    assert writer.write(SEEN[::-1], [3, 2, 1]) == together[::-1]
    assert policy(models, generation_batch_size=2).write(SEEN, [1, 2, 3]) == together
    assert writer.write(SEEN, [4, 5, 6]) != together


def test_at_temperature_0_the_seed_is_no_matter(models):
    writer = policy(models, temperature=0.0)
    assert writer.write(SEEN, [1, 2, 3]) == writer.write(SEEN, [4, 5, 6])


def test_only_the_completion_is_learned(models, monkeypatch):
    writer = policy(models)
    seen = []

    def spy(learner, bank, datasets, progress):
        seen.extend(datasets[0].examples)
        return real(learner, bank, datasets, progress)

    import seal_agents.policies.language_model as module

    real = module.finetune
    monkeypatch.setattr(module, "finetune", spy)
    config = FinetuneConfig(1e-3, epochs=1, batch_size=2)
    loss = writer.imitate(pairs(SEEN[:2], ["Oslo", "a vet"]), config, 0)
    assert math.isfinite(loss)
    for example, observation, text in zip(seen, SEEN, ["Oslo", "a vet"], strict=False):
        prompt = writer.read(observation)
        assert list(example.ids[: example.unscored]) == prompt
        learned = list(example.ids[example.unscored :])
        assert learned == writer.model.encode_answer(text) + writer.model.end_ids


def test_imitating_makes_a_text_likelier(models):
    writer = policy(models)
    prompt, target = writer.read(SEEN[0]), writer.model.encode_answer("Oslo")
    before = writer.model.score([prompt], [target], [0], writer.adapter)[0]
    writer.imitate(pairs(SEEN[:1], ["Oslo"]), FinetuneConfig(5e-3, epochs=5), 0)
    assert writer.model.score([prompt], [target], [0], writer.adapter)[0] > before + 0.5


def test_saved_and_loaded_it_writes_the_same(models, tmp_path):
    writer = policy(models, seed=3)
    writer.imitate(pairs(SEEN, ["Oslo", "a vet", "chess"]), FinetuneConfig(5e-3, epochs=2), 0)
    writer.save(tmp_path)
    other = policy(models, seed=4)
    other.load(tmp_path)
    assert (other.adapter.weights == writer.adapter.weights).all()
    assert other.write(SEEN, [1, 2, 3]) == writer.write(SEEN, [1, 2, 3])
    # And it goes on learning in the same way.
    for one in (writer, other):
        one.imitate(pairs(SEEN, ["a", "b", "c"]), FinetuneConfig(5e-3, epochs=2), 1)
    assert (other.adapter.weights == writer.adapter.weights).all()


def test_finetuning_that_diverges_is_one_line(models):
    with pytest.raises(UserError, match="lower its learning rate"):
        policy(models).imitate(pairs(SEEN, ["a"] * 3), FinetuneConfig(1e38, epochs=4), 0)


def test_a_long_passage_loses_its_middle(models):
    writer = policy(models, argument="rewrite")
    long = {"context": f"Ada {'vet ' * 5000} Oslo", "model_state": None}
    ids = writer.read(long)
    whole = prompt_tokens(writer.model.renderer, "rewrite", long["context"], 10_000).ids
    assert len(ids) == writer.model.max_length - 8
    assert writer.tokens.read(long["context"]).cut == len(whole) - len(ids)
    assert ids[:250] == whole[:250] and ids[-250:] == whole[-250:]


def test_the_end_of_a_turn_is_what_a_chat_model_learns(models, chat_model, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "seal_agents.policies.language_model.finetune",
        lambda learner, bank, data, tell: (
            seen.extend(data[0].examples) or [SimpleNamespace(failed=False, loss=0.0)]
        ),
    )
    for model, end in ((chat_model, "<|im_end|>"), (models["qwen2"], "<|endoftext|>")):
        writer = Policy(context(model), PolicyOptions(max_new_tokens=8), True)
        token = writer.model.tokenizer.convert_tokens_to_ids(end)
        texts = ["Oslo", "a vet and a cat in Oslo, a vet"]
        writer.imitate(pairs(SEEN[:2], texts), FinetuneConfig(), 0)
        whole, cut = (example.ids[example.unscored :] for example in seen)
        assert whole == (*writer.model.encode_answer("Oslo"), token)
        assert len(cut) == 8 and token not in cut  # it was still writing
        assert token in writer.model.stop_ids
        seen.clear()


def test_the_prompt_can_be_named(models):
    plain, named = policy(models), policy(models, argument="rewrite")
    assert plain.prompt == "notes"
    assert named.prompt == "rewrite" and named.read(SEEN[0]) != plain.read(SEEN[0])
    with pytest.raises(UserError, match="unknown prompt 'nosuch'"):
        policy(models, prompt="nosuch")


def test_no_room_for_a_prompt_is_said(models):
    with pytest.raises(UserError, match="leave room for a prompt"):
        policy(models, max_new_tokens=512).write(SEEN, [1, 2, 3])


def test_a_folder_without_an_adapter_is_said(models, tmp_path):
    with pytest.raises(UserError, match="no readable PEFT adapter"):
        policy(models).load(tmp_path)


CODE = """
from transformers import Qwen2Config, Qwen2ForCausalLM


class OwnConfig(Qwen2Config):
    model_type = "own"


class OwnModel(Qwen2ForCausalLM):
    config_class = OwnConfig
"""


@pytest.mark.slow
def test_a_model_with_code_of_its_own_writes_where_the_environment_may_load_it(
    chat_model, tmp_path, monkeypatch
):
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "own"
    shutil.copytree(chat_model, folder)
    (folder / "own.py").write_text(CODE)
    config = json.loads((folder / "config.json").read_text())
    code = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    config |= {"model_type": "own", "architectures": ["OwnModel"], "auto_map": code}
    (folder / "config.json").write_text(json.dumps(config))
    given = context(str(folder))
    with pytest.raises(UserError, match="give --trust-remote-code"):
        Policy(given, PolicyOptions(max_new_tokens=4), True)
    trusted = replace(given, env=replace(given.env, trust_remote_code=True))
    writer = Policy(trusted, PolicyOptions(max_new_tokens=4), True)
    assert len(writer.write(SEEN, [1, 2, 3])) == 3
    assert without_adapter(writer.model).trust_remote_code
    options = PPOOptions(max_new_tokens=4)
    assert ProximalPolicy(replace(trusted, options=options)).ppo.policy.learner is writer.model
