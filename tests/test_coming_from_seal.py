"""Every command of the page for users of SEAL's code is one that the command line takes."""

import re
import shlex
from pathlib import Path

import pytest

from benchmarks import knowledge
from seal_agents import cli
from seal_env.presets import read_preset
from seal_env.presets.files import preset_json

PAGE = Path(__file__).parents[1] / "docs" / "coming-from-seal.md"
NAMES = {"MODEL": "tiny", "RUN": "runs/a", "FILE": "a.txt", "FILE.jsonl": "a.jsonl"}
IMPLEMENTATIONS = (
    "seal_agents.runner.train.train",
    "seal_agents.runner.train.evaluate",
    "seal_agents.tuning.tune.tune",
    "seal_agents.adapt.run.adapt",
    "seal_agents.adapt.chat.chat",
    "seal_agents.reporting.report.report",
)


def commands():
    text = PAGE.read_text("utf-8")
    found = re.findall(r"^((?:seal-env|python -m) .+)$", text, re.M)
    return found + re.findall(r"`((?:seal-env|python -m benchmarks\.\w+) [^`]+)`", text)


def fragments():
    return re.findall(r"`(--[^`]+)`", PAGE.read_text("utf-8"))


@pytest.fixture
def parsed(monkeypatch, tmp_path):
    """Runs a command up to where its work would begin; the settings that it has there."""
    monkeypatch.chdir(tmp_path)
    tuned = tmp_path / "runs" / "tuned" / "preset.json"
    tuned.parent.mkdir(parents=True)
    tuned.write_text(preset_json(read_preset("small")))
    settings = []
    for path in IMPLEMENTATIONS:
        monkeypatch.setattr(path, lambda *given: settings.append(given))
    monkeypatch.setattr(knowledge, "run", lambda *given: settings.append(given) or 0)

    def parse(command):
        words = [NAMES.get(word, word) for word in shlex.split(command)]
        if words[0] == "python":
            assert words[2] == "benchmarks.knowledge" and knowledge.main(words[3:] or None) == 0
        else:
            cli.main(words[1:])
        return settings.pop()

    return parse


def test_commands_are_found():
    assert len(commands()) >= 12 and len(fragments()) >= 10


@pytest.mark.slow
def test_every_command_is_taken(parsed):
    for command in commands():
        if command != "python -m benchmarks.knowledge":
            parsed(command)


@pytest.mark.slow
def test_every_option_is_one_of_a_command(parsed):
    bases = ["seal-env evaluate", "seal-env train", "python -m benchmarks.knowledge --model tiny"]
    bases[2] += " --data a.json"
    for fragment in fragments():
        fragment = fragment.replace("RUN/", "runs/a/")
        alone = {"--adapter": " --learner fixed"}.get(fragment.split()[0], "")
        taken = []
        for base in bases:
            try:
                taken.append(parsed(f"{base} {fragment}{alone if 'train' in base else ''}"))
            except (SystemExit, AssertionError):
                continue
        names = re.findall(r"--[\w.-]+", fragment)
        assert taken or names in (["--out"], ["--documents"]), fragment
