"""Short self-edits first: what is cut, and when."""

import gymnasium as gym
import numpy as np
import pytest
from agent_fixtures import INNER
from gymnasium.utils.env_checker import check_env

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from seal_env.errors import UserError
from seal_env.wrappers import ChoiceActions
from seal_env.wrappers.curriculum import Curriculum, ShortFirst, VectorShortFirst

LONG = "\n".join(f"Ada likes the colour {c}." for c in ("red", "blue", "green", "pink", "teal"))


def settings(models):
    return {"model": models["llama"], "task": "helpers:Parity", "inner": INNER}


def test_the_cap_grows_and_is_lifted():
    curriculum = Curriculum(2, 10, until=0.5)
    caps = [curriculum.cap(p / 16) for p in range(8)]
    assert caps == sorted(caps) and caps[0] == 2 and caps[-1] == 9
    assert [curriculum.cap(p) for p in (0.5, 0.7, 1.0)] == [None] * 3


@pytest.mark.parametrize("unit", ["lines", "tokens", "characters"])
def test_a_text_is_cut_to_its_units(llama, unit):
    count = {
        "lines": lambda text: len([line for line in text.split("\n") if line.strip()]),
        "tokens": lambda text: len(llama.encode(text)),
        "characters": len,
    }[unit]
    curriculum = Curriculum(3, 9, unit)
    cut = curriculum.cut(LONG, 0.0, llama)
    assert count(cut) == 3 and LONG.startswith(cut)
    assert count(curriculum.cut(LONG, 0.25, llama)) == min(6, count(LONG))
    assert curriculum.cut(LONG, 0.5, llama) == LONG
    assert curriculum.cut("x", 0.0, llama) == "x"
    assert curriculum.cut("", 0.0, llama) == ""


def test_empty_lines_do_not_count(llama):
    assert Curriculum(2, 2).cut("\n\na\n\nb\n\nc", 0.0, llama) == "\n\na\n\nb"


@pytest.mark.filterwarnings("ignore:.*")
def test_the_wrapped_environment_is_one(models):
    env = ShortFirst(gym.make("SelfEdit-v0", **settings(models)), Curriculum(2, 3))
    check_env(env, skip_render_check=True)
    again = gym.make(env.spec)
    assert isinstance(again, ShortFirst) and again.curriculum == env.curriculum


def test_what_is_carried_out_is_what_is_left(models):
    plain = gym.make("SelfEdit-v0", **settings(models))
    env = ShortFirst(gym.make("SelfEdit-v0", **settings(models)), Curriculum(2, 4))
    for progress, lines in ((0.0, 2), (0.25, 3), (0.5, 5)):
        env.progress = progress
        text = "\n".join(LONG.split("\n")[:lines])
        plain.reset(seed=1, options={"problems": 3})
        env.reset(seed=1, options={"problems": 3})
        _, reward, _, _, info = env.step(LONG)
        _, expected, _, _, plain_info = plain.step(text)
        assert (reward, info["text"]) == (expected, text)
        assert info["sequences"] == plain_info["sequences"]


def test_many_at_once(models):
    base = gym.make_vec("SelfEdit-v0", num_envs=2, **settings(models))
    env = VectorShortFirst(base, Curriculum(1, 3))
    env.reset(seed=1, options={"problems": [3, 4]})
    _, rewards, _, _, infos = env.step([LONG, "Short."])
    assert infos["text"].tolist() == [LONG.split("\n")[0], "Short."]
    one = ShortFirst(gym.make("SelfEdit-v0", **settings(models)), Curriculum(1, 3))
    one.reset(seed=1, options={"problems": 3})
    assert one.step(LONG)[1] == rewards[0]


def test_choices_are_cut_too(models):
    short = ShortFirst(gym.make("SelfEdit-v0", **settings(models)), Curriculum(2, 4))
    env = ChoiceActions(short, "biographies")
    env.reset(seed=0)
    *_, info = env.step(np.array([3, 2, 1]))
    assert info["text"].count("\n") == 1


def test_bad_settings_are_refused(models):
    for wrong in ({"first": 0}, {"first": 5, "last": 4}, {"unit": "words"}, {"until": 0.0}):
        with pytest.raises(UserError, match="curriculum"):
            Curriculum(**wrong)
    with pytest.raises(UserError, match="from 0 to 1"):
        Curriculum().cap(1.5)
    with pytest.raises(UserError, match="ShortFirst wraps SelfEdit-v0"):
        ShortFirst(gym.make("CartPole-v1"))
    with pytest.raises(UserError, match="wraps SelfEditVectorEnv"):
        VectorShortFirst(gym.make_vec("CartPole-v1", num_envs=2))


def test_progress_is_told_by_reset_and_the_no_op_passes(models):
    base = gym.make_vec("SelfEdit-v0", num_envs=2, autoreset_mode="DISABLED", **settings(models))
    env = VectorShortFirst(base, Curriculum(1, 3))
    one = ShortFirst(gym.make("SelfEdit-v0", **settings(models)), Curriculum(1, 3))
    for progress, lines in ((0.0, 1), (0.25, 2), (1.0, 5)):
        env.reset(seed=1, options={"problems": [3, 4], "progress": progress})
        one.reset(seed=1, options={"problems": 3, "progress": progress})
        assert env.progress == one.progress == progress
        infos = env.step([LONG, None])[-1]
        assert infos["text"].tolist() == ["\n".join(LONG.split("\n")[:lines]), None]
        assert one.step(LONG)[-1]["text"] == infos["text"][0]
    env.reset(seed=1)
    assert env.progress == 1.0  # kept
