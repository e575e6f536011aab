"""Pretraining documents of the embedded model of grids.

Most documents are demonstrations of one known operation, with a loss on the outputs from the second
on: the model learns to infer the operation and to apply it. The others have the form of a policy's
text after demonstrations of a random operation: a line that names its kind, and a directive. The
fields of the directive are random, except for a small preference for the correct tools. The model
can therefore write directives, and has almost no information about their effect.
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
"""Number of demonstrations per document."""
POLICY = 0.15
"""Fraction of documents that are directives."""
ENDS = 0.3
"""Fraction of the others that end with an end token instead of the last line break."""
FITTING = 0.65
"""Probability that a directive sets a tool correctly for the operation. 0.5 would be chance; above
it the model learns to use its own remark."""
POSITIONS = 0.65
"""Fraction of operations on positions, the kind that is harder to learn."""


class GridCorpus:
    """Endless stream of documents.

    Args:
        tokenizer: The grid tokenizer.
        seed: Seed of the stream.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.tokenizer = tokenizer
        self.rng = Random(seed)
        self.families = {
            kind: [family for family in FAMILIES["known"] if family.kind == kind]
            for kind in ("positions", "colors")
        }

    def batch(self, tokens: int) -> list[Document]:
        """Documents with at least `tokens` tokens in total, or slightly more."""
        documents, count = [], 0
        while count < tokens:
            documents.append(self._document())
            count += len(documents[-1][0])
        return documents

    def _document(self) -> Document:
        kind = "positions" if self.rng.random() < POSITIONS else "colors"
        family = self.rng.choice(self.families[kind])
        if self.rng.random() < POLICY:
            # Operations of all kinds, so that the remark generalizes to unseen ones.
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
