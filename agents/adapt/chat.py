"""``seal-env chat``: questions to an adapted model, answered before and after side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seal_agents.adapt.configs import ChatConfig
from seal_agents.policies.options import ADAPTER
from seal_agents.run_folder import RunFolder
from seal_env.engine.generation import generate
from seal_env.engine.loading import load_learner
from seal_env.engine.mixed_bank import bank_of
from seal_env.engine.peft_io import load_peft
from seal_env.engine.rendering import DoesNotFit
from seal_env.engine.sampling import Sampling
from seal_env.errors import UserError
from seal_env.tasks.base import closed_book

ENDS = ("exit", "quit")
"""Lines that end a chat, beside the end of the input."""


class Chat:
    """The untouched model and the adapted one, asked in the words of the evaluation.

    Args:
        folder: Folder that `seal-env adapt` wrote.
        max_new_tokens: Length of the longest answer, in tokens.

    Raises:
        UserError: The folder holds no adapter, or the model is not there any more.
    """

    def __init__(self, folder: Path, max_new_tokens: int) -> None:
        config = RunFolder.existing(folder).read_json("config.json")
        if config["command"] != "adapt":
            raise UserError(
                f"{folder}: holds a run of seal-env {config['command']}; give a folder that "
                f"seal-env adapt wrote"
            )
        if not (folder / ADAPTER).is_dir():
            raise UserError(f"{folder}: has no adapter yet; go on with seal-env adapt --resume")
        self.learner = load_learner(
            config["model"],
            config["run_time"]["dtype"],
            config["device"],
            trust_remote_code=config["trust_remote_code"],
        )
        self.chat = config["inner"]["chat"]
        bank = load_peft(folder / ADAPTER, self.learner.model, self.learner.device)
        self.bank = bank_of([None, bank.state_of(0)], self.learner.model)
        self.sampling = Sampling(max_new_tokens, stop_at_newline=True)

    def answers(self, question: str) -> tuple[str, str]:
        """Answers of the untouched and of the adapted model, greedily decoded.

        Raises:
            UserError: The question is too long for the model.
        """
        room = self.learner.max_length - self.sampling.max_new_tokens
        try:
            prompt = self.learner.renderer.prompt((closed_book(question),), room, self.chat).ids
        except DoesNotFit as error:
            raise UserError(f"the question is too long: {error}") from None
        found = generate(self.learner, [prompt, prompt], self.sampling, [0, 1], self.bank)
        before, after = (" ".join(self.learner.decode(ids).split()) for ids in found)
        return before, after


def chat(config: ChatConfig, console: Console) -> None:
    """Runs `seal-env chat`: a question per line of the standard input."""
    partner = Chat(config.folder, config.max_new_tokens)
    for question in _questions(console):
        try:
            before, after = partner.answers(question)
        except UserError as error:
            console.print(f"seal-env: {error}", markup=False, highlight=False)
            continue
        if console.is_terminal:
            table = Table("before", "after", box=SIMPLE_HEAD, padding=(0, 1))
            table.add_row(Text(before), Text(after))
            console.print(table)
        else:
            for line in (question, f"  before: {before}", f"  after:  {after}"):
                console.print(line, markup=False, highlight=False, soft_wrap=True)


def _questions(console: Console) -> Iterator[str]:
    """Questions, one per line; empty lines are left out."""
    asked = console.is_terminal and sys.stdin.isatty()
    if asked:
        console.print("One question per line; an empty input (Ctrl+D) or exit ends.", markup=False)
    while True:
        if asked:
            console.print("> ", end="", markup=False)
        line = sys.stdin.buffer.readline().decode("utf-8", "replace")
        question = " ".join(line.split())
        if not line or (asked and question in ENDS):
            return
        if question:
            yield question
