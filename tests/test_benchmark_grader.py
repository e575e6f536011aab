"""`python -m benchmarks.grader`."""

import json

import pytest

from benchmarks.grader import Confusion, main

LINES = [
    {"question": "Where?", "gold": "Hamburg", "answer": "In Hamburg.", "correct": True},
    {"question": "Where?", "gold": "Hamburg", "answer": "Hamburg", "correct": True},
    {"question": "How many?", "gold": "two", "answer": "There were 2.", "correct": True},
    {"question": "When?", "gold": "May 1525", "answer": "It was in 1625.", "correct": False},
    {"question": "Who?", "gold": "Ada", "answer": "A mathematician.", "correct": True},
    {"question": "Who?", "gold": "Ada", "answer": "Ada is not the one.", "correct": False},
    {"question": "Who?", "gold": "Ada", "answer": "Bob, whose wife was Ada.", "correct": False},
]


def write(tmp_path, lines):
    path = tmp_path / "verdicts.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


def test_figures_and_table(tmp_path, capsys):
    path, out = write(tmp_path, LINES), tmp_path / "new" / "er" / "out.json"
    assert main(["--verdicts", str(path), "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert result["n"] == 7
    assert result["agreement"] == pytest.approx(4 / 7)
    assert result["kappa"] == pytest.approx(2 / 23)
    assert result["confusion"] == {
        "true_positive": 3,
        "false_positive": 2,
        "false_negative": 1,
        "true_negative": 1,
    }
    assert result["baselines"]["exact match"]["confusion"]["true_positive"] == 1
    printed = capsys.readouterr().out
    for name in ("offline grader", "exact match", "containment", "F1 > 0.5", "token recall >= 0.8"):
        assert name in printed
    assert "0.571" in printed


def test_without_json_nothing_is_written(tmp_path):
    path = write(tmp_path, LINES)
    assert main(["--verdicts", str(path)]) == 0
    assert list(tmp_path.iterdir()) == [path]


def test_kappa():
    # Cohen's own arithmetic: 45 of 50 agree, 0.5 expected by chance.
    assert Confusion(20, 0, 5, 25).kappa == pytest.approx(0.8)
    assert Confusion(25, 0, 0, 25).kappa == 1
    assert Confusion(0, 25, 25, 0).kappa == -1
    assert Confusion(10, 0, 0, 0).kappa is None


def test_undefined_kappa_is_null(tmp_path):
    out = tmp_path / "out.json"
    assert main(["--verdicts", str(write(tmp_path, LINES[:1])), "--json", str(out)]) == 0
    assert json.loads(out.read_text())["kappa"] is None


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "is empty"),
        ([LINES[0], "{oops"], "line 2 is not JSON"),
        ([LINES[0], "", "[1]"], "line 3 must be an object"),
        ([{**LINES[0], "correct": "yes"}], "line 1: 'correct' must be true or false"),
        ([{**LINES[0], "correct": 1}], "line 1: 'correct' must be true or false"),
        ([{**LINES[0], "answer": None}], "line 1: 'answer' must be text"),
        ([{**LINES[0], "gold": " "}], "line 1: 'gold' is empty"),
        ([{"question": "q"}], "line 1: 'gold' must be text"),
    ],
)
def test_bad_files_are_one_line_and_status_2(tmp_path, capsys, lines, message):
    assert main(["--verdicts", str(write(tmp_path, lines))]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_unusable_paths(tmp_path, capsys):
    assert main(["--verdicts", str(tmp_path / "none.jsonl")]) == 2
    assert main(["--verdicts", str(tmp_path)]) == 2
    path = write(tmp_path, LINES)
    assert main(["--verdicts", str(path), "--json", str(tmp_path)]) == 2
    assert main(["--verdicts", str(path), "--json", str(path / "out.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 4
    path.write_bytes(b"\xff\xfe")
    assert main(["--verdicts", str(path)]) == 2
