"""What is imported before it is needed: nothing that takes seconds."""

import json
import subprocess
import sys

import pytest

import seal_env

HEAVY = ("torch", "transformers", "peft", "stable_baselines3", "matplotlib", "trl")
"""Libraries whose import is felt."""


def loaded_after(code: str) -> list[str]:
    """The heavy libraries that a new process has imported after it ran some code."""
    tail = f"import json; print(); print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\n{tail}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def after_command(*arguments: str) -> list[str]:
    return loaded_after(
        "from seal_agents.__main__ import main\n"
        f"sys.argv[1:] = {list(arguments)!r}\n"
        "try: main()\n"
        "except SystemExit: pass"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["--help", "--version", "nosuch", "train --help", "evaluate --help", "distill --help"]
    + [
        "report --help",
        "tune --help",
        "train --nosuch 1",
        "train --samples many",
        "evaluate --sampels 1",
    ]
    + [f"train --agent {name} --help" for name in ("base", "grpo", "best-of-n", "self-rewarding")],
)
def test_help_and_mistakes_do_not_wait_for_torch(command):
    assert after_command(*command.split()) == []


@pytest.mark.slow
def test_the_check_sees_what_is_imported():
    assert loaded_after("import torch") == ["torch"]


def test_registration_and_settings_come_without_torch():
    assert loaded_after("import seal_env, gymnasium; gymnasium.spec('SelfEdit-v0')") == []
    assert loaded_after("from seal_env import *; EnvConfig(inner=InnerLoopConfig())") == []
    assert loaded_after("import seal_agents; seal_agents.AgentContext") == []


def test_the_package_gives_its_settings_by_name():
    for name in seal_env.__all__:
        assert name in dir(seal_env) and getattr(seal_env, name) is not None
    from seal_env.episodes import EnvConfig  # an older name of the same class

    assert seal_env.EnvConfig is EnvConfig
    with pytest.raises(AttributeError, match="has no attribute 'Nosuch'"):
        _ = seal_env.Nosuch
