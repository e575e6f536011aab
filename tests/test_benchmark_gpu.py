"""The GPU benchmark: what it needs, and its figures, in small on a CPU."""

import json
import subprocess
import sys

import pytest

from benchmarks.gpu import main

pytestmark = pytest.mark.slow


def test_all_figures_are_written_and_shown(tmp_path, capsys):
    file = tmp_path / "gpu.json"
    given = ["--device", "cpu", "--small", "--model", "tiny", "--json", str(file)]
    assert main(given) == 0
    figures = json.loads(file.read_text())
    assert list(figures["models"]) == ["random weights", "tiny"]
    for row in figures["models"].values():
        assert row["training_ratio"] > 0 and row["generation_ratio"] > 0
        assert row["fraction_of_peak"] > 0
    assert "| training ratio |" in capsys.readouterr().out
    assert main(["--device", "nowhere"]) == 2


def test_it_needs_no_environment():
    code = "import sys; sys.modules['gymnasium'] = None; import benchmarks.gpu"
    code += "; assert not {'seal_env.inner_loop', 'seal_agents'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
