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


def test_an_alias_loads_what_its_new_name_does_and_is_not_listed():
    fruit = Registry("fruit", FRUIT, aliases={"pomme": "apple", "cassé": "broken"})
    assert fruit.load("pomme") is fruit.load("apple")
    assert "pomme" in fruit and fruit["pomme"] == fruit["apple"]
    assert list(fruit) == ["apple", "broken"] and len(fruit) == 2
    with pytest.raises(UserError, match="known: apple, broken; or"):
        fruit.load("zzz")
    with pytest.raises(UserError, match="no_such_module"):
        fruit.load("cassé")


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


def test_a_part_whose_package_is_missing_says_which_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "pear.py").write_text("import no_such_package.part\n")
    fruit = Registry("fruit", {"pear": "pear:Pear"}, extra="orchard")
    with pytest.raises(
        UserError, match=r"^fruit 'pear' needs 'no_such_package', which is"
    ) as error:
        fruit.load("pear")
    assert str(error.value).endswith("is not installed: pip install 'seal-env[orchard]'")
    with pytest.raises(UserError, match=r"needs 'no_such_package', which is not installed$"):
        fruit.load("pear:Pear")  # somebody's own: no extra of ours brings what it needs


def test_nothing_is_imported_before_it_is_asked_for():
    assert len(FRUIT) == 2  # though an entry is broken
