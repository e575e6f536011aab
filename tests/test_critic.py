"""Critics: the regression, their files, and the reward term."""

import json
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

import seal_env  # noqa: F401
from seal_env.critics import Critic, load_critic
from seal_env.critics.base import fingerprint
from seal_env.critics.classifier import ClassifierScore
from seal_env.critics.hidden_states import HiddenStates, without_adapter
from seal_env.critics.ridge import PENALTIES, fit_ridge
from seal_env.engine.loading import load_learner
from seal_env.errors import UserError
from seal_env.pretraining.tokenizer import build_tokenizer

PASSAGE = "Ada Cho was born in Oslo."
PAIRS = [(PASSAGE, text) for text in ("Ada", "Ada Oslo Oslo", "", "Ada was born in Oslo .", "Lima")]
REWARDS = [0.1, 0.4, 0.0, 0.9, 0.2]


@pytest.fixture(scope="module")
def critic(llama):
    return Critic.fit(HiddenStates(llama), PAIRS, REWARDS, nothing=0.05)


@pytest.fixture
def folder(critic, tmp_path):
    critic.save(tmp_path, {"pairs": 5})
    return tmp_path


def noisy(count=40, width=6, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, width)) * 10.0 ** np.arange(width) + 3
    return x, x[:, 0] - x[:, 1] / 10 + random.normal(size=count)


def by_hand(x, y, penalty):
    """Ridge regression by its normal equations, and its hat matrix."""
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    inverse = np.linalg.inv(z.T @ z + penalty * np.eye(x.shape[1]))
    hat = z @ inverse @ z.T + 1 / len(y)
    return y.mean() + z @ inverse @ z.T @ (y - y.mean()), hat


def test_the_regression_is_that_of_the_normal_equations_at_the_penalty_of_the_least_gcv():
    def gcv(penalty):
        predicted, hat = by_hand(x, y, penalty)
        return np.mean((y - predicted) ** 2) / (1 - np.trace(hat) / len(y)) ** 2

    chosen = set()
    for seed in range(20):
        x, y = noisy(12, 6, seed)
        head = fit_ridge(x, y)
        assert head.penalty == min(PENALTIES, key=gcv)
        assert head.predict(x) == pytest.approx(by_hand(x, y, head.penalty)[0])
        chosen.add(head.penalty)
    assert len(chosen) > 5


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_examples_equal_features_and_equal_rewards_give_finite_predictions(count):
    x, _ = noisy(count, 8)
    x[:, 3] = 7.0
    for y in (np.ones(count), np.arange(count, dtype=float)):
        assert np.isfinite(fit_ridge(x, y).predict(x)).all()
    assert fit_ridge(x, np.ones(count)).predict(x * 2) == pytest.approx(np.ones(count))


def test_features_are_the_mean_hidden_states_of_the_self_edit_alone(llama):
    ids = llama.renderer.encode(PASSAGE + "\n") + llama.renderer.answer("Ada Oslo")
    with torch.no_grad():
        row = torch.tensor([ids])
        network = llama.copy_model()
        network.set_attn_implementation("eager")
        states = network.model(row).last_hidden_state[0].double()
    (found,) = HiddenStates(llama).measure([(PASSAGE, "Ada Oslo")])
    assert found == pytest.approx(states[-2:].mean(dim=0).numpy(), abs=1e-5)


def test_a_score_is_the_same_to_the_bit_alone_beside_others_and_in_any_order(critic, monkeypatch):
    together = critic.score(PAIRS)
    assert len(set(together)) == len(PAIRS)
    assert critic.score(PAIRS[::-1]) == together[::-1]
    assert [critic.score([pair])[0] for pair in PAIRS] == together
    monkeypatch.setattr("seal_env.critics.hidden_states.TOKENS_PER_PASS", 1)
    assert critic.score(PAIRS) == together


@pytest.mark.parametrize("text", ["x " * 3000, "\ud800", "\x00", "<|endoftext|>", "\n" * 700])
def test_any_text_has_a_finite_score(critic, text):
    assert all(math.isfinite(value) for value in critic.score([(PASSAGE, text), (text, "Ada")]))


def test_a_critic_is_what_was_saved(critic, folder, llama):
    again = load_critic(folder, llama)
    assert again.score(PAIRS) == critic.score(PAIRS) and again.nothing == 0.05
    assert json.loads((folder / "critic.json").read_text())["pairs"] == 5


def test_a_critic_of_another_learner_is_refused_in_one_line(folder, models):
    other = load_learner(models["gpt2"], device="cpu")
    with pytest.raises(UserError, match=r"was trained for the model .*llama.* with other weights"):
        load_critic(folder, other)


def test_a_fingerprint_is_of_the_weights_and_not_of_the_precision(models):
    in_half = load_learner(models["llama"], dtype="bfloat16", device="cpu")
    network = load_learner(models["llama"], device="cpu").copy_model()
    before = fingerprint(network)
    assert fingerprint(in_half.model) == before
    with torch.no_grad():
        network.model.layers[0].mlp.up_proj.weight *= 1.1
    assert fingerprint(network) != before


def damage(folder, **values):
    config = json.loads((folder / "critic.json").read_text())
    (folder / "critic.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda at: (at / "critic.safetensors").write_bytes(b"x"), "cannot be read"),
        (lambda at: (at / "critic.json").write_text("{"), "cannot be read"),
        (lambda at: (at / "critic.json").write_text("{}"), "no 'features'"),
        (lambda at: damage(at, bias=math.inf), "is not finite"),
        (lambda at: damage(at, features="of another kind"), "not known here"),
        (lambda at: (at / "critic.json").unlink(), "no critic here"),
    ],
)
def test_a_damaged_critic_is_one_line(folder, llama, wrong, message):
    wrong(folder)
    with pytest.raises(UserError, match=message):
        load_critic(folder, llama)


# ---- a sequence classifier --------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    tokenizer = build_tokenizer(64)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_classifiers_score_is_its_log_odds_and_its_critic_can_be_saved(
    classifier, llama, tmp_path
):
    features = ClassifierScore(str(classifier), "cpu")
    network = LlamaForSequenceClassification.from_pretrained(classifier, dtype=torch.float32)
    ids = build_tokenizer(64)(*PAIRS[1], return_tensors="pt")
    with torch.no_grad():
        first, second = network(**ids).logits[0].tolist()
    assert features.measure(PAIRS[1:2])[0, 0] == pytest.approx(second - first, abs=1e-6)
    critic = Critic.fit(features, PAIRS, REWARDS, nothing=0.0)
    critic.save(tmp_path, {})
    assert load_critic(tmp_path, llama).score(PAIRS) == critic.score(PAIRS)
    assert np.isfinite(features.measure([("x " * 900, "\ud800")])).all()


def test_a_model_without_a_trained_head_or_with_pickled_weights_is_refused(
    classifier, models, tmp_path
):
    with pytest.raises(UserError, match=r"has no weights for score\.weight"):
        ClassifierScore(models["llama"], "cpu")
    for file in classifier.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded as a sequence classifier"):
        ClassifierScore(str(tmp_path), "cpu")


# ---- the reward term --------------------------------------------------------------------------


def make(folder, model, **settings):
    options = {"critic": {"path": str(folder)}}
    return gym.make(
        "SelfEdit-v0",
        model=model,
        reward="accuracy + 0.5 * critic",
        reward_options=options,
        **settings,
    ).unwrapped


def test_the_term_is_the_critics_prediction(folder, critic, models):
    env = make(folder, models["llama"])
    seen, _ = env.reset(seed=0)
    _, reward, _, _, info = env.step("Ada Oslo")
    (expected,) = critic.score([(seen["context"], "Ada Oslo")])
    assert info["terms"]["critic"] == expected
    assert reward == pytest.approx(info["terms"]["accuracy"] + 0.5 * expected)
    assert info["reward_before"] == pytest.approx(info["accuracy_before"] + 0.5 * 0.05)


def test_without_an_update_the_term_is_the_value_of_nothing(folder, models):
    env = make(folder, models["llama"], edit="weights")
    env.reset(seed=0)
    *_, info = env.step("nonsense")
    assert info["error"] and info["terms"]["critic"] == 0.05
    env.reset(seed=0)
    *_, info = env.step("scale layer 0 attention by 1.05")
    assert not info["error"] and info["terms"]["critic"] != 0.05


def test_the_base_reads_also_where_the_learner_has_an_adapter(llama, models):
    assert without_adapter(llama) is load_learner(models["llama"], dtype="float32", device="cpu")


def test_a_critic_of_another_learner_is_refused_when_the_environment_is_made(folder, models):
    with pytest.raises(UserError, match="was trained for the model"):
        make(folder, models["gpt2"])
    with pytest.raises(UserError, match="reward term 'critic': critic /no/such: no critic here"):
        make("/no/such", models["llama"])
    with pytest.raises(UserError, match="needs the option path"):
        gym.make("SelfEdit-v0", reward="critic")
