"""Settings of a wrong type are one line that names the field; what JSON makes of them is taken."""

import copy
import json
import math
import pickle
from collections import UserDict, UserList
from dataclasses import asdict, dataclass
from types import MappingProxyType

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from helpers import INNER

from seal_env.checks import build, check_fields
from seal_env.config import EnvConfig, InnerLoopConfig, make_language, make_task
from seal_env.edits.subspace import SubspaceConfig
from seal_env.edits.training_data import TrainingDataConfig
from seal_env.edits.weights import WeightsConfig
from seal_env.engine.config import FinetuneConfig, LoraConfig
from seal_env.errors import UserError
from seal_env.tasks.biographies.task import Biographies

ANYTHING = [None, True, 5, -1, 1.5, math.nan, math.inf, "x", "", b"x", [], ["x"], {}, {"x": 1}, {1}]
ANYTHING += [object(), type, np.array([1, 2]), np.bool_(True), 10**400, "\n" * 99, 1j, (None,)]
KINDS = (EnvConfig, InnerLoopConfig, LoraConfig, FinetuneConfig)
LANGUAGES = (TrainingDataConfig, WeightsConfig, SubspaceConfig)


@pytest.mark.parametrize("kind", [*KINDS, *LANGUAGES])
def test_a_value_of_any_type_is_taken_or_refused_in_one_line(kind):
    refused = 0
    for name in kind.__dataclass_fields__:
        for value in ANYTHING:
            try:
                made = kind(**{name: value})
            except UserError as error:
                refused += 1
                assert "\n" not in str(error) and name.split("_")[0] in str(error)
            else:
                kept = getattr(made, name)
                taken = tuple(value) if isinstance(value, list) else value
                assert taken == {} or kept is taken or kept == taken
                assert type(kept) is not bool or isinstance(value, bool | np.bool_)
    assert refused > len(kind.__dataclass_fields__) * 8


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"horizon": "x"}, "horizon"),
        ({"horizon": True}, "horizon"),
        ({"horizon": 2.0}, "horizon"),
        ({"horizon": 10**30}, "horizon"),
        ({"model": None}, "model"),
        ({"model": 3}, "model"),
        ({"inner": 5}, "inner"),
        ({"inner": "x"}, "inner"),
        ({"reward": 3}, "reward"),
        ({"task": b"biographies"}, "task"),
        ({"task_options": 5}, "task_options"),
        ({"task_options": [("a", 1)]}, "task_options"),
        ({"task_options": {1: 2}}, "task_options"),
        ({"task": "os:getcwd"}, "str is no subclass of Task"),
        ({"task": "os:path"}, "no class"),
        ({"edit": "os:getcwd"}, "str is no subclass of EditLanguage"),
        ({"edit": "math:pi"}, "no class"),
        ({"adapter": "a\x00"}, "adapter"),
        ({"edit_options": {"config": 5}}, "config"),
        ({"edit_options": {"config": {"nothing": 5}}}, "nothing"),
        ({"edit_options": {"config": {"max_sequences": "x"}}}, "max_sequences"),
        ({"invalid_penalty": math.nan}, "invalid_penalty"),
        ({"invalid_penalty": "1"}, "invalid_penalty"),
        ({"invalid_penalty": True}, "invalid_penalty"),
        ({"inner": {"lora": {"rank": "x"}}}, r"inner\.lora\.rank"),
        ({"inner": {"lora": {"rank": True}}}, r"inner\.lora\.rank"),
        ({"inner": {"lora": {"alpha": math.inf}}}, "alpha"),
        ({"inner": {"lora": {"targets": "q_proj"}}}, "targets"),
        ({"inner": {"lora": {"targets": ["q_proj", 5]}}}, r"targets\[1\]"),
        ({"inner": {"lora": 5}}, r"inner\.lora"),
        ({"inner": {"rank": 5}}, "rank"),
        ({"inner": {5: 5}}, "5"),
        ({"inner": {"finetune": {"epochs": None}}}, r"finetune\.epochs"),
        ({"trust_remote_code": "no"}, "trust_remote_code"),
    ],
)
def test_gym_make_says_which_setting_is_wrong(models, settings, said):
    for make in (gym.make, gym.make_vec):
        with pytest.raises(UserError, match=said) as error:
            make("SelfEdit-v0", **{"model": models["llama"], "inner": INNER, **settings})
        assert "\n" not in str(error.value)


def test_numbers_of_numpy_and_texts_of_numpy_are_taken():
    config = EnvConfig(
        horizon=np.int32(2),
        invalid_penalty=np.float32(0.5),
        model=np.str_("tiny"),
        trust_remote_code=np.bool_(False),
    )
    assert config == EnvConfig(horizon=2, invalid_penalty=0.5)
    found = (config.horizon, config.invalid_penalty, config.model, config.trust_remote_code)
    assert [type(value) for value in found] == [int, float, str, bool]
    json.dumps(asdict(config))


def test_what_a_file_makes_of_settings_is_taken():
    inner = InnerLoopConfig(LoraConfig(4, 8.0, ("q_proj",)), FinetuneConfig(1e-2, epochs=2))
    read = json.loads(json.dumps(asdict(inner)))
    assert EnvConfig(inner=read).inner == EnvConfig(inner=MappingProxyType(read)).inner == inner
    assert EnvConfig(inner=UserDict(read)).inner == inner
    assert LoraConfig(targets=UserList(["q_proj"])).targets == ("q_proj",)
    assert EnvConfig(inner={}).inner == InnerLoopConfig()
    language = make_language(EnvConfig(edit_options={"config": {"passage": "none"}}))
    assert language.config == TrainingDataConfig("none")


def test_a_config_is_handed_on_as_keyword_arguments(models):
    config = EnvConfig(
        model=models["llama"],
        inner=INNER,
        horizon=2,
        edit_options={"config": {"passage": "none"}},
        invalid_penalty=0.5,
    )
    given = config.kwargs()
    assert EnvConfig(**given) == config and given["inner"] is config.inner
    given["horizon"] = 3
    assert config.horizon == 2
    env = gym.make("SelfEdit-v0", **config.kwargs())
    many = gym.make_vec("SelfEdit-v0", num_envs=2, **config.kwargs())
    assert env.unwrapped.config == many.unwrapped.config == config
    for copied in (
        copy.deepcopy(env.spec),
        pickle.loads(pickle.dumps(env.spec)),
        EnvSpec.from_json(env.spec.to_json()),
    ):
        assert gym.make(copied).unwrapped.config == config


def test_environments_are_made_again_from_their_spec_as_json(models):
    settings = {
        "model": models["llama"],
        "inner": INNER,
        "reward": "log_likelihood",
        "edit_options": {"config": TrainingDataConfig("first")},
    }
    one = gym.make("SelfEdit-v0", **settings)
    many = gym.make_vec("SelfEdit-v0", num_envs=2, **settings)
    rewards = []
    for env, make in ((one, gym.make), (many, gym.make_vec)):
        again = make(EnvSpec.from_json(env.spec.to_json()))
        assert again.unwrapped.config.inner == INNER
        assert again.unwrapped.episodes.language.config == TrainingDataConfig("first")
        for each in (env, again):
            each.reset(seed=1, options={"problems": 1 if env is one else [1, 1]})
            action = "Ada Cho." if env is one else ["Ada Cho."] * 2
            rewards += np.atleast_1d(each.step(action)[1]).tolist()
    assert len(rewards) == 6 and len(set(rewards)) == 1


class Picky(Biographies):
    """Takes its options as it likes."""

    def __init__(self, *, size: "Unknown" = 1, lora: LoraConfig | None = None):  # noqa: F821
        self.size, self.lora = size, lora


def test_options_of_a_constructor_without_readable_types_are_left_alone():
    task = make_task("test_checks:Picky", None, {"size": [1], "lora": {"rank": 1}})
    assert (task.size, task.lora) == ([1], {"rank": 1})
    for wrong in ({"nothing": 1}, {1: 1}):
        with pytest.raises(UserError, match="Picky"):
            make_task("test_checks:Picky", None, wrong)


@dataclass(frozen=True)
class Mine:
    """Settings of somebody's own."""

    lora: LoraConfig | None = None
    names: tuple[str, ...] = ()
    share: float = 0.5

    def __post_init__(self):
        check_fields(self)


def test_a_class_of_ones_own_is_built_from_a_mapping():
    assert build(Mine, {"lora": {"rank": 2}, "share": 1}, "mine") == Mine(LoraConfig(2), (), 1.0)
    with pytest.raises(UserError, match=r"^mine\.lora\.rank: must be a valid integer, not None$"):
        build(Mine, {"lora": {"rank": None}}, "mine")
    with pytest.raises(UserError, match=r"^mine has no setting 'size'; it has: lora, names"):
        build(Mine, {"size": 2}, "mine")
