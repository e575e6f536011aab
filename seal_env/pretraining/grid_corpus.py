"""What the embedded model of grids reads in pretraining, one document after the other.

Most documents are demonstrations of one known operation, whose outputs are to be predicted from
the second on: so the model learns to find out which operation it is, and to carry it out. A few
are what a policy writes after demonstrations of an operation drawn at random: a line that says what
kind it sees, and a directive. Its fields are drawn at random, too, but for the tools, which lean a
little to the right ones. So it can write directives and knows next to nothing about them.
"""

from __future__ import annotations

from random import Random

from transformers import PreTrainedTokenizerFast

from seal_env.edits.directive_model import STRATEGIES
from seal_env.edits.directives import write_directive
from seal_env.pretraining.common import IGNORED, Document
from seal_env.prompts import render_prompt
from seal_env.tasks.grids.families import FAMILIES, REMARKS_ON, GridFamily, draw_cells, draw_family
from seal_env.tasks.grids.grid import Pair, format_demonstrations, format_grid, format_prompt
from seal_env.tasks.grids.tiny_grids import DEMONSTRATIONS, EPOCHS, LEARNING_RATES, TinyGrids

PAIRS = 6
"""Demonstrations in a document."""
POLICY = 0.15
"""Share of the documents that are directives."""
ENDS = 0.3
"""Share of the others that end with an end token in place of the last line break."""
FITTING = 0.65
"""How often a directive switches a tool as the operation wants it. Half the time would be blind
chance; a little more, and the model has learned to look at its own remark."""
POSITIONS = 0.65
"""Share of operations on positions, which are the harder kind to learn."""


class GridCorpus:
    """An endless stream of documents.

    Args:
        tokenizer: The grid tokenizer.
        seed: Fixes the stream.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.tokenizer = tokenizer
        self.rng = Random(seed)
        self.families = {
            kind: [family for family in FAMILIES["known"] if family.kind == kind]
            for kind in ("positions", "colors")
        }

    def batch(self, tokens: int) -> list[Document]:
        """Documents with so many tokens in all, or a few more."""
        documents, count = [], 0
        while count < tokens:
            documents.append(self._document())
            count += len(documents[-1][0])
        return documents

    def _document(self) -> Document:
        kind = "positions" if self.rng.random() < POSITIONS else "colors"
        family = self.rng.choice(self.families[kind])
        if self.rng.random() < POLICY:
            # Of all sorts, so that the remark holds of operations that are seen for the first time.
            return self._directive(draw_family(self.rng, self.rng.choice(list(REMARKS_ON))))
        return self._demonstrations(family)

    def _pairs(self, family: GridFamily, count: int) -> list[Pair]:
        drawn = [draw_cells(self.rng) for _ in range(count)]
        return [Pair((cells,), (family.apply(cells),)) for cells in drawn]

    def _demonstrations(self, family: GridFamily) -> Document:
        pairs = self._pairs(family, PAIRS)
        ids, labels = self._encode(format_demonstrations(pairs[:1])), []
        labels += [IGNORED] * len(ids)
        for pair in pairs[1:]:
            read = self._encode(format_prompt([], pair.input))
            learned = self._encode(f" {format_grid(pair.output)}\n")
            ids += read + learned
            labels += [IGNORED] * len(read) + learned
        if self.rng.random() < ENDS:
            ids[-1] = labels[-1] = self._end
        return ids, labels

    def _directive(self, family: GridFamily) -> Document:
        rng, tools = self.rng, TinyGrids.tools
        context = format_demonstrations(self._pairs(family, DEMONSTRATIONS))
        read = self._encode(render_prompt("directives", "", context))
        on = [tool for tool in tools if (rng.random() < FITTING) == (tool != family.kind)]
        rate, epochs = rng.choice(LEARNING_RATES), rng.choice(EPOCHS)
        directive = write_directive(tools, on, rate, epochs, rng.choice(STRATEGIES))
        text = f"{REMARKS_ON[family.kind]}\n{directive}"
        learned = [*self._encode(text), self._end]
        return read + learned, [IGNORED] * len(read) + learned

    @property
    def _end(self) -> int:
        return int(self.tokenizer.eos_token_id)

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])
