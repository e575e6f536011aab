"""The sampling benchmark: that both samplers continue the same prompts, and what it writes."""

import json

import pytest

from benchmarks.sampling import main

pytestmark = pytest.mark.slow


def test_the_figures_are_written(tmp_path, capsys):
    file = tmp_path / "figures.json"
    given = ["--texts", "4", "--group", "2", "--max-new-tokens", "4", "--rounds", "1"]
    assert main([*given, "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert figures["ratio"] == pytest.approx(figures["ours"] / figures["transformers"])
    assert figures["texts"] == 4 and figures["prompt_tokens"] > 40
    assert "ours is faster by" in capsys.readouterr().out
    assert main(["--texts", "0"]) == 2
