"""Updates are open: kinds of a user's own, any kinds side by side, streams, restoring."""

import ast
import pickle
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env
from helpers import INNER, weights_hash

from seal_env import inner_loop
from seal_env.edits import SelfEdit
from seal_env.engine.mixed_bank import MixedBank, bank_of
from seal_env.updates import Finetuning

SETTINGS = {
    "task": "helpers:OneQuestion",
    "edit": "own_update:Mixed",
    "reward": "log_likelihood",
    "inner": INNER,
}
ACTIONS = (
    "shift 0.5",
    "learn Ada Cho plays the flute.",
    "scale 1.5",
    "what is this",
    "go 0.3 -0.2",
    "shift -2",
    "rescale Ada Cho plays the flute.",
    "learn x",
    "scale 0.25",
    "learn Ada Cho plays the flute. " * 9,
)


def env_of(models, architecture="llama", **settings):
    return gym.make("SelfEdit-v0", **SETTINGS | {"model": models[architecture]} | settings)


def step_alone(env, action, problem, seed=4):
    env.reset(seed=seed, options={"problems": problem})
    observation, reward, _, _, info = env.step(action)
    return observation["model_state"].tobytes(), reward, info


def test_a_self_edit_is_either_an_update_or_an_error():
    for wrong in ({}, {"update": Finetuning(("a",)), "error": "no"}):
        with pytest.raises(ValueError, match="either an update or an error"):
            SelfEdit(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("horizon", [1, 2])
def test_kinds_side_by_side_are_each_what_it_is_alone_to_the_bit(models, dtype, horizon):
    """The second step of a stream goes on from the first one's state."""
    count = len(ACTIONS)
    problems = [[i % 3, (i + 1) % 3][:horizon] for i in range(count)]
    settings = SETTINGS | {"model": models["llama"], "dtype": dtype, "horizon": horizon}
    envs = gym.make_vec("SelfEdit-v0", num_envs=count, **settings)
    env = gym.make("SelfEdit-v0", **settings)
    envs.reset(seed=[4] * count, options={"problems": problems})
    together = [envs.step(ACTIONS) for _ in range(horizon)]
    assert len(set(together[-1][1].tolist())) == count
    for i, action in enumerate(ACTIONS):
        env.reset(seed=4, options={"problems": problems[i]})
        for observations, rewards, *_, infos in together:
            observation, reward, terminated, _, info = env.step(action)
            assert reward == rewards[i]
            last = infos["final_info"] if terminated else infos
            assert info["log_likelihood"] == last["log_likelihood"][i]
            assert bool(info["error"]) == (action == "what is this")
            if not terminated:
                assert (observation["model_state"] == observations["model_state"][i]).all()


def test_kinds_side_by_side_run_through_the_layers_of_transformers_too(models, monkeypatch):
    monkeypatch.setattr("own_update.MODULE", "transformer.h.1.mlp.c_proj")
    monkeypatch.setattr("own_update.ShiftBank.modules", ("transformer.h.1.mlp.c_proj",))
    settings = SETTINGS | {"model": models["gpt2"]}
    envs = gym.make_vec("SelfEdit-v0", num_envs=len(ACTIONS), **settings)
    envs.reset(seed=[4] * len(ACTIONS), options={"problems": [0] * len(ACTIONS)})
    rewards = envs.step(ACTIONS)[1]
    env = gym.make("SelfEdit-v0", **settings)
    assert [step_alone(env, action, 0)[1] for action in ACTIONS] == rewards.tolist()
    assert len(set(rewards.tolist())) == len(ACTIONS)


def test_a_mixed_bank_is_made_only_where_kinds_are_mixed(models):
    env = env_of(models).unwrapped
    states = []
    for action in ("shift 1", "learn x", "scale 2"):
        env.reset(seed=0, options={"problems": 0})
        env.step(action)
        states.append(env.episodes.running[0].state)
    model = env.episodes.loop.learner.model
    assert bank_of([None, None], model) is None
    for state in states:
        assert not isinstance(bank_of([state, None, state], model), MixedBank)
    assert isinstance(bank_of([*states, None], model), MixedBank)
    assert all(state.norm() > 0 for state in states)


def test_reset_restores_the_learner_to_the_bit(models):
    env = env_of(models)
    model = env.unwrapped.episodes.loop.learner.model
    before = weights_hash(model)
    first, _ = env.reset(seed=0, options={"problems": 1})
    for action in ACTIONS:
        one, other = step_alone(env, action, 1), step_alone(env, action, 1)
        assert one == other
        again, _ = env.reset(seed=0, options={"problems": 1})
        assert (again["model_state"] == first["model_state"]).all()
    assert weights_hash(model) == before


def test_a_stream_goes_on_from_the_earlier_update(models):
    stream, once = env_of(models, horizon=2), env_of(models)
    stream.reset(seed=0, options={"problems": [0, 1]})
    norm = stream.step("shift 0.5")[0]["model_state"][-3]
    assert norm == 0.5
    twice = stream.step("shift 0.25")[4]
    at_once = step_alone(once, "shift 0.75", 1)[2]
    assert twice["log_likelihood"] == at_once["log_likelihood"]
    assert twice["parsed"] == "shift by 0.25" and twice["error"] == ""


@pytest.mark.parametrize(("first", "second"), [("shift 1", "learn x"), ("learn x", "scale 2")])
def test_a_stream_that_changes_its_kind_is_an_error_and_goes_on(models, first, second):
    env = env_of(models, horizon=3)
    env.reset(seed=0, options={"problems": [0, 1, 2]})
    state = env.step(first)[0]["model_state"]
    observation, _, _, _, info = env.step(second)
    assert "cannot go on from" in info["error"] and info["error"].isprintable()
    assert info["log_likelihood"] == info["log_likelihood_before"]
    assert observation["model_state"][-3] == state[-3]  # the norm of what it has
    assert env.step(first)[4]["error"] == ""


def test_finetuning_and_steps_in_the_subspace_share_an_adapter(models):
    env = env_of(models, horizon=2)
    env.reset(seed=0, options={"problems": [0, 1]})
    env.step("learn Ada Cho plays the flute.")
    assert env.step("go 0.3 -0.2")[4]["error"] == ""


def test_gymnasium_accepts_an_update_of_ones_own(models):
    check_env(env_of(models).unwrapped, skip_render_check=True)


def test_an_environment_in_the_middle_of_a_stream_can_be_pickled(models):
    env = env_of(models, horizon=2).unwrapped
    env.reset(seed=0, options={"problems": [0, 1]})
    env.step("shift 0.5")
    copied = pickle.loads(pickle.dumps(env.episodes.running))
    assert copied[0].state == env.episodes.running[0].state


def test_the_inner_loop_does_not_ask_for_kinds():
    code = ast.parse(Path(inner_loop.__file__).read_text("utf-8"))
    called = {
        node.func.id
        for node in ast.walk(code)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"isinstance", "issubclass", "hasattr", "getattr"}
    modules = {node.module for node in ast.walk(code) if isinstance(node, ast.ImportFrom)}
    assert {m for m in modules if m.startswith("seal_env.updates")} == {"seal_env.updates.base"}
