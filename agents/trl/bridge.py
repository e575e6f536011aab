"""Bridge between policies and TRL's trainers, shared by `grpo`, `rloo` and `self-rewarding`.

TRL (https://github.com/huggingface/trl) does the loss, the clipping, the KL penalty and the
optimizer. This file gives it an ordinary PEFT model over the learner's own frozen weights and
Adam's state of the round before, and takes the adapter back, so that sampling stays on the fast
packed path.

TRL's own loop can be used as well, with `seal_reward` as its reward function.
"""

from __future__ import annotations

import copy
import json
import logging
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PrinterCallback, Trainer

from seal_agents.base import Experience
from seal_agents.policies.language_model import Policy
from seal_agents.renamed import existing_file
from seal_env.engine.learner import Learner
from seal_env.engine.lora import AdapterBank
from seal_env.errors import UserError
from seal_env.vector import SelfEditVectorEnv

STATE, MOMENTS = "optimizer.json", "optimizer.safetensors"
"""Files of a checkpoint, beside the adapter: counters, and Adam's moments."""
_MOMENTS = ("exp_avg", "exp_avg_sq")
"""Keys of Adam's moments in torch's optimizer state."""


class AdapterTraining:
    """Trains a policy's adapter with one of TRL's trainers, round after round.

    Every round has a trainer of its own; what lives on is the adapter, in the policy, and
    Adam's state, here. So a run that was stopped and one that was not do the same.

    Args:
        agent: The agent's name, for checkpoints and messages.
        policy: Policy whose adapter is trained.

    Raises:
        UserError: TRL is not installed, or cannot train this model.
    """

    def __init__(self, agent: str, policy: Policy) -> None:
        self.agent, self.policy = agent, policy
        self.steps = 0
        """Optimizer steps so far."""
        self._moments: dict[str, Tensor] = {}
        if find_spec("trl") is None:
            raise UserError(f"agent {agent} needs the package trl: pip install 'seal-env[trl]'")
        if policy.model.tokenizer.eos_token_id is None:
            raise UserError(
                f"agent {agent}: the tokenizer of {policy.model.name!r} has no end token, and "
                f"TRL needs one"
            )

    def run(
        self, make: Callable[[PreTrainedModel, Any, Path], Trainer], seed: int
    ) -> dict[str, float]:
        """Trains one round.

        Args:
            make: A trainer for a base model, a PEFT config of the adapter's shape and a folder
                to write to.
            seed: Seed of TRL's random draws (the minibatches of a round).

        Returns:
            The numbers that the trainer logged, as means over the round's steps.

        Raises:
            UserError: The training diverged.
        """
        bank = self.policy.adapter
        assert bank is not None, "this policy is not trainable"
        with _undisturbed(self.policy.model.device), tempfile.TemporaryDirectory() as folder:
            trainer = make(borrowed(self.policy.model), peft_config(bank), Path(folder))
            trainer.remove_callback(PrinterCallback)
            assert isinstance(trainer.model, PeftModel)
            matrices = _matrices(trainer.model, bank)
            self._restore(trainer, matrices)
            # TRL seeds all generators by itself, but what it did since may have drawn from them.
            torch.manual_seed(seed)
            trainer.train()
            self._keep(trainer, matrices)
        if not torch.isfinite(bank.weights).all():
            raise UserError(
                f"agent {self.agent}: the policy's training diverged (infinite or NaN weights): "
                f"lower its learning rate"
            )
        logged = trainer.state.log_history[-1]
        return {key: float(value) for key, value in logged.items() if value is not None}

    def _restore(self, trainer: Trainer, matrices: dict[str, tuple[nn.Parameter, Tensor]]) -> None:
        """Writes the adapter and Adam's state into a new trainer."""
        optimizer = trainer.create_optimizer()
        for name, (parameter, ours) in matrices.items():
            parameter.data.copy_(ours)
            if self._moments:
                state = {kind: self._moments[f"{name}.{kind}"].clone() for kind in _MOMENTS}
                count = torch.tensor(float(self.steps))
                optimizer.state[parameter] = {"step": count, **state}

    def _keep(self, trainer: Trainer, matrices: dict[str, tuple[nn.Parameter, Tensor]]) -> None:
        """Takes the adapter and Adam's state back."""
        optimizer: Any = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
        self.steps += trainer.state.global_step
        for name, (parameter, ours) in matrices.items():
            ours.copy_(parameter.data)
            for kind in _MOMENTS:
                self._moments[f"{name}.{kind}"] = optimizer.state[parameter][kind].detach()

    def save(self, folder: Path) -> None:
        """Writes Adam's state: a safetensors file of moments, and counters as JSON."""
        state = {"agent": self.agent, "model": self.policy.model.name, "steps": self.steps}
        (folder / STATE).write_text(json.dumps(state, indent=2) + "\n")
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self._moments.items()}
        save_file(tensors, folder / MOMENTS)

    def load(self, folder: Path) -> None:
        """Reads what `save` wrote; the policy's adapter has been loaded.

        Raises:
            UserError: It is not there, not whole, or of another agent or model.
        """
        try:
            state = json.loads(existing_file(folder / STATE).read_text())
            agent, model, steps = str(state["agent"]), str(state["model"]), int(state["steps"])
            moments = load_file(existing_file(folder / MOMENTS))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise UserError(
                f"{folder}: holds no checkpoint of agent {self.agent} ({error}); give one that it "
                f"wrote"
            ) from error
        if agent != self.agent:
            raise UserError(f"{folder}: is a checkpoint of agent {agent}, not of {self.agent}")
        ours = self.policy.model.name
        if model != ours and Path(model).resolve() != Path(ours).resolve():
            raise UserError(f"{folder}: was trained on model {model}, and this is {ours}")
        assert self.policy.adapter is not None
        shapes = {
            f"{name}.{kind}": matrix.shape
            for name, matrix in _names(self.policy.adapter).items()
            for kind in _MOMENTS
        }
        if moments and {name: moment.shape for name, moment in moments.items()} != shapes:
            raise UserError(f"{folder}: {MOMENTS} does not fit the adapter beside it")
        device = self.policy.model.device
        self.steps = steps
        self._moments = {name: moment.to(device) for name, moment in moments.items()}


def borrowed(learner: Learner) -> PreTrainedModel:
    """A second model on the learner's own frozen weights, with ordinary attention.

    It shares all parameters with the learner; only module objects are new, so it can be wrapped
    and patched freely.
    """
    shared = chain(learner.model.parameters(), learner.model.buffers())
    model = copy.deepcopy(learner.model, {id(tensor): tensor for tensor in shared})
    model.set_attn_implementation("sdpa")
    return model


def peft_config(bank: AdapterBank) -> PeftLoraConfig:
    """PEFT's description of an adapter of a bank's shape."""
    alpha: Any = bank.config.alpha  # declared as int, but PEFT only divides it by r
    return PeftLoraConfig(
        r=bank.config.rank,
        lora_alpha=alpha,
        target_modules=[target.name for target in bank.targets],
        task_type="CAUSAL_LM",
    )


def with_adapter(model: PreTrainedModel, config: PeftLoraConfig, policy: Policy) -> PeftModel:
    """A base model with the policy's adapter in it."""
    assert policy.adapter is not None
    wrapped = get_peft_model(model, config)
    for parameter, ours in _matrices(wrapped, policy.adapter).values():
        parameter.data.copy_(ours)
    return wrapped


def _names(bank: AdapterBank) -> dict[str, Tensor]:
    """A bank's first adapter: each matrix by name."""
    return {
        f"{target}.lora_{letter}": matrix[0]
        for target, pair in bank.matrices.items()
        for letter, matrix in zip("AB", pair, strict=True)
    }


def _matrices(model: nn.Module, bank: AdapterBank) -> dict[str, tuple[nn.Parameter, Tensor]]:
    """Each matrix by name: the parameter of a PEFT model, and its counterpart in the bank."""
    parameters = dict(model.named_parameters())
    return {
        name: (parameters[f"base_model.model.{name}.default.weight"], ours)
        for name, ours in _names(bank).items()
    }


def arguments(policy: Policy, folder: Path, seed: int, **settings: Any) -> dict[str, Any]:
    """Arguments of all trainers: no console output, no files, no trackers."""
    if policy.model.device.type == "cuda" and torch.cuda.device_count() > 1:
        raise UserError(
            "TRL trains on one GPU here and sees several: make one visible, for example with "
            "CUDA_VISIBLE_DEVICES=0"
        )
    return {
        "output_dir": str(folder),
        "seed": seed % (1 << 31),
        "use_cpu": policy.model.device.type == "cpu",
        "bf16": False,  # the base has its precision already, and the adapter is float32
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "lr_scheduler_type": "constant",
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",  # but for the means of all steps, at the end
        "save_strategy": "no",
        **settings,
    }


def groups(experiences: Sequence[Experience]) -> list[list[Experience]]:
    """A round's experiences by group."""
    found: dict[str, list[Experience]] = {}
    for experience in experiences:
        found.setdefault(experience.group, []).append(experience)
    return list(found.values())


def seal_reward(seed: int = 0, **settings: Any) -> Callable[..., list[float | None]]:
    """A reward function for TRL's own loop: a batch of self-edits in one pass of the inner loop.

    The trainer's data set needs the columns ``prompt`` and ``problem``: an index into the split.

    Args:
        seed: The inner loop's seed, the same for all self-edits.
        **settings: Fields of `seal_env.episodes.EnvConfig`.
    """

    def reward(completions: Sequence[Any], problem: Sequence[int], **_: Any) -> list[float | None]:
        # In a chat, a completion is a list of messages.
        texts = [c if isinstance(c, str) else str(c[-1]["content"]) for c in completions]
        envs = SelfEditVectorEnv(len(texts), **settings)
        envs.reset(seed=seed, options={"problems": list(problem)})
        return [float(worth) for worth in envs.step(texts)[1]]

    return reward


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Restores global random states after a trainer, and mutes its logs and warnings."""
    python, numpy_state = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with torch.random.fork_rng(devices), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        random.setstate(python)
        np.random.set_state(numpy_state)
