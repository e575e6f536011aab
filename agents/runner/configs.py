"""Settings of `seal-env train`, `evaluate`, `distill`, `train-critic`, `export` and `serve`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from seal_agents.algorithms.choice_options import Imitation, PPOChoicesOptions
from seal_agents.base import AgentOptions
from seal_agents.policies.options import PolicyOptions
from seal_env.batcher import BatcherConfig
from seal_env.config import EnvConfig
from seal_env.curriculum import Curriculum
from seal_env.errors import UserError
from seal_env.serving.limits import ServeLimits

HELD_OUT = ("test", "all")
"""Splits with problems of the final comparison; training on them is refused."""
AUTO = "auto"
"""Split of an evaluation: the test split of an endless task, all problems of a finite one."""
MOST = 1_000_000
"""Maximum of rounds, problems, samples and the like, which bounds memory at the start of a run."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run and its comparison with baselines on held-out problems."""

    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(default_factory=EnvConfig)
    """The environment."""
    agent: str = "rest-em"
    """The agent: a name in `seal_agents.AGENTS`, or "package.module:Name"."""
    options: AgentOptions = field(default_factory=AgentOptions)
    """The agent's options."""
    rounds: int = 3
    """Rounds; each samples self-edits, evaluates them and updates the agent."""
    problems: int = 32
    """Problems per round. With --horizon T they form episodes of T problems; a remainder is not
    used."""
    samples: int = 8
    """Self-edits sampled per problem, with --horizon T each in an episode of its own."""
    learner: Literal["follow", "fixed"] = "follow"
    """follow: the learner is the policy's model after each round, as in SEAL; fixed: it stays the
    base."""
    common_random_numbers: bool = True
    """Whether all self-edits of training share one adapter seed and data order, which makes their
    rewards comparable; otherwise each has its own, as in SEAL."""
    reset_to_best: int = 0
    """Patience in rounds: after this many consecutive rounds below the best mean reward, the best
    checkpoint is reloaded; 0 disables it."""
    reset_every: int = 0
    """Rounds between resets: after every so many rounds the untrained policy learns from the next
    round's self-edits in place of the policy that wrote them, so that what earlier rounds did to
    the model is undone; 0 disables it."""
    screen: float | None = None
    """Fraction of a problem's samples that is carried out, those that a critic ranks best; None
    for all of them."""
    critic: Path | None = None
    """Folder of the critic of --screen, as seal-env train-critic writes it, or of a Hugging Face
    sequence classifier. None for one that is trained before each round on the run's own earlier
    rounds; in round 1 the first samples are carried out."""
    wrappers: tuple[str, ...] | None = None
    """Wrappers around the environment, the innermost first, each the "package.module:Name" of a
    subclass of Gymnasium's VectorWrapper, ActionWrapper, RewardWrapper or ObservationWrapper. The
    agent learns from the texts, rewards and observations that they return; these are recorded."""
    curriculum: bool = False
    """Whether self-edits of training are truncated by --lengths. The agent learns from the
    truncated text; `info["written"]` has the whole."""
    lengths: Curriculum = field(default_factory=Curriculum)
    """Length limits of the curriculum; progress is the share of rounds done."""
    test_problems: int = 200
    """Held-out problems in the final comparison."""
    references: tuple[str, ...] | None = None
    """Baselines of the final comparison, named as for evaluate. None for none and base, and for
    passage if an empty self-edit trains on the passage."""
    checks: int = 0
    """Number of evaluations on held-out problems during training, evenly spread over the rounds;
    the first one precedes round 1."""
    fresh_test_seeds: bool = False
    """Whether each held-out problem has its own adapter seed and data order, the same for all
    policies; otherwise all have those of training."""
    seed: int = 0
    """Seed of everything random."""
    num_envs: int = 256
    """Sub-environments: self-edits evaluated per pass of the inner loop."""
    out: Path | None = None
    """Run folder; runs/TASK-AGENT-seedN by default."""

    def __post_init__(self) -> None:
        _within(1, self, "rounds", "problems", "samples", "test_problems", "num_envs")
        _within(0, self, "reset_to_best", "reset_every", "checks")
        _check_seed(self.seed)
        if self.env.split in HELD_OUT:
            raise UserError(
                f"--split {self.env.split}: the final comparison is made on it; train on another"
            )
        if self.env.adapter is not None and self.learner == "follow":
            raise UserError(
                "--adapter: the learner follows the policy, which has an adapter of its own; "
                "give --learner fixed as well, or leave --adapter out"
            )
        self._check_screening()
        if self.reset_to_best and self.reset_every:
            raise UserError(
                "--reset-to-best and --reset-every: each sets where the policy goes on from; give "
                "one of them"
            )
        if self.checks > self.rounds:
            raise UserError(
                f"--checks {self.checks}: at most one per round, and there are {self.rounds} rounds"
            )

    def _check_screening(self) -> None:
        if self.screen is None:
            if self.critic is not None:
                raise UserError(
                    "--critic: ranks candidates before inner loops are spent; say which fraction "
                    "of them is carried out, as in --screen 0.5"
                )
            return
        if not 0 < self.screen < 1:
            raise UserError(f"--screen {self.screen}: must be above 0 and below 1")
        if self.samples < 2:
            raise UserError("--screen: chooses among a problem's samples; give --samples 2 or more")
        if self.env.horizon > 1:
            raise UserError(
                f"--screen with --horizon {self.env.horizon}: the samples of a stream are episodes "
                f"that go on, so none can be left out; give --horizon 1"
            )


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings of a comparison of policies on the same problems."""

    policies: tuple[str, ...] | None = None
    """Policies: agents by name, such as none, passage, base, edits:gpt4_1, always:FILE, or
    "package.module:Name", or folders of training runs. None for none and base, and for passage if
    an empty self-edit trains on the passage."""
    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: EnvConfig(split=AUTO)
    )
    """The environment. Split auto is the split test of an endless task, and all of a file."""
    options: PolicyOptions = field(default_factory=PolicyOptions)
    """Options of the prompted policy `base`."""
    problems: int = 100
    """Problems; at most as many as the data holds."""
    samples: int = 1
    """Self-edits per policy and problem."""
    wrappers: tuple[str, ...] | None = None
    """Wrappers around the environment, as for train; those of a trained run are not taken over."""
    fresh_test_seeds: bool = False
    """Whether each problem has its own adapter seed and data order, the same for all policies;
    otherwise all have those of the run."""
    seed: int = 0
    """Seed of everything random."""
    num_envs: int = 256
    """Sub-environments: self-edits evaluated per pass of the inner loop."""
    out: Path | None = None
    """Run folder; runs/evaluate-TASK by default."""

    def __post_init__(self) -> None:
        _within(1, self, "problems", "samples", "num_envs")
        _check_seed(self.seed)
        if self.policies == ():
            raise UserError("--policies: name at least one")


@dataclass(frozen=True)
class DistillConfig:
    """Settings of behavioral cloning of a run's best self-edits by a policy with a menu."""

    run: Path = Path("runs/main")
    """Folder of the training run of an agent that writes text, the teacher."""
    keep: int = 1
    """Best self-edits imitated per problem, selected as by rest-em."""
    last_rounds: int = 0
    """Number of last rounds whose self-edits are imitated; 0 for all rounds."""
    imitation: Imitation = field(default_factory=Imitation)
    """Options of the imitation."""
    options: PPOChoicesOptions = field(default_factory=PPOChoicesOptions)
    """Options of the small policy, the student."""
    test_problems: int = 200
    """Held-out problems of the comparison of teacher and student."""
    seed: int = 0
    """Seed of everything random."""
    num_envs: int = 64
    """Sub-environments: self-edits evaluated per pass of the inner loop."""
    out: Path | None = None
    """Run folder of the student; RUN-distilled by default."""

    def __post_init__(self) -> None:
        _within(1, self, "keep", "test_problems", "num_envs")
        _within(0, self, "last_rounds")
        _check_seed(self.seed)


@dataclass(frozen=True)
class CriticConfig:
    """Settings of the training of a critic."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders of training runs, whose self-edits and rewards are learned from."""
    pairs: Path | None = None
    """JSONL file with further ones: objects with context, text, reward and perhaps group and
    reward_before."""
    classifier: Path | None = None
    """Folder of a Hugging Face sequence classifier (safetensors) whose score is the one feature;
    None for the hidden states of the learner."""
    model: str = EnvConfig.model
    """The learner, if only --pairs are given; that of the runs otherwise."""
    dtype: str = EnvConfig.dtype
    """Precision of the learner, if only --pairs are given: float32, bfloat16 or auto."""
    device: str = EnvConfig.device
    """Device of the learner, if only --pairs are given: cpu, cuda, mps or auto."""
    folds: int = 5
    """Folds of the validation. All self-edits about one context are in the same fold."""
    out: Path = Path("runs/critic")
    """Folder of the critic."""

    def __post_init__(self) -> None:
        _within(2, self, "folds")
        if not self.runs and self.pairs is None:
            raise UserError(
                "train-critic: name the folders of training runs, or give --pairs FILE.jsonl"
            )


@dataclass(frozen=True)
class ExportConfig:
    """Settings of an export for other libraries."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder of train or evaluate."""
    format: Literal["sft", "dpo", "episodes", "policy"] = "sft"
    """sft: prompts and the best self-edits, for TRL's SFTTrainer. dpo: prompts with a better and a
    worse self-edit, for its DPOTrainer. episodes: all self-edits with their problems, answers and
    rewards. policy: the trained adapter with its card."""
    keep: int = 1
    """sft: self-edits per problem and round, the best ones; dpo: pairs, the best with the worst."""
    chat: bool = False
    """Whether prompts and self-edits are turns of a chat, for a model with a chat template."""
    task: str | None = None
    """The run's task, if it is "package.module:Name": a run folder may be anybody's, so that the
    module is only imported if it is named here."""
    out: Path | None = None
    """New folder; RUN-FORMAT by default."""
    push_to_hub: str | None = None
    """Repository on the Hugging Face hub that the folder is pushed to, such as me/self-edits. The
    token is that of HF_TOKEN, or of hf auth login."""
    private: bool = True
    """Whether a repository that --push-to-hub makes is private."""

    def __post_init__(self) -> None:
        _within(1, self, "keep")


@dataclass(frozen=True)
class ServeConfig:
    """Settings of a server."""

    env: Annotated[EnvConfig, tyro.conf.arg(name="")] = field(default_factory=EnvConfig)
    """The environment that all sessions share."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but a loopback address needs a token, which clients give, in the
    environment variable SEAL_ENV_TOKEN."""
    port: int = 8000
    """Port; 0 for a free one."""
    batching: BatcherConfig = field(default_factory=BatcherConfig)
    """How steps are collected into passes."""
    limits: ServeLimits = field(default_factory=ServeLimits)
    """What is refused."""
    layout: Path | None = None
    """New folder for OpenEnv's layout of this environment, from which a hub runs the server; if it
    is given, nothing is served."""
    requirement: str | None = None
    """Requirement with which the layout installs this package, such as "seal-env[serve] @ URL"."""


def _within(
    least: int,
    config: TrainConfig | EvaluateConfig | DistillConfig | CriticConfig | ExportConfig,
    *names: str,
) -> None:
    for name in names:
        value, flag = getattr(config, name), name.replace("_", "-")
        if value < least:
            raise UserError(f"--{flag} {value}: must be at least {least}")
        if value > MOST:
            raise UserError(f"--{flag} {value}: must be at most {MOST}")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 1 << 63:
        raise UserError(f"--seed {seed}: must be 0 or more, and less than 2 to the 63")
