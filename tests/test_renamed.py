"""Settings and files under their names of today: old runs go on, old flags are explained."""

import json
from dataclasses import asdict, dataclass

import pytest
from agent_fixtures import TRAIN, lines, summary

from seal_agents import cli
from seal_agents.base import AgentOptions
from seal_agents.policies.options import PolicyOptions
from seal_agents.renamed import current_name, updated
from seal_agents.runner import rounds
from seal_agents.runner.build import agent_class, restored
from seal_env.config import InnerLoopConfig
from seal_env.errors import UserError

POLICY = {
    "prompt": None,
    "temperature": 0.7,
    "max_new_tokens": 25,
    "batch": 17,
    "rank": 3,
    "constrained": False,
}
GROUP = {
    "learning_rate": 0.01,
    "iterations": 3,
    "minibatches": 4,
    "clip": 0.3,
    "kl": 0.05,
    "clip_norm": 2.0,
    "micro_batch": 5,
}
FINETUNE = {
    "learning_rate": 0.5,
    "epochs": 6,
    "batch_size": 7,
    "weight_decay": 0.1,
    "clip": 0.25,
}
BEFORE = {
    "grpo": POLICY | GROUP | {"scale": "batch", "ratio": "sequence"},
    "rloo": POLICY | GROUP | {"normalise": False},
    "ppo": POLICY
    | {
        "learning_rate": 0.01,
        "epochs": 3,
        "minibatch": 9,
        "ratio": "sequence",
        "clip_range": 0.3,
        "target_kl": 0.1,
        "max_grad_norm": 0.7,
        "ent_coef": 0.1,
        "vf_coef": 0.2,
        "kl": 0.4,
        "baseline": "group",
        "normalize_advantage": False,
    },
    "rest-em": POLICY | {"keep": 2, "finetune": FINETUNE},
    "self-rewarding": POLICY
    | {
        "judge": "likelihood",
        "learning_rate": 0.01,
        "epochs": 3,
        "batch_size": 5,
        "beta": 0.2,
        "clip_norm": 2.0,
    },
    "best-of-n": POLICY | {"candidates": 3},
}
"""The options of each agent as runs of version 0.1 wrote them; no value is the default."""
SINCE = {
    "grpo": dict(
        n_epochs=3,
        num_mini_batches=4,
        clip_range=0.3,
        kl_coef=0.05,
        max_grad_norm=2.0,
        per_device_train_batch_size=5,
        scale_rewards="batch",
        importance_sampling_level="sequence",
    ),
    "rloo": dict(n_epochs=3, clip_range=0.3, kl_coef=0.05, normalize_advantage=False),
    "ppo": dict(
        n_epochs=3,
        batch_size=9,
        importance_sampling_level="sequence",
        clip_range=0.3,
        max_grad_norm=0.7,
        kl_coef=0.4,
        normalize_advantage=False,
    ),
    "rest-em": dict(keep=2),
    "self-rewarding": dict(n_epochs=3, batch_size=5, beta=0.2, max_grad_norm=2.0),
    "best-of-n": dict(candidates=3),
}

ADDED = {"best-of-n": ("screen", "critic")}
"""Options that version 0.1 did not have."""


@pytest.mark.parametrize("agent", BEFORE)
def test_options_of_earlier_runs_mean_the_same(agent):
    options = restored(agent_class(agent).Options, BEFORE[agent])
    assert options.generation_batch_size == 17 and options.rank == 3
    assert {name: getattr(options, name) for name in SINCE[agent]} == SINCE[agent]
    assert len(asdict(options)) == len(BEFORE[agent]) + len(ADDED.get(agent, ()))
    if agent == "rest-em":
        assert options.finetune.max_grad_norm == 0.25 and options.finetune.epochs == 6


def test_the_inner_loop_of_an_earlier_run_is_read():
    lora = {"rank": 8, "alpha": 32.0, "targets": []}
    config = restored(InnerLoopConfig, {"lora": lora, "finetune": FINETUNE, "chat": True})
    assert config.finetune.max_grad_norm == 0.25 and config.lora.rank == 8 and config.chat is True


@dataclass(frozen=True)
class OwnOptions(AgentOptions):
    clip: float = 1.0
    batch: int = 4
    epochs: int = 1


@dataclass(frozen=True)
class OwnPolicyOptions(PolicyOptions):
    ratio: float = 0.5


def test_fields_of_ones_own_keep_their_names():
    own = {"clip": 3.0, "batch": 5, "epochs": 2}
    assert asdict(restored(OwnOptions, own)) == own
    mixed = restored(OwnPolicyOptions, POLICY | {"ratio": 0.1})
    assert (mixed.ratio, mixed.generation_batch_size) == (0.1, 17)


def test_names_that_were_never_ones_are_still_refused():
    with pytest.raises(UserError, match="nosuch"):
        restored(OwnOptions, {"nosuch": 1})


def test_a_name_is_translated_only_where_its_successor_is_known():
    assert current_name("clip", {"clip_range", "max_grad_norm"}) == "clip_range"
    assert current_name("clip", {"max_grad_norm"}) == "max_grad_norm"
    assert current_name("clip", {"clip", "clip_range"}) == "clip"
    assert current_name("clip", {"other"}) == "clip"
    assert updated({"a": {"kl": 1}, "kl": 2}, {"a": {"kl_coef": 0}}) == {
        "a": {"kl_coef": 1},
        "kl": 2,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("train --parallel 4", "--num-envs"),
        ("evaluate --parallel 4", "--num-envs"),
        ("distill --parallel 4", "--num-envs"),
        ("distil --imitation.epochs 4", "--imitation.n-epochs"),
        ("train --options.batch 4", "--options.generation-batch-size"),
        ("train --inner.finetune.clip 4", "--inner.finetune.max-grad-norm"),
        ("train --agent grpo --inner.finetune.clip 4", "--inner.finetune.max-grad-norm"),
        ("train --agent grpo --options.clip 4", "--options.clip-range"),
        ("train --agent grpo --options.clip_norm 4", "--options.max-grad-norm"),
        ("train --agent grpo --options.micro-batch=4", "--options.per-device-train-batch-size"),
        ("train --agent rloo --options.normalize no", "--options.normalize-advantage"),
        ("train --agent ppo --options.epochs 4", "--options.n-epochs"),
        ("train --agent ppo --minibatch 4", "--inner.finetune.batch-size or --options.batch-size"),
    ],
)
def test_a_flag_of_an_earlier_version_names_its_successor(given, meant, capsys):
    with pytest.raises(SystemExit):
        cli.main(given.split())
    assert f": did you mean {meant}?" in capsys.readouterr().err


def as_before(settings):
    """Settings under their names in version 0.1."""
    then = {
        "generation_batch_size": "batch",
        "max_grad_norm": "clip",
        "num_envs": "parallel",
    }
    return {
        then.get(name, name): as_before(value) if isinstance(value, dict) else value
        for name, value in settings.items()
    }


def stop(run, round_, numbers):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_of_an_earlier_version_goes_on_and_is_evaluated(
    tmp_path, monkeypatch, models, capsys
):
    monkeypatch.chdir(tmp_path)
    train = ["train", *TRAIN, "--model", models["llama"], "--out"]
    cli.main([*train, "whole"])
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(rounds, "write_scalars", stop)
        cli.main([*train, "old"])
    place = tmp_path / "old" / "config.json"
    config = as_before(json.loads(place.read_text()))
    assert config["options"]["finetune"]["clip"] == 1.0 and config["parallel"] == 2
    place.write_text(json.dumps(config))
    cli.main([*train, "old", "--resume"])
    assert lines(tmp_path / "old") == lines(tmp_path / "whole")
    assert summary(tmp_path / "old")["rows"] == summary(tmp_path / "whole")["rows"]
    cli.main([*train, "old", "--resume"])  # finished: shown again
    cli.main(["report", "old"])
    evaluate = "evaluate --policies none old --problems 2 --task helpers:Parity --out e --model"
    cli.main([*evaluate.split(), models["llama"]])
    assert len(summary(tmp_path / "e")["rows"]) == 3
    with pytest.raises(SystemExit):
        cli.main([*train, "old", "--resume", "--options.generation-batch-size", "9"])
    assert "--options.generation-batch-size 256, not 9" in capsys.readouterr().err
