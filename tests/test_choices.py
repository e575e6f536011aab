"""Choices instead of text: menus, the wrapper, and the vector form for stable-baselines3."""

import inspect
from random import Random

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_fixtures import INNER
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_checker import check_env

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from seal_env.edits.training_data import TrainingData
from seal_env.errors import UserError
from seal_env.menus.biographies import BiographyMenu, read
from seal_env.menus.passages import PassageMenu, cloze, sentences
from seal_env.tasks.base import Problem
from seal_env.tasks.biographies.edits import STYLES, classify, write
from seal_env.tasks.biographies.people import ATTRIBUTES
from seal_env.tasks.biographies.task import Biographies
from seal_env.wrappers import MENUS, Choice, ChoiceActions, Menu
from seal_env.wrappers.curriculum import Curriculum, VectorShortFirst
from seal_env.wrappers.sb3.choice_vec import ChoiceVecEnv

PASSAGE = "Dr. Bell was born in Oslo in 1847. He built a mill. It burned down twice! Why? Fire."


class Words(Menu):
    """A menu of one's own, in which two combinations mean the same."""

    choices = (Choice("word", ("yes", "no")), Choice("loud", ("a bit", "very")))
    features = ("length",)

    def describe(self, context):
        return [len(context) / 100]

    def render(self, context, chosen):
        return ("yes", "no!")[chosen[0]] if chosen[0] else ("yes", "YES")[chosen[1]]


class Huge(Words):
    choices = tuple(Choice(str(i), tuple("0123456789")) for i in range(6))


def make(models, **options):
    env = gym.make("SelfEdit-v0", model=models["llama"], task="helpers:Parity", inner=INNER)
    return ChoiceActions(env, **{"menu": "biographies"} | options)


def vector(models, count=4, **options):
    config = {"model": models["llama"], "task": "helpers:Parity", "inner": INNER}
    envs = gym.make_vec("SelfEdit-v0", num_envs=count, **config)
    return ChoiceVecEnv(envs, **{"menu": "biographies"} | options)


# What is read out of a passage


@pytest.mark.parametrize("split", ["train", "validation", "test", "known"])
def test_a_passage_says_all_that_there_is_to_know_about_a_person(split):
    task = Biographies(seed=3)
    for index in range(100):
        person, order = read(task.problem(split, index).context)
        assert person == task.person(split, index)
        assert sorted(order) == list(range(len(ATTRIBUTES)))


def test_a_fact_that_the_passage_does_not_state_cannot_be_chosen():
    task = Biographies()
    for index in range(20):
        context, person = task.problem("train", index).context, task.person("train", index)
        kept = [s for s in sentences(context) if person.values[3] not in s]
        found = read(" ".join(kept))
        assert found[0].values[3] == "" and 3 not in found[1]
        menu = BiographyMenu()
        for chosen in menu.combinations():
            assert person.values[3] not in menu.render(" ".join(kept), chosen)


def test_menus_are_given_the_context_and_nothing_else():
    """They cannot use the questions or the person behind a passage: they do not get them."""
    for name in MENUS:
        kind = MENUS.load(name)
        assert list(inspect.signature(kind.render).parameters) == ["self", "context", "chosen"]
        assert list(inspect.signature(kind.describe).parameters) == ["self", "context"]
        parameters = inspect.signature(kind).parameters.values()
        assert all(parameter.default is not parameter.empty for parameter in parameters)


# What menus write


def test_the_biographies_menu_writes_the_styles_of_the_embedded_world():
    context, menu = Biographies().problem("train", 5).context, BiographyMenu()
    some = {"remarks": "vague", "one text": "summary"}
    styles = {menu.label(c): classify(menu.render(context, c)) for c in menu.combinations()}
    for label, style in styles.items():
        kind, _, wordings = label.split(", ")
        if kind in some and wordings == "1 wordings":
            assert style == some[kind]
    assert styles["statements, 2 facts, 1 wordings"] == "few"
    assert styles["statements, 7 facts, 1 wordings"] == "statements"
    assert styles["statements, 7 facts, 3 wordings"] == "paraphrases"
    assert styles["questions, 7 facts, 1 wordings"] == "questions"
    assert styles["questions, 7 facts, 2 wordings"] == "two-questions"


def test_more_contains_less():
    menu = BiographyMenu()
    for index in range(10):
        context = Biographies().problem("train", index).context
        for kind in (0, 1, 3):
            few = set(menu.render(context, (kind, 1, 1)).split("\n"))
            assert few <= set(menu.render(context, (kind, 2, 1)).split("\n"))
            assert few < set(menu.render(context, (kind, 1, 3)).split("\n"))


@pytest.mark.parametrize("name", sorted(MENUS))
def test_every_combination_of_every_menu_is_a_self_edit(name):
    menu, language = MENUS.load(name)(), TrainingData()
    for context in (Biographies().problem("train", 1).context, f"Title\n{PASSAGE}"):
        for chosen in menu.combinations():
            text = menu.render(context, chosen)
            parsed = language.parse(text, Problem("p", "", context, ()))
            assert parsed.error is None and len(parsed.update.sequences) > 1
            assert menu.render(context, chosen) == text


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MENUS))
@settings(max_examples=30)
@given(context=st.text(max_size=200))
def test_menus_take_any_text(name, context):
    menu = MENUS.load(name)()
    assert np.isfinite(menu.describe(context)).all()
    assert len(menu.describe(context)) == len(menu.features)
    for chosen in menu.combinations():
        assert isinstance(menu.render(context, chosen), str)


def test_sentences_are_found_and_a_heading_is_none():
    wanted = ["Dr.", "Bell was born in Oslo in 1847.", "He built a mill.", "It burned down twice!"]
    assert sentences(f"A heading\n{PASSAGE}") == [*wanted, "Why?", "Fire."]
    assert sentences("One line without a stop") == ["One line without a stop"]


def test_cloze_asks_for_numbers_and_names_first():
    sentence = "It was in Oslo, in 1847, that he died."
    assert cloze(sentence, 0) == "Question: It was in Oslo, in ___, that he died.\nAnswer: 1847"
    assert cloze(sentence, 1) == "Question: It was in ___, in 1847, that he died.\nAnswer: Oslo"
    assert cloze("...", 0) == "..."


# From text back to choices


@pytest.mark.parametrize("name", sorted(MENUS))
def test_a_text_is_found_on_the_menu_that_wrote_it(name):
    menu, context = MENUS.load(name)(), Biographies().problem("train", 2).context
    for chosen in menu.combinations():
        text = menu.render(context, chosen)
        assert chosen in menu.matches(context, text)
        assert menu.render(context, menu.nearest(context, text)) == text
    assert menu.matches(context, "something else") == []


def test_what_others_wrote_is_looked_up_by_likeness():
    """Self-edits in the styles of the embedded world, each in an order and wording of its own."""
    menu, task, right, all_ = BiographyMenu(), Biographies(), 0, 0
    wanted = {
        "vague": (0, None, None),
        "statements": (1, 2, 0),
        "paraphrases": (1, 2, 2),
        "summary": (2, 2, 0),
        "questions": (3, 2, 0),
        "two-questions": (3, 2, 1),
        "few": (1, 0, 0),
    }
    for index in range(10):
        person, context = task.person("train", index), task.problem("train", index).context
        for style in STYLES:
            found = menu.nearest(context, write(style, person, Random(index)))
            right += all(w in (None, f) for w, f in zip(wanted[style], found, strict=True))
            all_ += 1
    assert right >= 0.9 * all_


def test_a_menu_too_large_to_be_searched_says_so():
    with pytest.raises(UserError, match="1000000 combinations"):
        Huge().matches("", "")


# The wrapper


@pytest.mark.slow
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.filterwarnings("error")
def test_stable_baselines3_accepts_the_environment(models, flat, discrete):
    env = make(models, flat=flat, discrete=discrete)
    check_env(env)
    kind = spaces.Discrete if discrete else spaces.MultiDiscrete
    assert isinstance(env.action_space, kind)
    assert isinstance(env.observation_space, spaces.Box if flat else spaces.Dict)


def test_choices_are_carried_out_as_the_text_they_stand_for(models):
    env, plain = make(models), make(models).env
    seen, _ = env.reset(seed=1, options={"problems": 7})
    read, _ = plain.reset(seed=1, options={"problems": 7})
    assert (seen["model_state"] == read["model_state"]).all()
    assert seen["features"].tolist() == pytest.approx(env.view.menu.describe(read["context"]))
    _, reward, terminated, _, info = env.step(np.array([3, 2, 1]))
    _, expected, _, _, plain_info = plain.step(env.view.menu.render(read["context"], (3, 2, 1)))
    assert (reward, terminated) == (expected, True)
    assert info["choices"] == "questions, 7 facts, 2 wordings"
    assert info["text"].count("Question:") == 14
    assert info["sequences"] == plain_info["sequences"]


def test_flat_and_discrete_mean_the_same(models):
    one, other = make(models), make(models, flat=True, discrete=True)
    seen, _ = one.reset(seed=1)
    row, _ = other.reset(seed=1)
    assert (np.concatenate([seen["features"], seen["model_state"]]) == row).all()
    assert other.action_space.n == np.prod(one.action_space.nvec) == 48
    rendered = set()
    for place in range(48):
        chosen = other.view.chosen(place)
        assert other.view.action(chosen) == place
        rendered.add(chosen)
    assert rendered == set(one.view.menu.combinations())


def test_the_wrapped_environment_can_be_made_again(models):
    env = make(models, flat=True, menu=Words())
    again = gym.make(env.spec)
    assert again.observation_space == env.observation_space
    assert again.action_space == env.action_space


def test_a_stream_reads_each_problem_in_turn(models):
    config = {"model": models["llama"], "task": "helpers:Parity", "inner": INNER, "horizon": 2}
    env = ChoiceActions(gym.make("SelfEdit-v0", **config), "biographies")
    env.reset(seed=1, options={"problems": [3, 4]})
    titles = []
    for _ in range(2):
        *_, info = env.step(np.array([1, 0, 0]))
        titles.append(info["title"])
        assert info["title"] in info["text"]
    assert len(set(titles)) == 2


def test_illegal_actions_and_menus_are_said(models):
    env = make(models)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step(np.array([0, 0, 0]))
    env.reset(seed=0)
    with pytest.raises(UserError, match="is not in MultiDiscrete"):
        env.step(np.array([4, 0, 0]))
    with pytest.raises(UserError, match="did you mean 'passage'"):
        make(models, menu="pasage")
    with pytest.raises(UserError, match="no subclass"):
        make(models, menu="json:loads")
    with pytest.raises(UserError, match="wraps SelfEdit-v0"):
        ChoiceActions(gym.make("CartPole-v1"))


def test_a_menu_of_ones_own_is_an_object_or_a_path(models):
    for menu in (Words(), "test_choices:Words"):
        env = make(models, menu=menu)
        assert env.action_space == spaces.MultiDiscrete([2, 2])
    none = type("None_", (Words,), {"choices": ()})
    with pytest.raises(UserError, match="nothing to choose"):
        make(models, menu=none())
    wrong = type("Wrong", (Words,), {"describe": lambda self, context: [1.0, 2.0]})
    with pytest.raises(UserError, match=r"shape \(2,\) for its 1 features"):
        make(models, menu=wrong()).reset(seed=0)


def test_the_menu_goes_with_the_task_or_the_language(models):
    def menu_of(**config):
        env = gym.make("SelfEdit-v0", model=models["llama"], inner=INNER, **config)
        return type(ChoiceActions(env).view.menu)

    assert menu_of() is BiographyMenu
    assert menu_of(task="helpers:OneQuestion") is PassageMenu
    assert menu_of(task="test_choices:OwnTask") is Words
    assert menu_of(task="test_choices:OwnTask", edit="test_choices:OwnLanguage") is Huge


class OwnTask(Biographies):
    menu = "test_choices:Words"


class OwnLanguage(TrainingData):
    menu = "test_choices:Huge"


# The vector form


def test_the_vector_form_equals_the_wrapper(models):
    env, one = vector(models), make(models)
    env.seed(5)
    env.set_options([{"problems": p} for p in (7, 7, 8, 9)])
    seen = env.reset()
    actions = np.array([[0, 0, 0], [3, 2, 1], [3, 2, 1], [1, 2, 3]])
    _, rewards, dones, infos = env.step(actions)
    assert dones.all()
    for slot, problem in enumerate((7, 7, 8, 9)):
        alone, _ = one.reset(seed=5, options={"problems": problem})
        for name in alone:
            assert (seen[name][slot] == alone[name]).all()
        last, reward, _, _, info = one.step(actions[slot])
        assert rewards[slot] == np.float32(reward)
        got = dict(infos[slot])
        final = got.pop("terminal_observation")
        assert got.pop("TimeLimit.truncated") is False
        assert got == {k: v for k, v in info.items() if k != "choices"}
        for name in last:
            assert (final[name] == last[name]).all()


def test_a_self_edit_belongs_to_the_problem_that_was_read(models):
    env = vector(models)
    env.seed(0)
    env.reset()
    names = [info["title"] for info in env.reset_infos]
    for _ in range(3):
        _, _, _, infos = env.step(np.tile([1, 2, 0], (4, 1)))
        assert [info["title"] for info in infos] == names
        assert all(name in info["text"] for name, info in zip(names, infos, strict=True))
        names = [info["title"] for info in env.reset_infos]


def test_seeds_fix_the_vector_forms_problems(models):
    env = vector(models)

    def play(seed):
        env.seed(seed)
        env.reset()
        return env.step(np.tile([1, 0, 0], (4, 1)))[1].tolist()

    assert play(1) == play(1) != play(2)
    env.set_options([{"problems": 1}, {}, {}, {}])
    with pytest.raises(UserError, match="to all environments or to none"):
        env.reset()


def test_groups_get_the_same_problem(models):
    env = vector(models, group=2)
    env.seed(0)
    env.reset()
    seen = set()
    for _ in range(3):
        titles = [info["title"] for info in env.reset_infos]
        assert titles[0] == titles[1] != titles[2] == titles[3]
        seen |= set(titles)
        env.step(np.tile([1, 0, 0], (4, 1)))
    assert len(seen) == 6
    with pytest.raises(UserError, match="must be a multiple"):
        vector(models, group=3)
    with pytest.raises(UserError, match="expected the vector environment SelfEdit-v0"):
        ChoiceVecEnv(gym.make_vec("CartPole-v1", num_envs=2))


def test_a_curriculum_goes_below_the_vector_form(models):
    config = {"model": models["llama"], "task": "helpers:Parity", "inner": INNER}
    short = VectorShortFirst(gym.make_vec("SelfEdit-v0", num_envs=2, **config), Curriculum(2, 4))
    env = ChoiceVecEnv(short, "biographies")
    env.seed(0)
    env.reset()
    lengths = []
    for short.progress in (0.0, 0.25, 1.0):
        infos = env.step(np.tile([1, 2, 0], (2, 1)))[3]
        lengths.append([info["text"].count("\n") + 1 for info in infos])
    assert lengths == [[2, 2], [3, 3], [7, 7]]


# stable-baselines3 trains on it


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "policy", "options", "config"),
    [
        (PPO, "MultiInputPolicy", {}, {"n_steps": 4, "batch_size": 4}),
        (A2C, "MlpPolicy", {"flat": True}, {"n_steps": 4}),
        (
            DQN,
            "MlpPolicy",
            {"flat": True, "discrete": True},
            {"learning_starts": 4, "batch_size": 8, "buffer_size": 64},
        ),
        (TRPO, "MultiInputPolicy", {}, {"n_steps": 4, "batch_size": 4}),
        (RecurrentPPO, "MultiInputLstmPolicy", {}, {"n_steps": 4, "batch_size": 4}),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_stable_baselines3_learns_and_saves(models, kind, policy, options, config, many, tmp_path):
    env = vector(models, **options) if many else make(models, **options)
    model = kind(policy, env, seed=0, device="cpu", **config)
    before = {k: v.clone() for k, v in model.policy.state_dict().items()}
    model.learn(16)
    after = model.policy.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    model.save(tmp_path / "model.zip")
    again = kind.load(tmp_path / "model.zip", env=env, device="cpu")
    seen = model.get_env().reset()
    ours, theirs = (m.predict(seen, deterministic=True)[0] for m in (model, again))
    assert (ours == theirs).all()
