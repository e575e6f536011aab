"""The language `subspace` and its basis: linear, to scale, fixed by a seed; SB3 trains on it."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import FilterObservation, FlattenObservation
from helpers import LORA, random_ids, weights_hash
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.env_checker import check_env

import seal_env  # noqa: F401 (registers SelfEdit-v0)
from seal_env.edits import EDITS
from seal_env.edits.subspace import Subspace, SubspaceConfig
from seal_env.engine.deltas import norm_of
from seal_env.engine.lora import AdapterBank, LoraConfig, find_targets
from seal_env.engine.subspace import Basis
from seal_env.errors import UserError
from seal_env.tasks.base import Problem

CPU = torch.device("cpu")
PROBLEM = Problem("p", "", "", ())
SETTINGS = {"task": "helpers:OneQuestion", "model": "tiny", "edit": "subspace"}


@pytest.fixture(scope="module")
def made():
    return Subspace(SubspaceConfig(count=3, reach=0.5))


def basis_of(learner, seed=0, lora=LORA):
    return Basis(learner, find_targets(learner.model, lora), lora, seed)


def update_of(learner, weights, lora=LORA):
    """The change of each adapted matrix, by name."""
    bank = AdapterBank(find_targets(learner.model, lora), lora, 1, CPU)
    bank.weights[0] = weights
    return {name: lora.alpha / lora.rank * (b[0] @ a[0]) for name, (a, b) in bank.matrices.items()}


def test_is_registered():
    assert EDITS.load("subspace") is Subspace


def test_its_earlier_name_is_an_alias():
    assert EDITS.load("gradient") is Subspace
    assert "gradient" in EDITS and "gradient" not in list(EDITS)
    action = np.array([0.3, -0.2, 0.1, 0, 0, 0, 0, 1], np.float32)
    rewards = []
    for name in ("gradient", "subspace"):
        env = gym.make("SelfEdit-v0", **SETTINGS | {"edit": name}, reward="log_likelihood")
        env.reset(seed=0, options={"problems": 0})
        rewards.append(env.step(action)[1])
    assert rewards[0] == rewards[1] != 0


def test_the_action_space():
    assert Subspace().action_space() == gym.spaces.Box(-1, 1, (8,), np.float32)
    assert Subspace(SubspaceConfig(count=3)).action_space().shape == (3,)


@pytest.mark.parametrize(
    "action",
    [
        np.array([0.5, -1, 0.25], np.float32),
        np.array([0.5, -1, 0.25], np.float16),
        [0.5, -1, 0.25],
        (0.5, -1, np.float64(0.25)),
        torch.tensor([0.5, -1, 0.25]),
        "[0.5, -1, 0.25]",
        " 0.5 -1   +.25\n",
    ],
)
def test_what_is_a_vector_is_read_as_one(made, action):
    edit = made.parse(action, PROBLEM)
    assert edit.error is None
    assert edit.update.coefficients == (0.25, -0.5, 0.125)
    assert not edit.truncated
    assert edit.update.texts() == ()


def test_numbers_out_of_range_are_cut_off(made):
    edit = made.parse([2.0, -1e300, 0.5], PROBLEM)
    assert edit.update.coefficients == (0.5, -0.5, 0.25)
    assert edit.truncated


class Hostile:
    """Neither an array nor willing to become one."""

    def __array__(self, *args, **kwargs):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        ([0.5, 1.0], "shape (2,), expected (3,)"),
        ([[0.5, 1.0, 0.0]], "shape (1, 3), expected (3,)"),
        ([], "shape (0,)"),
        (0.5, "shape ()"),
        ([0.5, float("nan"), 0.0], "not finite"),
        ([0.5, float("-inf"), 0.0], "not finite"),
        ("[0.1, NaN, 0.2]", "not finite"),
        ("0.1 1e400 0.2", "not finite"),
        ("0.1 0.2", "shape (2,)"),
        ("", "shape (0,)"),
        ("x" * 100_000, "not a vector"),
        ("1 " * 100_000, "shape"),
        ("go on: 0.1 0.2 0.3", "not a vector"),
        ([10**400, 0, 0], "not a vector"),
        ([1j, 0, 0], "not a vector"),
        (["0.1", "0.2", "0.3"], "not a vector"),
        ([True, False, True], "not a vector"),
        ([[1], [1, 2]], "not a vector"),
        (None, "not a vector"),
        ({"a": 1}, "not a vector"),
        (Hostile(), "not a vector"),
    ],
)
def test_what_is_no_vector_is_an_error(made, action, reason):
    edit = made.parse(action, PROBLEM)
    assert reason in edit.error
    assert "\n" not in edit.error
    assert edit.update is None


@pytest.mark.parametrize("config", [{"count": 0}, {"reach": 0.0}, {"reach": float("nan")}])
def test_senseless_settings(config):
    with pytest.raises(UserError):
        SubspaceConfig(**config)


def test_a_coefficient_of_one_changes_each_matrix_by_its_own_norm(learner):
    basis = basis_of(learner)
    for index in (0, 5):
        for name, change in update_of(learner, basis.weights([0.0] * index + [1.0])).items():
            assert float(change.norm()) == pytest.approx(norm_of(learner, name), rel=1e-4)


def test_the_change_of_the_matrices_is_linear_in_the_coefficients(llama):
    basis = basis_of(llama)
    c, d = [0.3, -0.2, 0.0, 0.7], [0.1, 0.5, -0.4, -0.7]
    first, second = (update_of(llama, basis.weights(x)) for x in (c, d))
    both = update_of(llama, basis.weights([x + y for x, y in zip(c, d, strict=True)]))
    stream = update_of(llama, basis.weights(d, basis.weights(c)))
    for name in first:
        expected = first[name] + second[name]
        assert expected.norm() > 0.1
        torch.testing.assert_close(both[name], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(stream[name], expected, rtol=1e-4, atol=1e-5)


def test_no_coefficients_no_change(llama):
    basis = basis_of(llama)
    for weights in (basis.start, basis.weights([0.0, 0.0])):
        assert not any(change.any() for change in update_of(llama, weights).values())
    bank = AdapterBank(basis.targets, LORA, 1, CPU)
    bank.weights[0] = basis.weights([0.0])
    texts = [[random_ids(9, 1)], [random_ids(3, 2)], [0]]
    assert llama.score(*texts, bank) == pytest.approx(llama.score(*texts, None), abs=1e-6)


def test_the_basis_is_fixed_by_its_seed(llama):
    kept = torch.get_rng_state()
    c = [0.5, -0.5]
    assert torch.equal(basis_of(llama).weights(c), basis_of(llama).weights(c))
    assert torch.equal(basis_of(llama).weights(c), basis_of(llama).weights([*c, 0.0]))
    assert not torch.equal(basis_of(llama).weights(c), basis_of(llama, seed=1).weights(c))
    assert torch.equal(torch.get_rng_state(), kept)


def test_vectors_are_all_but_orthogonal(llama):
    lora = LoraConfig(8, 16.0, ("all-linear",))
    basis = basis_of(llama, lora=lora)
    flat = []
    for index in range(6):
        weights = basis.weights([0.0] * index + [1.0])
        flat.append(torch.cat([x.flatten() for x in update_of(llama, weights, lora).values()]))
    rows = torch.stack(flat)
    cosines = torch.corrcoef(rows) - torch.eye(6)
    assert cosines.abs().max() < 0.1


def test_larger_steps_change_the_learner_more(llama):
    basis = basis_of(llama)
    bank = AdapterBank(basis.targets, LORA, 3, CPU)
    for index, reach in enumerate((0.0, 0.1, 1.0)):
        bank.weights[index] = basis.weights([reach, -reach])
    states, _ = llama.describe([random_ids(20, 1)] * 3, [0, 1, 2], bank)
    small, large = (float(np.linalg.norm(state - states[0])) for state in states[1:])
    assert 1e-3 < 2 * small < large


def flat_env(**settings):
    env = gym.make("SelfEdit-v0", **SETTINGS | settings)
    return FlattenObservation(FilterObservation(env, ["model_state"]))


def test_an_action_moves_the_learner_and_reset_restores_it():
    env = gym.make("SelfEdit-v0", **SETTINGS, edit_options={"config": SubspaceConfig(4, 0.5)})
    learner = env.unwrapped.episodes.loop.learner
    before = weights_hash(learner.model)
    first, _ = env.reset(seed=0, options={"problems": 0})
    found = []
    for action in ([0.0] * 4, [1.0, -1.0, 1.0, 0.5], [1.0, -1.0, 1.0, 0.5], [np.nan] * 4):
        again, _ = env.reset(seed=0, options={"problems": 0})
        assert (again["model_state"] == first["model_state"]).all()
        found.append(env.step(np.array(action, np.float32))[4])
    nothing, moved, same, wrong = found
    assert nothing["error"] == moved["error"] == ""
    assert nothing["log_likelihood"] == pytest.approx(nothing["log_likelihood_before"], abs=1e-5)
    assert abs(moved["log_likelihood"] - moved["log_likelihood_before"]) > 0.05
    assert moved == same
    assert "not finite" in wrong["error"]
    assert wrong["log_likelihood"] == wrong["log_likelihood_before"]
    assert weights_hash(learner.model) == before


def test_steps_of_a_stream_add_up():
    """Two half steps are a whole one; the last problem of both streams is the same."""
    config = {"config": SubspaceConfig(2, 0.4)}
    twice = gym.make("SelfEdit-v0", **SETTINGS, edit_options=config, horizon=2)
    twice.reset(seed=0, options={"problems": [0, 1]})
    twice.step(np.array([0.5, -0.5], np.float32))
    in_two = twice.step(np.array([0.5, -0.5], np.float32))[4]
    once = gym.make("SelfEdit-v0", **SETTINGS, edit_options=config)
    once.reset(seed=0, options={"problems": 1})
    in_one = once.step(np.array([1.0, -1.0], np.float32))[4]
    assert in_two["log_likelihood"] == pytest.approx(in_one["log_likelihood"], abs=1e-4)
    assert abs(in_one["log_likelihood"] - in_one["log_likelihood_before"]) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("flatten", [False, True])
def test_sb3_accepts_it(flatten):
    env = FilterObservation(gym.make("SelfEdit-v0", **SETTINGS), ["model_state"])
    check_env(FlattenObservation(env) if flatten else env)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        (PPO, {"n_steps": 8, "batch_size": 8, "n_epochs": 1}),
        (SAC, {"learning_starts": 6, "batch_size": 4, "buffer_size": 50}),
        (TD3, {"learning_starts": 6, "batch_size": 4, "buffer_size": 50}),
    ],
)
def test_sb3_trains_on_it_unmodified(algorithm, settings):
    agent = algorithm(
        "MlpPolicy", flat_env(reward="log_likelihood"), seed=0, device="cpu", **settings
    )
    before = [p.detach().clone() for p in agent.policy.parameters()]
    agent.learn(16)
    assert any(
        not torch.equal(p, q) for p, q in zip(before, agent.policy.parameters(), strict=True)
    )
    action, _ = agent.predict(agent.env.reset())
    assert agent.action_space.contains(action[0])


def test_a_vector_step_is_what_each_would_be_alone():
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 8)).astype(np.float32)
    actions[3] = np.nan
    envs = gym.make_vec("SelfEdit-v0", num_envs=5, **SETTINGS)
    envs.reset(seed=[3] * 5, options={"problems": [0, 1, 0, 1, 2]})
    rewards = envs.step(actions)[1]
    env = gym.make("SelfEdit-v0", **SETTINGS)
    for action, problem, reward in zip(actions, [0, 1, 0, 1, 2], rewards, strict=True):
        env.reset(seed=3, options={"problems": problem})
        assert env.step(action)[1] == reward
