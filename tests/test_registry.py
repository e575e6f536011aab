"""Registries: short names, "package.module:Name", and errors that help."""

import pytest

from seal_env.edits import EDITS
from seal_env.errors import UserError
from seal_env.registry import Registry
from seal_env.rewards import REWARDS
from seal_env.tasks import TASKS

FRUIT = Registry("fruit", {"apple": "collections:OrderedDict", "broken": "no_such_module:X"})


class Mine:
    pass


@pytest.mark.parametrize("registry", [TASKS, EDITS, REWARDS], ids=lambda r: r.kind)
def test_every_entry_loads(registry):
    for name in registry:
        assert callable(registry.load(name))


def test_a_registry_is_a_mapping():
    assert list(FRUIT) == ["apple", "broken"]
    assert len(FRUIT) == 2
    assert "apple" in FRUIT
    assert FRUIT["apple"] == "collections:OrderedDict"


def test_a_path_needs_no_entry():
    assert FRUIT.load("test_registry:Mine") is Mine


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("aple", "did you mean 'apple'"),
        ("zzz", "known: apple, broken"),
        ("", "unknown fruit ''"),
        ("broken", "no_such_module"),
        ("no.such.module:X", "cannot import"),
        ("test_registry:Missing", "has no 'Missing'"),
        ("test_registry:", "has no ''"),
        (":X", "cannot import"),
        (".relative:X", "cannot import"),
        ("..:X", "cannot import"),
    ],
)
def test_a_wrong_name_is_one_line_that_helps(name, says):
    with pytest.raises(UserError) as error:
        FRUIT.load(name)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_is_imported_before_it_is_asked_for():
    assert len(FRUIT) == 2  # though an entry is broken
