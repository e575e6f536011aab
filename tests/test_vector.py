"""SelfEditVectorEnv: many self-edits in one pass, each as if it were alone."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from helpers import INNER

from seal_env.env import SelfEditEnv
from seal_env.errors import UserError
from seal_env.updates import finetuning
from seal_env.vector import SelfEditVectorEnv

EDIT = "Ada Cho was born in Oslo.\nThe pet of Ada Cho is a goat."
TEXTS = [EDIT, "", "x", EDIT * 3, "---", "\ud800 Oslo", "Question: Where?\nAnswer: Oslo", EDIT]
PROBLEMS = [5, 5, 5, 5, 1, 2, 3, 4]


@pytest.fixture
def make(models):
    def build(num_envs=8, **changes):
        return SelfEditVectorEnv(num_envs, **{"model": models["llama"], "inner": INNER, **changes})

    return build


def test_gymnasium_makes_it(models):
    env = gym.make_vec("SelfEdit-v0", num_envs=8, model=models["llama"], inner=INNER)
    assert isinstance(env.unwrapped, SelfEditVectorEnv)
    assert env.num_envs == 8
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    observations, infos = env.reset(seed=0)
    assert observations in env.observation_space
    assert infos["_problem"].all()
    actions = env.action_space.sample()
    assert actions in env.action_space
    observations, rewards, terminated, truncated, _ = env.step(actions)
    assert observations in env.observation_space
    assert rewards.shape == terminated.shape == truncated.shape == (8,)
    assert rewards.dtype == np.float64
    assert terminated.all()
    assert not truncated.any()


def test_each_is_what_it_is_alone_to_the_bit(make, models):
    env = make(reward="accuracy + log_likelihood")
    first, _ = env.reset(seed=3, options={"problems": PROBLEMS})
    _, rewards, _, _, infos = env.step(TEXTS)
    final = infos["final_info"]
    one = SelfEditEnv(model=models["llama"], inner=INNER, reward="accuracy + log_likelihood")
    for i, (text, problem) in enumerate(zip(TEXTS, PROBLEMS, strict=True)):
        observation, _ = one.reset(seed=3, options={"problems": problem})
        assert observation["context"] == first["context"][i]
        assert (observation["model_state"] == first["model_state"][i]).all()
        observation, reward, _, _, info = one.step(text)
        assert reward == rewards[i]
        assert info["log_likelihood"] == final["log_likelihood"][i]
        assert info["answers"] == list(final["answers"][i])
        assert (observation["model_state"] == infos["final_obs"][i]["model_state"]).all()


def test_order_does_not_matter(make):
    env = make(reward="log_likelihood")
    env.reset(seed=3, options={"problems": PROBLEMS})
    rewards = env.step(TEXTS)[1]
    env.reset(seed=3, options={"problems": PROBLEMS[::-1]})
    assert (env.step(TEXTS[::-1])[1] == rewards[::-1]).all()


def test_a_group_shares_its_seed(make):
    env = make(4, reward="log_likelihood")
    env.reset(seed=3, options={"problems": [6] * 4})
    rewards = env.step([EDIT] * 4)[1]
    assert len(set(rewards)) == 1


def alone(models, seed, texts, **changes):
    """Rewards and problems of one environment over episodes, the first of which is seeded."""
    one = SelfEditEnv(model=models["llama"], inner=INNER, reward="log_likelihood", **changes)
    found = []
    for text in texts:
        found.append((one.reset(seed=seed)[1]["problem"], one.step(text)[1]))
        seed = None
    return found


def played(env, texts, **arguments):
    """What `alone` returns, of each of many; every step ends an episode of each."""
    problems = env.reset(**arguments)[1]["problem"]
    found = []
    for text in texts:
        _, rewards, _, _, infos = env.step([text] * env.num_envs)
        found.append([(str(p), float(r)) for p, r in zip(problems, rewards, strict=True)])
        problems = infos["problem"]
    return [list(column) for column in zip(*found, strict=True)]


DRAWN = 174826059023654817230459812763450981237  # 127 bits, as Gymnasium draws them


@pytest.mark.slow
@pytest.mark.parametrize(
    "seeds",
    [
        [1, 2, 1],
        [3, 3, 3],
        (0, 1 << 31, 1 << 62),
        [(1 << 63) - 1, 1 << 64, DRAWN],
        np.array([5, 6, 7], dtype=np.uint8),
        [np.int64(4), np.int32(4), 4],
    ],
)
def test_a_list_of_seeds_gives_each_what_it_has_alone(make, models, seeds):
    texts = [EDIT, "Ada Cho.", EDIT]
    found = played(make(3, reward="log_likelihood"), texts, seed=seeds)
    assert found == [alone(models, int(seed), texts) for seed in seeds]


@pytest.mark.slow
def test_none_in_a_list_keeps_what_was_there(make, models):
    texts = [EDIT, "x"]
    env = make(2, reward="log_likelihood")
    first = played(env, texts, seed=[1, 2])
    going_on = played(env, texts, seed=[1, None])
    assert going_on[0] == first[0] == alone(models, 1, texts)
    assert going_on[1] == alone(models, 2, [*texts, "", *texts])[3:]
    assert first[1][0] != going_on[1][0]
    fresh = make(2, reward="log_likelihood")
    found = played(fresh, texts, seed=[1, None])
    assert found[0] == alone(models, 1, texts)
    assert np.isfinite([reward for _, reward in found[1]]).all()


@pytest.mark.slow
def test_what_was_drawn_without_a_seed_can_be_repeated(make, models):
    texts = [EDIT, "x"]
    for seed in (None, 5):
        env = make(2, reward="log_likelihood")
        found = played(env, texts, seed=seed)
        assert played(make(2, reward="log_likelihood"), texts, seed=env.np_random_seed) == found
    one = SelfEditEnv(model=models["llama"], inner=INNER, reward="log_likelihood")
    problem = one.reset()[1]["problem"]
    reward = one.step(EDIT)[1]
    assert one.np_random_seed.bit_length() > 64 or one.np_random_seed >= 0
    assert alone(models, one.np_random_seed, [EDIT]) == [(problem, reward)]


def test_one_seed_for_all_is_one_inner_seed_and_different_problems(make):
    env = make(4, reward="log_likelihood")
    for seed in (3, np.int64(3), DRAWN):
        first = env.reset(seed=seed)[1]["problem"]
        assert len(set(first)) == 4
        env.reset(seed=seed, options={"problems": [6] * 4})
        assert len(set(env.step([EDIT] * 4)[1])) == 1
    one = env.reset(seed=3, options={"problems": [6] * 4}) and env.step([EDIT] * 4)[1][0]
    env.reset(seed=[3] * 4, options={"problems": [6] * 4})
    assert set(env.step([EDIT] * 4)[1]) == {one}


@pytest.mark.parametrize(
    "seed",
    [
        True,
        np.True_,
        -1,
        1.5,
        "3",
        b"3",
        {},
        {1},
        np.array([0.5, 1.0]),
        [1, True],
        [1, -2],
        [[1], 2],
    ],
    ids=str,
)
def test_what_is_no_seed_is_one_line(make, models, seed):
    for env in (make(2), SelfEditEnv(model=models["llama"], inner=INNER)):
        with pytest.raises(UserError) as error:
            env.reset(seed=seed)
        assert "\n" not in str(error.value)


def test_actions_that_are_no_texts_are_one_line(make, models):
    env = make(2)
    env.reset(seed=0)
    for wrong in (
        None,
        5,
        "ab",
        b"ab",
        {"a": 1, "b": 2},
        {"a", "b"},
        ["x"],
        [5, "x"],
        ["x", b""],
    ):
        with pytest.raises(UserError) as error:
            env.step(wrong)
        assert "\n" not in str(error.value)
    assert np.isfinite(env.step(np.array(["x", EDIT]))[1]).all()
    assert np.isfinite(env.step(text for text in ("x", "y"))[1]).all()
    one = SelfEditEnv(model=models["llama"], inner=INNER)
    one.reset(seed=0)
    for wrong in (5, b"", ["x"], np.array("x")):
        with pytest.raises(UserError, match="must be a str"):
            one.step(wrong)
    info = one.step(np.str_("Ada \ud800\x00"))[4]
    assert {type(text) for text in info["sequences"]} == {str}


@pytest.mark.parametrize(
    "options",
    [
        5,
        "x",
        [1],
        {"problems": 5},
        {"problems": "ab"},
        {"problems": {0: 1, 1: 2}},
        {"problems": [True, False]},
        {"reset_mask": [1, 0]},
        {"reset_mask": np.array([False, False])},
        {"reset_mask": np.array([True])},
        {"reset_mask": [[True], True]},
        {"reset_mask": np.array([True, False])},
    ],
)
def test_options_of_a_wrong_kind_are_one_line(make, options):
    with pytest.raises(UserError) as error:
        make(2).reset(options=options)
    assert "\n" not in str(error.value)


def sync(models, mode, num_envs=3, **changes):
    """The same environments as Gymnasium puts them side by side."""
    settings = {"model": models["llama"], "inner": INNER, "reward": "log_likelihood", **changes}
    make = [lambda: SelfEditEnv(**settings) for _ in range(num_envs)]
    return gym.vector.SyncVectorEnv(make, autoreset_mode=mode)


def plain(value):
    """Nested arrays as lists."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(one) for one in value]
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [1, 2])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_each_autoreset_mode_does_what_gymnasiums_own_does(make, models, mode, horizon):
    seeds = [1, 2, 1]
    ours = make(3, reward="log_likelihood", horizon=horizon, autoreset_mode=mode)
    theirs = sync(models, mode, horizon=horizon)
    assert ours.metadata["autoreset_mode"] is ours.autoreset_mode is mode
    assert plain(ours.reset(seed=seeds)) == plain(theirs.reset(seed=seeds))
    texts = [[EDIT, "x", ""], ["", EDIT, "y"], ["z", "", EDIT]]
    over = np.zeros(3, dtype=bool)
    for round_ in range(4):
        if mode is AutoresetMode.DISABLED and over.any():
            only = np.array([True, round_ % 2 == 0, False]) if round_ == 1 else over
            for env in (ours, theirs):
                with pytest.raises((RuntimeError, AssertionError)):
                    env.step(texts[0])
            resets = [env.reset(options={"reset_mask": only.copy()}) for env in (ours, theirs)]
            assert plain(resets[0]) == plain(resets[1])
            if not only.all():
                rest = [e.reset(options={"reset_mask": ~only}) for e in (ours, theirs)]
                assert plain(rest[0]) == plain(rest[1])
        found, expected = (env.step(texts[round_ % 3]) for env in (ours, theirs))
        assert plain(found) == plain(expected)
        over = found[2] | found[3]
    ours.close()
    theirs.close()


def test_modes_go_by_their_names_and_values(make):
    for name in ("NEXT_STEP", "next_step", "NextStep", AutoresetMode.NEXT_STEP):
        assert make(1, autoreset_mode=name).autoreset_mode is AutoresetMode.NEXT_STEP
    for wrong in ("never", None, 3):
        with pytest.raises(UserError, match="SAME_STEP"):
            make(1, autoreset_mode=wrong)


def test_one_pass_of_finetuning_a_step(make, monkeypatch):
    calls = []
    real = finetuning.finetune

    def counting(learner, bank, *rest):
        calls.append(bank.count)
        return real(learner, bank, *rest)

    monkeypatch.setattr(finetuning, "finetune", counting)
    env = make()
    env.reset(seed=0)
    assert calls == []
    env.step(TEXTS)
    assert calls == [8]
    env.step(TEXTS)
    assert calls == [8, 8]


def test_episodes_that_end_begin_again_in_the_same_step(make):
    env = make()
    _, before = env.reset(seed=0)
    observations, _, terminated, _, infos = env.step([EDIT] * 8)
    assert terminated.all()
    final = infos["final_info"]
    assert list(final["problem"]) == list(before["problem"])
    assert not set(infos["problem"]) & set(before["problem"])
    assert infos["_final_info"].all()
    assert infos["_final_obs"].all()
    assert (observations["model_state"][:, -1] == 1).all()
    for i, last in enumerate(infos["final_obs"]):
        assert last in env.single_observation_space
        assert last["model_state"][-1] == 0
        assert infos["title"][i] in observations["context"][i]
    second = env.step([EDIT] * 8)[4]["final_info"]
    assert list(second["problem"]) == list(infos["problem"])


def test_infos_have_the_same_types_every_step(make):
    env = make()
    env.reset(seed=0)
    kinds = []
    for texts in (TEXTS, [""] * 8, [EDIT] * 8):
        final = env.step(texts)[4]["final_info"]
        kinds.append(
            {k: (v.dtype if isinstance(v, np.ndarray) else type(v)) for k, v in final.items()}
        )
        assert all(mask.all() for key, mask in final.items() if key.startswith("_"))
    assert kinds[0] == kinds[1] == kinds[2]
    assert kinds[0]["accuracy"] == np.float64
    assert np.issubdtype(kinds[0]["steps"], np.integer)


@pytest.mark.slow
def test_streams_go_on_until_their_horizon(make, models):
    env = make(2, horizon=3, reward="log_likelihood + retention")
    streams = [[1, 2, 3], [4, 5, 6]]
    env.reset(seed=7, options={"problems": streams})
    rewards = []
    for step in range(3):
        observations, reward, terminated, _, infos = env.step([EDIT, "Nobody knows."])
        rewards.append(reward)
        assert terminated.tolist() == [step == 2] * 2
        assert ("final_info" in infos) == (step == 2)
        if step < 2:
            assert infos["problem"][0].endswith(f"/{streams[0][step]}")
            assert observations["model_state"][0, -1] == pytest.approx(1 - (step + 1) / 3)
    one = SelfEditEnv(
        model=models["llama"], inner=INNER, horizon=3, reward="log_likelihood + retention"
    )
    for i, text in enumerate([EDIT, "Nobody knows."]):
        one.reset(seed=7, options={"problems": streams[i]})
        assert [one.step(text)[1] for _ in range(3)] == [r[i] for r in rewards]


def test_a_seed_fixes_all_problems_even_at_the_first_reset(make):
    env = make()
    first = env.reset(seed=5)[1]["problem"]
    following = env.step([""] * 8)[4]["problem"]
    again = env.reset(seed=5)[1]["problem"]
    assert list(first) == list(again)
    assert list(following) == list(env.step([""] * 8)[4]["problem"])
    assert len(set(first)) == 8
    assert list(env.reset()[1]["problem"]) != list(first)


def test_without_any_seed_it_works_too(make):
    env = make(2)
    env.reset()
    assert np.isfinite(env.step(["", EDIT])[1]).all()


def test_progress_is_told(make):
    env = make(2)
    stages = set()
    env.progress = lambda stage, done, total: stages.add(stage)
    env.reset(seed=0)
    env.step([EDIT, EDIT])
    assert stages == {"training", "asking"}


def test_wrong_numbers_are_one_line(make):
    with pytest.raises(UserError, match="num_envs"):
        make(0)
    env = make(2)
    for arguments in (
        {"seed": [1]},
        {"options": {"problems": [1]}},
        {"options": {"problems": [[1, 2], 3]}},
    ):
        with pytest.raises(UserError) as error:
            env.reset(**arguments)
        assert "\n" not in str(error.value)
    env.reset(seed=0)
    with pytest.raises(UserError, match="1 self-edits for 2"):
        env.step([EDIT])


def test_the_no_op_leaves_the_learner_as_it_is_and_moves_on(make, models):
    env = make(2, horizon=2, reward="log_likelihood + retention", autoreset_mode="DISABLED")
    env.reset(seed=1, options={"problems": [[1, 2], [1, 2]]})
    observations, rewards, over, _, first = env.step([EDIT, None])
    assert list(over) == [False, False] and list(first["text"]) == [EDIT, None]
    assert rewards[1] == first["reward_before"][1] == first["reward_before"][0] != rewards[0]
    norms = observations["model_state"][:, -3]
    assert norms[0] > 0 == norms[1]
    after, rewards, over, _, second = env.step([None, None])
    assert list(over) == [True, True] and list(second["steps"]) == [0, 0]
    assert list(rewards) == list(second["reward_before"])
    assert list(second["terms"]["retention"]) == [0, 0] and list(second["error"]) == ["", ""]
    assert after["model_state"][0, -3] == norms[0]
    one = SelfEditEnv(
        model=models["llama"], inner=INNER, horizon=2, reward="log_likelihood + retention"
    )
    one.reset(seed=1, options={"problems": [1, 2]})
    one.step(EDIT)
    assert one.step(None)[1] == rewards[0]


def test_the_no_op_of_an_invalid_self_edit_costs_nothing(make):
    env = make(2, edit="weights", autoreset_mode="DISABLED")
    env.reset(seed=1, options={"problems": [1, 1]})
    _, rewards, *_, infos = env.step(["nonsense", None])
    assert infos["error"][0] and rewards[0] == rewards[1] - 1 == infos["reward_before"][0] - 1


def counted(function, calls):
    def counting(*given):
        calls.append(1)
        return function(*given)

    return counting


def test_the_last_observation_may_go_undescribed(make, models, monkeypatch):
    described = []
    for final in (True, False):
        env = make(2, horizon=2, autoreset_mode="DISABLED", observe_final=final)
        kind, asked = type(env.episodes.loop.learner), []
        monkeypatch.setattr(kind, "describe", counted(kind.describe, asked))
        env.reset(seed=1, options={"problems": [[1, 2], [3, 4]]})
        going, *_ = env.step([EDIT, "x"])
        before = len(asked)
        over, rewards, *_ = env.step([EDIT, "x"])
        described.append((going["model_state"], over["model_state"], rewards, len(asked) - before))
        monkeypatch.undo()
    (going, full, rewards, passes), (same, empty, again, none) = described
    assert (passes, none) == (1, 0)
    assert np.array_equal(going, same) and np.array_equal(rewards, again)
    assert not empty[:, :-3].any() and full[:, :-3].all()
    assert np.array_equal(empty[:, -3:], full[:, -3:])
    assert empty[0] in env.single_observation_space["model_state"]


def test_another_adapter_asks_for_a_reset(make):
    env = make(1)
    env.reset(seed=1)
    env.use_adapter(None)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step([EDIT])
