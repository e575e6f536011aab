"""`seal-env tune`: successive halving over settings of the inner loop, and the preset it writes."""

import builtins
import io
import math
from dataclasses import replace

import pytest
from agent_fixtures import QUICK, finish, kill_when, lines
from matplotlib.axes import Axes
from rich.console import Console

from seal_agents import cli
from seal_agents.run_folder import RunFolder
from seal_agents.tuning.config import TuneConfig
from seal_agents.tuning.halving import Trial, inner_loops, rungs, search
from seal_agents.tuning.report import plot, print_table
from seal_agents.tuning.space import Candidate, SearchSpace
from seal_agents.tuning.trials import Trials, with_training
from seal_env.config import EnvConfig, InnerLoopConfig
from seal_env.edits.base import SelfEdit
from seal_env.edits.training_data import TrainingData, TrainingDataConfig
from seal_env.episodes import Episodes
from seal_env.errors import UserError
from seal_env.inner_loop import InnerLoop, Request
from seal_env.presets import ModelPreset, read_preset
from seal_env.tasks.biographies.task import Biographies
from seal_env.updates.weight_changes import WeightChanges

NARROW = SearchSpace(ranks=(4, 8), epochs=(1, 2), passages=("last",), chat=(False,))


class World:
    """Measurements that are a function of the setting, and what was asked for."""

    def __init__(self):
        self.known = {}
        self.loops = 0

    def __call__(self, candidates, count):
        for one in candidates:
            self.loops += count - self.known.get(one, 0)
            self.known[one] = count
        return [self.worth(one) + 0.01 * math.sin(count) for one in candidates]

    @staticmethod
    def worth(one):
        off = abs(math.log10(one.learning_rate) + 3)  # best at 1e-3
        return (one.targets == "all-linear") - off + 0.1 * one.epochs


@pytest.mark.parametrize("problems", [5, 16, 40])
@pytest.mark.parametrize("trials", [1, 7, 12, 20])
def test_as_many_inner_loops_as_were_announced(trials, problems):
    config = TuneConfig(trials=trials, bracket=8, space=NARROW, include=())
    world = World()
    found = search(config, problems, world)
    assert world.loops == inner_loops(config, problems)
    assert len({trial.candidate for trial in found}) == len(found) == trials
    assert rungs(config, problems)[-1] == problems == found[0].problems


def test_of_each_rung_the_best_go_on():
    config = TuneConfig(trials=9, bracket=9, include=(), space=NARROW)
    found = search(config, 36, World())
    assert [sorted(trial.rewards) for trial in found] == [[4, 12, 36]] + [[4, 12]] * 2 + [[4]] * 6
    worths = [World.worth(trial.candidate) for trial in found]
    assert worths == sorted(worths, reverse=True)


def test_later_brackets_learn_from_the_first_and_a_seed_fixes_all():
    config = TuneConfig(trials=40, bracket=10, problems=8, include=())
    found = search(config, 8, World())
    means = [
        sum(World.worth(t.candidate) for t in found if t.bracket == bracket) / 10
        for bracket in range(4)
    ]
    assert means[3] > means[0] + 0.3
    again = search(config, 8, World())
    assert [(t.candidate, t.rewards) for t in again] == [(t.candidate, t.rewards) for t in found]
    other = search(replace(config, seed=1), 8, World())
    assert {t.candidate for t in other} != {t.candidate for t in found}


def test_a_small_space_is_tried_once_each():
    space = replace(NARROW, learning_rates=(1e-3, 1e-3), batch_sizes=(1,))
    found = search(TuneConfig(trials=50, bracket=50, space=space, include=()), 4, World())
    assert len(found) == 8


def test_a_setting_is_the_inner_loop_that_it_names():
    preset = read_preset("seal")
    candidate = Candidate.of(preset, True)
    assert candidate.inner(InnerLoopConfig()) == replace(preset.inner, chat=True)
    assert candidate.name == (
        "default rank 32 alpha 64, rate 0.001, epochs 10, batch 1, passage, chat"
    )
    odd = ModelPreset(replace(preset.inner, lora=replace(preset.inner.lora, targets=("q_proj",))))
    with pytest.raises(UserError, match="targets"):
        Candidate.of(odd, None)


@pytest.mark.slow
def test_side_by_side_settings_are_what_they_are_alone_to_the_bit(models, tmp_path):
    env = EnvConfig(model=models["llama"], split="validation", reward="log_likelihood")
    config = TuneConfig(env)
    run = RunFolder(tmp_path)
    episodes, problems = Episodes(env, 2), [Biographies().problem("validation", i) for i in (0, 1)]
    trials = Trials(config, episodes, problems, run, lambda count: None)
    texts = ["", "She sings.\nShe has a goat.\nShe lives in Oslo."]
    run.append(
        [
            {"phase": "tune", "policy": "self-edits", "round": 0, "index": i, "text": text}
            for i, text in enumerate(texts)
        ]
    )
    first = Candidate("all-linear", 4, 8.0, 2e-2, 2, 1, "last", None)
    others = [replace(first, batch_size=2, epochs=1), replace(first, passage="first")]
    candidates = [first, *others, replace(first, targets="default", learning_rate=1e-2)]
    means = trials.measure(candidates, 2)
    assert len(set(means)) == 4
    for candidate, mean in zip(candidates, means, strict=True):
        loop = InnerLoop(episodes.loop.learner, episodes.task, candidate.inner(InnerLoopConfig()))
        language = TrainingData(TrainingDataConfig(passage=candidate.passage))
        asked = [
            Request(problem, language.parse(text, problem), config.seed)
            for problem, text in zip(problems, texts, strict=True)
        ]
        scores = [loop.run([request])[0].after.log_likelihood for request in asked]
        assert scores == [r["log_likelihood"] for r in trials.records(candidate, 2)]
        assert mean == sum(scores) / 2


TUNE = [
    "tune",
    *QUICK,
    *"--problems 4 --trials 3 --bracket 3 --num-envs 3 --space.ranks 4 --space.epochs 1".split(),
    *"--space.batch-sizes 4 --include --policy passage --out run".split(),
]


@pytest.fixture(scope="module")
def undisturbed(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune")
    code, said, errors = finish([*TUNE, "--model", models["llama"]], folder)
    assert (code, errors) == (0, ""), errors
    return folder / "run", said


@pytest.mark.slow
def test_the_preset_is_the_best_of_the_table_and_reads_back(undisturbed):
    run, said = undisturbed
    preset = read_preset(str(run / "preset.json"))
    assert preset.inner.lora.rank == 4 and preset.inner.finetune.batch_size == 4
    assert preset.shape is not None and preset.shape.width == 64
    table = [line.split("|")[1:-1] for line in (run / "table.md").read_text().splitlines()]
    assert f"rate {preset.inner.finetune.learning_rate:g}," in table[2][0]
    rewards = [float(row[4].split()[0]) for row in table[2:-1]]
    assert rewards[0] == max(rewards) and "no training" in table[-1][0]
    assert (run / "trials.png").stat().st_size > 10_000
    assert f"--preset {run.name}/preset.json" in said


def count(journal):
    return journal.read_bytes().count(b"\n")


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_to_the_same_preset(models, undisturbed, tmp_path):
    whole = undisturbed[0]
    arguments = [*TUNE, "--model", models["llama"]]
    journal = tmp_path / "run" / "episodes.jsonl"
    kill_when(
        arguments, tmp_path, lambda: journal.is_file() and journal.read_bytes().count(b"\n") > 6
    )
    code, _, errors = finish([*arguments, "--resume"], tmp_path)
    assert (code, errors) == (0, "")
    assert lines(tmp_path / "run") == lines(whole)
    for name in ("preset.json", "table.md"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reduction": 1}, "--reduction 1"),
        ({"trials": 0}, "--trials 0"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_settings_without_a_search_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        TuneConfig(**settings)


@pytest.mark.parametrize(
    "space",
    [{"ranks": ()}, {"learning_rates": (1e-2, 1e-3)}, {"ranks": (0,)}, {"batch_sizes": (0,)}],
)
def test_a_space_without_settings_is_refused(space):
    with pytest.raises(UserError):
        SearchSpace(**space)


def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'seal-env\[tune\]'"):
        search(TuneConfig(), 4, World())


def test_what_is_no_finetuning_is_refused():
    candidate = Candidate("default", 4, 8.0, 1e-3, 1, 1, "last", None)
    with pytest.raises(UserError, match="settings of finetuning"):
        with_training(SelfEdit(WeightChanges(())), candidate)
    assert with_training(SelfEdit(error="empty"), candidate) == SelfEdit(error="empty")


@pytest.mark.slow
def test_self_edits_that_are_all_invalid_are_refused(models, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.main([*TUNE, "--model", models["llama"], "--edit", "directives"])
    assert "--policy passage: no self-edit is valid" in capsys.readouterr().err


def test_the_printed_table_names_the_settings_where_there_is_little_room():
    cells = ("0.242 [0.14, 0.34]", "-4.231 [-10.13, -3.43]", "-4.054 [-11.04, -3.21]", "1,560")
    shown = io.StringIO()
    print_table([("all-linear rank 32, rate 0.001", "18", *cells)], Console(file=shown, width=80))
    printed = shown.getvalue()
    assert {*"all-linear rank 32, rate 0.001 18".split()} <= set(printed.split())
    for part in ("[0.14, 0.34]", "[-10.13, -3.43]", "[-11.04, -3.21]", "1,560"):
        assert part in printed


def test_settings_that_diverge_do_not_flatten_the_picture_of_the_others(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Axes, "plot", lambda self, x, y, *_, **__: drawn.append(y) or [])
    setting = Candidate("all-linear", 8, 16.0, 1e-3, 4, 1, "last", None)
    found = {-4.0: -4.0, -4.5: -4.5, -5.0: -5.0, -5.5: -5.5, -21.0: -7.0}
    plot([Trial(setting, 0, {4: reward}) for reward in found], RunFolder(tmp_path))
    assert sorted(y for (y,) in drawn) == sorted(found.values())
