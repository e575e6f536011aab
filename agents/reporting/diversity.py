"""Diversity of self-edits: whether a policy that improves itself comes to write ever the same."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

WORDS = 3
"""Length of the n-grams."""


def diversity(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Figures of how different self-edits are; empty without texts.

    `distinct_3` is the share of different word trigrams among all (Li et al. 2016, arXiv
    1510.03055, section 5.2); it falls with the number of texts, so compare equally many.
    `styles` is the effective number of styles, exp of the entropy of their shares, and
    `largest_style` the share of the most frequent one; both need a task that tells styles.

    Args:
        records: Self-edits with their ``text`` and perhaps their ``style``.
    """
    texts = [record["text"] for record in records if record.get("text")]
    if not texts:
        return {}
    found = {f"distinct_{WORDS}": distinct(texts, WORDS)}
    styles = Counter(record["style"] for record in records if record.get("style"))
    if styles:
        shares = [count / styles.total() for count in styles.values()]
        found["styles"] = math.exp(-math.fsum(share * math.log(share) for share in shares))
        found["largest_style"] = max(shares)
    return found


def distinct(texts: Sequence[str], length: int) -> float:
    """Share of different word n-grams among all of some texts; 0 where there are none."""
    grams = Counter(
        tuple(words[i : i + length])
        for words in (text.split() for text in texts)
        for i in range(len(words) - length + 1)
    )
    return len(grams) / grams.total() if grams else 0.0
