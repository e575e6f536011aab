"""The table of architectures: nothing that one of them does ends the run."""

import json

import pytest

from benchmarks import architectures
from benchmarks.architecture_checks import Result

pytestmark = pytest.mark.slow


def test_a_few_are_tried_and_written_as_json_and_as_a_page(tmp_path, capsys):
    path, page = tmp_path / "found.json", tmp_path / "page.md"
    argv = ["--names", "llama", "gptj", "--json", str(path), "--page", str(page)]
    assert architectures.main(argv) == 0
    llama, gptj = json.loads(path.read_text())
    assert llama["name"] == "llama"
    assert not llama["refused"]
    assert all(llama[check] for check in ("trains", "bits", "peft", "scores", "cached"))
    assert "attention interface" in gptj["refused"]
    assert "| `llama` | yes | yes | yes | yes | yes | q_proj, v_proj |" in page.read_text()
    assert f"| `gptj` | {gptj['refused']} |" in page.read_text()


def test_one_that_takes_too_long_or_dies_is_only_named(monkeypatch):
    assert "takes more than 0 seconds" in architectures.try_one("llama", 0.0).refused
    found = architectures.try_one("no-such-architecture", 60.0)
    assert found.refused.startswith("(not tried)")


def test_an_unknown_name_is_one_line(capsys):
    assert architectures.main(["--names", "lama"]) == 2
    assert "'lama'" in capsys.readouterr().err


def test_the_page_tells_wrong_from_right_and_refused_from_untried():
    checks = {"trains": True, "bits": False, "peft": True, "scores": True, "cached": True}
    text = architectures.page(
        [
            Result("one", targets="q_proj", window=True, **checks),
            Result("two", "it keeps a state"),
            Result("three", "(not tried) it is too large"),
        ]
    )
    assert "| `one` | yes | **no** | yes | yes, window | yes | q_proj |" in text
    assert "| `two` | it keeps a state |" in text
    assert "three" not in text
    assert "1 can be used" in text
