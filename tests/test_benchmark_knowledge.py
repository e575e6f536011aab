"""`benchmarks.knowledge`: the table of single passages, with paired intervals and seeds."""

import json

import pytest

from benchmarks import knowledge

PASSAGES = [
    {
        "title": name,
        "context": f"{name} lives in {city}.",
        "questions": [{"question": f"Where does {name} live?", "answer": city}],
        "edits": {"naive": "", "base": f"{city} is where {name} lives."},
        "published_accuracy": {"none": 0.2, "naive": 0.4 + 0.1 * number, "base": 0.6},
    }
    for number, (name, city) in enumerate([("Ada", "Oslo"), ("Bo", "Lima"), ("Cy", "Kyoto")])
]


def record(index, accuracy, log_likelihood, tokens):
    return {
        "index": index,
        "accuracy": accuracy,
        "log_likelihood": log_likelihood,
        "tokens": tokens,
        "terms": {"accuracy": accuracy},
    }


def test_a_passage_counts_once_whatever_the_number_of_seeds():
    none = [[record(i, 0.0, -5.0, 0) for i in range(4)]] * 2
    better = [
        [record(i, float(i % 2), -4.0, 10) for i in range(4)],
        [record(i, 0.0, -2.0, 30) for i in range(4)],
    ]
    figures = knowledge.summarize({"none": none, "edits:a": better})
    row = figures["rows"]["edits:a"]
    assert (row["accuracy"], row["log_likelihood"]) == (0.25, -3.0)
    assert (row["tokens"], row["problems"]) == (20, 4)
    gap = figures["differences"]["edits:a - none"]
    assert gap["log_likelihood"] == [2.0, 2.0, 2.0]  # the same for every passage: no width
    assert gap["accuracy"][0] == 0.25 and gap["accuracy"][1] < 0.25 < gap["accuracy"][2]
    back = figures["differences"]["none - edits:a"]["accuracy"]
    assert back[0] == -0.25


@pytest.mark.slow
def test_the_command_writes_figures_table_and_picture_and_goes_on(models, tmp_path, capsys):
    (tmp_path / "data.json").write_text(json.dumps(PASSAGES))
    arguments = ["--model", models["llama"], "--data", str(tmp_path / "data.json")]
    arguments += ["--policies", "none", "passage", "edits:base", "--seeds", "2", "--problems", "2"]
    arguments += [
        "--pairs",
        "asked",
        "--terms",
        "f1",
        "--out",
        str(tmp_path / "out"),
        "--num-envs",
        "2",
    ]
    arguments += ["--json", str(tmp_path / "figures.json")]
    assert knowledge.main(arguments) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures["rows"]) == ["none", "passage", "edits:base"]
    fields = {"accuracy", "ci", "log_likelihood", "ci_log_likelihood", "tokens", "problems"}
    assert all(fields <= set(row) for row in figures["rows"].values())
    assert set(figures["rows"]["none"]["terms"]) == {"accuracy", "f1"}
    assert len(figures["differences"]) == 6
    assert figures["published"]["none"] == 0.2 and figures["published"]["edits:base"] == 0.6
    assert figures["published"]["passage"] == pytest.approx(0.45)
    assert (tmp_path / "out" / "knowledge.png").stat().st_size > 5_000
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| edits:base |" in table and "0.450 |" in table
    config = json.loads((tmp_path / "out" / "seed-1" / "config.json").read_text())
    assert config["env"]["edit_options"]["config"]["pairs"] == "asked"
    journal = tmp_path / "out" / "seed-1" / "episodes.jsonl"
    before = journal.read_text()
    journal.write_text(before[: before.index("\n") + 1])
    (tmp_path / "out" / "seed-1" / "summary.json").unlink()
    assert knowledge.main(arguments) == 0
    assert journal.read_text().count("\n") == before.count("\n")
    assert json.loads((tmp_path / "figures.json").read_text()) == figures


def test_mistakes_are_one_line(tmp_path, capsys):
    arguments = ["--model", "tiny", "--data", str(tmp_path / "none.json")]
    assert knowledge.main([*arguments, "--seeds", "0"]) == 2
    assert knowledge.main([*arguments, "--preset", "nosuch"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "--seeds" in said[0] and "preset 'nosuch'" in said[1]
