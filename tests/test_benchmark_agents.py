"""`python -m benchmarks.agents`."""

import io
import json
import re
import shutil
from dataclasses import asdict, replace

import pytest
from agent_fixtures import env, lines, quiet, snapshot
from rich.console import Console

from benchmarks import agents
from benchmarks.agents import Args, Job, chosen, main, plan
from benchmarks.agents_plot import plot
from benchmarks.agents_table import figures, markdown, print_table, read_runs
from benchmarks.arms import AGENTS, VARIANTS, arm
from seal_agents import AGENTS as KNOWN
from seal_agents.run_folder import RunFolder
from seal_env.episodes import EnvConfig
from seal_env.errors import UserError

DENSE = EnvConfig(reward="accuracy + 0.3 * log_likelihood")
LEARNING = [name for name, one in AGENTS.items() if one.learns]


def config(name, budget=2000, seed=0, **settings):
    given = {"checks": 4, "learner": "fixed", "test_problems": 5}
    return arm(name).config(DENSE, budget, seed, **given | settings)


def test_every_agent_has_an_arm():
    known = set(KNOWN) - {"always", "edits"}  # which need texts
    missing, extra = sorted(known - set(AGENTS)), sorted(set(AGENTS) - known)
    assert not missing, f"add arms to AGENTS in benchmarks/arms.py for: {', '.join(missing)}"
    assert not extra, f"AGENTS in benchmarks/arms.py has arms of no agent: {', '.join(extra)}"
    assert all(one.agent == name for name, one in AGENTS.items())


@pytest.mark.parametrize("name", LEARNING)
def test_all_arms_spend_the_same_budget(name):
    for budget in (1, 7, 100, 2000):
        one = config(name, budget)
        spent = one.rounds * one.problems * one.samples
        assert budget / 2 < spent <= budget and one.checks == min(4, one.rounds)
    # Rounds are whole.
    assert 2000 - one.problems * one.samples < spent and one.learner == "fixed"
    assert one.fresh_test_seeds


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_changes_something_of_every_agent_that_it_is_for(variant):
    changed = 0
    for name in LEARNING:
        plain = config(name)
        try:
            one = config(f"{name}+{variant}")
        except UserError as error:
            assert str(error).startswith(f"{name}+{variant}: the variant {variant} is for ")
            continue
        assert one != plain
        changed += 1
    assert changed >= 2


def test_the_noise_is_that_of_seal():
    one = config("grpo+noise")
    assert not one.common_random_numbers and one.env.reward == "accuracy"
    plain = config("grpo")
    assert plain.common_random_numbers and plain.env == DENSE
    assert replace(one, env=plain.env, common_random_numbers=True) == plain
    both = config("grpo+sparse+random-seeds")
    assert both == one


def test_the_rate_of_an_agent_is_changed_wherever_it_is():
    plain, low = config("rest-em").options, config("rest-em+low-rate").options
    assert low.finetune.learning_rate == pytest.approx(plain.finetune.learning_rate / 3)
    assert replace(low, finetune=plain.finetune) == plain
    plain, high = config("ppo").options, config("ppo+high-rate").options
    assert asdict(high) == asdict(plain) | {"learning_rate": plain.learning_rate * 3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--agents nosuch", "unknown agent 'nosuch'"),
        ("--agents grpoo", "did you mean 'grpo'"),
        ("--agents no.such:Agent", "cannot import 'no.such'"),
        ("--agents grpo+nosuch", "unknown variant 'nosuch'"),
        ("--agents base+noise", "base does not learn"),
        ("--agents self-rewarding+no-trust-region", "is for ppo, ppo-choices, grpo, rloo"),
        ("--variants nosuch", "--variants nosuch: unknown"),
        ("--table a/b", "--table a/b: letters"),
        ("--seeds 0", "--seeds must be at least 1"),
        ("--test-problems 0", "--test-problems must be at least 1"),
        ("--agents base --task nosuch", "unknown task 'nosuch'"),
    ],
)
def test_what_cannot_be_run_is_one_line(arguments, message, tmp_path, capsys):
    status = main([*arguments.split(), "--jobs", "1", "--out", str(tmp_path / "o")])
    said = capsys.readouterr().err.splitlines()
    assert status and all(line.startswith("error: ") for line in said)
    assert message in said[0]


def test_variants_run_beside_the_learning_agents_and_base_always_does():
    arms = chosen(Args(agents=("passage", "rest-em"), variants=("noise", "reset")))
    assert list(arms) == ["base", "passage", "rest-em", "rest-em+noise", "rest-em+reset"]
    assert set(chosen(Args())) == set(AGENTS)


def test_seeds_come_one_after_the_other():
    args = Args(agents=("rest-em",), seeds=3)
    jobs = plan(args, chosen(args))
    assert [job.seed for job in jobs] == [0, 0, 1, 1, 2, 2]
    assert {str(job.folder) for job in jobs if job.seed == 2} == {
        "runs/agents/base/seed-2", "runs/agents/rest-em/seed-2",
    }  # fmt: skip


# ---- a whole comparison, small -------------------------------------------------------------


def some(models, out, **settings):
    given = {"agents": ("rest-em",), "variants": ("noise",), "seeds": 2, "budget": 6}
    environment = env(models["llama"], reward="accuracy + 0.3 * log_likelihood")
    fixed = {"test_problems": 2, "checks": 1, "jobs": 1, "env": environment, "out": out}
    return Args(**given | fixed | settings)


def run(args, console=None):
    """Runs it with short self-edits, for the sake of time."""
    quick = {"max_new_tokens": 8, "finetune": {"epochs": 1}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(AGENTS, "rest-em", replace(AGENTS["rest-em"], samples=3, options=quick))
        return agents.run(args, console or quiet())


@pytest.fixture(scope="module")
def compared(models, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    console = Console(file=io.StringIO(), width=80)
    assert run(some(models, out), console) == []
    return out, console.file.getvalue()


@pytest.mark.slow
def test_the_comparison_writes_its_figures(compared):
    out, said = compared
    found = json.loads((out / "table.json").read_text())
    assert list(found["arms"]) == ["base", "rest-em", "rest-em+noise"]
    for name, one in found["arms"].items():
        summaries = [
            json.loads((out / name / f"seed-{s}" / "summary.json").read_text()) for s in (0, 1)
        ]
        row = "trained" if one["learns"] else name
        assert one["runs"] == [s["rows"][row]["accuracy"] for s in summaries]
        assert one["evaluations"] == (6 if one["learns"] else 0)
    curve = found["arms"]["rest-em"]["curve"]
    assert [point["evaluations"] for point in curve] == [0, 6]
    assert (out / "table.png").read_bytes().startswith(b"\x89PNG")
    assert "| rest-em+noise |" in (out / "table.md").read_text()
    assert "[6/6] rest-em+noise, seed 1: done" in said


@pytest.mark.slow
def test_all_are_asked_the_same_under_the_same_seeds(compared):
    out, _ = compared
    asked, untrained = {}, {}
    for folder in out.glob("*/seed-0"):
        name = folder.parent.name
        found = [r for r in lines(folder) if r["phase"] == "evaluate"]
        asked[name] = [r["problem"] for r in found if r["policy"] in ("trained", "base")]
        untrained[name] = [r for r in found if r["policy"] == "after round 0"]
    assert len(asked["base"]) == 2 and all(some == asked["base"] for some in asked.values())
    # Untrained, both arms write the same, and it is worth the same.
    one, other = untrained["rest-em"], untrained["rest-em+noise"]
    for name in ("text", "accuracy", "log_likelihood"):
        assert [r[name] for r in one] == [r[name] for r in other] != []


@pytest.mark.slow
def test_the_noise_is_in_training_alone(compared):
    out, _ = compared
    plain, noisy = (
        json.loads((out / name / "seed-0" / "config.json").read_text())
        for name in ("rest-em", "rest-em+noise")
    )
    assert noisy.pop("common_random_numbers") is False and plain.pop("common_random_numbers")
    assert noisy["env"].pop("reward") == "accuracy" and "log" in plain["env"].pop("reward")
    del plain["out"], noisy["out"]
    assert plain == noisy and plain["fresh_test_seeds"]


@pytest.mark.slow
def test_what_is_finished_is_not_done_again(compared, models, tmp_path, monkeypatch):
    out = tmp_path / "again"
    shutil.copytree(compared[0], out)
    before = {k: v for k, v in snapshot(out).items() if "seed-" in k}
    (out / "rest-em" / "seed-1" / "summary.json").unlink()  # as if stopped just before its end
    shutil.rmtree(out / "base" / "seed-0")  # or before its beginning
    tried = []
    append = RunFolder.append
    monkeypatch.setattr(
        RunFolder, "append", lambda run, new: tried.append(run.path) or append(run, new)
    )
    assert run(some(models, out)) == []
    assert set(tried) == {out / "base" / "seed-0"}
    after = {k: v for k, v in snapshot(out).items() if "seed-" in k}
    same = [name for name in before if before[name] == after[name]]
    changed = {re.sub(r"^.*/seed-\d/", "", name) for name in set(before) - set(same)}
    assert changed <= {"summary.json", "clock.json", "config.json", "comparison.png"}
    found, was = (json.loads((o / "table.json").read_text()) for o in (out, compared[0]))
    for arms in (found["arms"], was["arms"]):
        for one in arms.values():
            del one["seconds"]
    assert found == was


@pytest.mark.slow
def test_a_run_that_fails_does_not_end_the_others(models, tmp_path, monkeypatch):
    def failing(config, *rest):
        if config.seed == 0 and not config.common_random_numbers:
            raise UserError("diverged")
        return kept(config, *rest)

    kept = agents.train
    monkeypatch.setattr(agents, "train", failing)
    failures = run(some(models, tmp_path, seeds=1))
    assert [(job.arm, job.seed, str(why)) for job, why in failures] == [
        ("rest-em+noise", 0, "diverged")
    ]
    assert set(json.loads((tmp_path / "table.json").read_text())["arms"]) == {"base", "rest-em"}


@pytest.mark.slow
def test_another_budget_is_not_mixed_in(compared, models):
    failures = run(some(models, compared[0], budget=3, variants=()))
    assert failures and all("has --problems 2, not 1" in why for _, why in failures)


def test_a_folder_of_something_else_is_refused_at_once(models, tmp_path):
    (tmp_path / "rest-em" / "seed-1").mkdir(parents=True)
    (tmp_path / "rest-em" / "seed-1" / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="holds no run"):
        run(some(models, tmp_path))
    assert not (tmp_path / "base").exists()


# ---- the figures ---------------------------------------------------------------------------


def finished(accuracy, checks=(), each=1, spent=2000):
    curve = [
        {"evaluations": 500 * i, "accuracy": a, "round": i}
        for i, a in enumerate([*checks, accuracy])
    ]
    return {
        "accuracy": accuracy, "log_likelihood": -1.0, "problems": 100, "each": each, "invalid": 0.0,
        "evaluations": spent, "checks": curve, "seconds": 60.0,
    }  # fmt: skip


def table(arms, budget=2000):
    runs = {name: dict(enumerate(some)) for name, some in arms.items()}
    return figures(runs, {name: AGENTS[name.split("+")[0]].learns for name in arms}, budget)


BASELINE = [finished(a, spent=0) for a in (0.40, 0.42, 0.38, 0.41, 0.39)]


def test_differences_are_paired_by_seed():
    better = [finished(run["accuracy"] + 0.1) for run in BASELINE]
    found = table({"base": BASELINE, "rest-em": BASELINE, "ppo": better})["arms"]
    assert found["ppo"]["less"]["base"]["iqm"] == pytest.approx(0.1)
    assert found["ppo"]["less"]["base"]["ci"] == pytest.approx([0.1, 0.1])
    assert (
        found["ppo"]["less"]["rest-em"]["above"],
        found["rest-em"]["less"]["base"]["above"],
    ) == (
        5,
        0,
    )
    assert found["ppo"]["accuracy"]["iqm"] == pytest.approx(0.5)
    assert "base" not in found["base"]["less"]


def test_only_seeds_that_both_have_are_compared():
    found = table({"base": BASELINE[:2], "ppo": [finished(0.9), finished(0.3), finished(0.9)]})
    gap = found["arms"]["ppo"]["less"]["base"]
    assert (gap["above"], gap["of"]) == (1, 2)


def test_a_variant_is_compared_with_its_plain_arm():
    some = {"base": BASELINE, "ppo": [finished(0.8)] * 5, "ppo+noise": [finished(0.7)] * 5}
    found = table(some)["arms"]
    assert found["ppo+noise"]["less"]["ppo"]["iqm"] == pytest.approx(-0.1)
    assert set(found["ppo"]["less"]) == {"base"}


@pytest.mark.parametrize(
    ("checks", "ratio", "collapsed"), [((0.4, 0.8), 0.5, 1), ((0.3, 0.35), 1.0, 0)]
)
def test_a_run_that_ends_far_below_its_best_has_collapsed(checks, ratio, collapsed):
    found = table({"base": BASELINE, "ppo": [finished(0.4, checks), finished(0.5, (0.4, 0.52))]})
    one = found["arms"]["ppo"]
    assert one["final_over_best"][0] == pytest.approx(ratio) and one["collapsed"] == collapsed
    assert (f"{ratio:.2f} 1 collapsed" in markdown(found)) == bool(collapsed)


def test_the_curve_is_that_of_all_seeds():
    runs = [finished(0.5 + s / 10, (0.4, 0.45 + s / 10)) for s in range(3)]
    curve = table({"base": BASELINE, "ppo": runs})["arms"]["ppo"]["curve"]
    assert [point["evaluations"] for point in curve] == [0, 500, 1000]
    assert [point["iqm"] for point in curve] == pytest.approx([0.4, 0.55, 0.6])


def test_the_table_fits_a_terminal_and_says_what_was_spent():
    arms = {name: [finished(0.5, (0.4,))] * 5 for name in AGENTS}
    arms["base"] = BASELINE
    arms["best-of-n"] = [finished(0.6, each=8, spent=0)] * 5
    arms["grpo"] = [finished(0.6, (0.4,), spent=2600)] * 5
    arms["self-rewarding+no-gradient-clipping"] = [finished(0.5, (0.4,))] * 5
    found = table(arms)
    out = io.StringIO()
    print_table(found, Console(file=out, width=80))
    shown = out.getvalue()
    assert max(map(len, shown.splitlines())) <= 80 and "…" not in shown
    assert all(said in shown for said in ("+ 8 each", "(over)", "5/5"))
    text = markdown(found)
    assert len([line for line in text.splitlines() if line.startswith("|")]) == 2 + len(arms)
    assert "100 held-out problems, 5 seeds, at most 2,000" in text
    assert plot(found).startswith(b"\x89PNG")


def test_without_a_finished_run_there_is_nothing_to_show(tmp_path):
    assert read_runs([tmp_path / "seed-0"]) == {}
    with pytest.raises(UserError, match="no run is finished"):
        figures({"base": {}}, {"base": False}, 10)


@pytest.mark.slow
def test_the_lines_of_a_run_are_known_beforehand(compared):
    out, _ = compared
    one = config("rest-em", 6, checks=1, test_problems=2, out=out / "rest-em" / "seed-0")
    assert Job("rest-em", 0, one).lines == len(lines(one.out)) == 6 + 2 * 2
