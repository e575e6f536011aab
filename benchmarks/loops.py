"""Two reference implementations of the inner loop, for `benchmarks.throughput`.

`PeftLoop` trains with PEFT without padding; `ReferenceLoop` is SEAL's loop, reimplemented from its
description (arXiv 2506.10943, section 3.1 and appendix B).
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import Trainer, TrainingArguments
from transformers.utils import logging as hf_logging

from benchmarks.workload import Workload
from seal_env.engine.training import Example, data_order
from seal_env.tasks.base import Problem


class PeftLoop:
    """Loop with PEFT, batch size 1, no padding, one adapter at a time.

    Args:
        work: The self-edits.
    """

    def __init__(self, work: Workload) -> None:
        self.work = work
        self.learner = work.loop.learner
        lora = work.loop.config.lora
        base = copy.deepcopy(self.learner.model)
        base.set_attn_implementation("sdpa")
        self.described = PeftLoraConfig(
            r=lora.rank,
            lora_alpha=int(lora.alpha),
            lora_dropout=0.0,
            target_modules=list(lora.targets) or None,
            task_type="CAUSAL_LM",
        )
        self.model: Any = get_peft_model(base, self.described)
        self.weights = {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def start(self, seed: int) -> None:
        """Puts fresh initial weights in, those that the inner loop starts from."""
        bank = self.work.loop.context.new_bank(1)
        bank.initialize([seed])
        with torch.no_grad():
            for target in bank.targets:
                for letter, matrix in zip("AB", bank.matrices[target.name], strict=True):
                    name = f"base_model.model.{target.name}.lora_{letter}.default.weight"
                    self.weights[name].copy_(matrix[0])

    def train(self, index: int) -> None:
        """Trains one adapter."""
        config, data = self.work.loop.config.finetune, self.work.datasets[index].examples
        request = self.work.requests[index]
        self.start(request.seed)
        parameters = list(self.weights.values())
        optimizer = torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        order = data_order(request.seed, len(data), config)
        for step, batch in enumerate(order):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (1 - step / len(order))
            for place in batch:
                ids = torch.tensor([data[int(place)].ids], device=self.learner.device)
                loss = self.model(input_ids=ids, labels=ids, use_cache=False).loss / len(batch)
                loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()

    def answer(self, index: int) -> None:
        """Answers one problem's questions under the adapter, and scores the gold answers."""
        answer(self.model, self.work, self.work.requests[index].problem)


class ReferenceLoop(PeftLoop):
    """SEAL's loop: transformers' Trainer, batch size 1, padded sequences, padding in the loss.

    The untouched model is evaluated again for every self-edit.

    Args:
        work: The self-edits.
        pad_to: Length that every sequence is padded to, in tokens.
    """

    def __init__(self, work: Workload, pad_to: int) -> None:
        super().__init__(work)
        self.pad_to = pad_to

    def train(self, index: int) -> None:
        """Trains one adapter."""
        config, data = self.work.loop.config.finetune, self.work.datasets[index].examples
        request, device = self.work.requests[index], self.learner.device
        self.start(request.seed)
        level = hf_logging.get_verbosity()
        hf_logging.set_verbosity_error()
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
            arguments = TrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=config.batch_size,
                num_train_epochs=config.epochs,
                learning_rate=config.learning_rate,
                weight_decay=config.weight_decay,
                max_grad_norm=config.max_grad_norm,
                lr_scheduler_type="linear",
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=device.type == "cpu",
                seed=request.seed,
                dataloader_pin_memory=False,
            )
            trainer = Trainer(self.model, arguments, train_dataset=self._padded(data))
            trainer.train()
        hf_logging.set_verbosity(level)

    def _padded(self, data: Sequence[Example]) -> list[dict[str, Tensor]]:
        pad = self.learner.tokenizer.pad_token_id or 0
        rows = []
        for example in data:
            ids = torch.full((self.pad_to,), int(pad))
            length = min(len(example.ids), self.pad_to)
            ids[:length] = torch.tensor(example.ids[:length])
            mask = (torch.arange(self.pad_to) < length).long()
            rows.append({"input_ids": ids, "attention_mask": mask, "labels": ids.clone()})
        return rows

    def answer(self, index: int) -> None:
        """Answers one problem's questions without the adapter, then with it."""
        with self.model.disable_adapter():
            super().answer(index)
        super().answer(index)


@torch.no_grad()
def answer(model: PeftModel, work: Workload, problem: Problem) -> None:
    """Answers a problem's questions greedily in one batch, and scores the gold answers."""
    loop, learner = work.loop, work.loop.learner
    asked = loop.evaluator.problem_tokens(problem, 0)
    pad = learner.tokenizer.pad_token_id or 0
    ids, mask = _batch([one.prompt for one in asked], pad, learner.device)
    model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max(one.longest for one in asked),
        do_sample=False,
        pad_token_id=pad,
    )
    ids, mask = _batch([one.prompt + one.gold for one in asked], pad, learner.device)
    longest = max(len(one.gold) for one in asked)
    logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=longest + 1).logits
    logits.float().log_softmax(-1)


def _batch(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of tokens padded on the left to one length, and their mask."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = 1
    return ids.to(device), mask.to(device)
