"""The score of a Hugging Face sequence classifier, as the feature of a critic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from seal_env.critics.base import Features, Told, fingerprint
from seal_env.errors import UserError, first_line, printable

LONGEST = 4096
"""Bound on the tokens of a pair."""


class ClassifierScore(Features):
    """Logit of a sequence classifier that reads context and self-edit as a pair of texts.

    With two labels or more it is the difference of the last label's and the first one's logit. No
    code of the folder is run, and weights are read from safetensors alone.

    Args:
        folder: Folder of the model.
        device: Device on which it computes.

    Raises:
        UserError: It cannot be loaded, or has no trained head.
    """

    kind = "score of a sequence classifier"
    width = 1

    def __init__(self, folder: str, device: str) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.model = str(Path(folder).expanduser().resolve())
        shown = printable(str(folder), 200)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self.model, trust_remote_code=False)
            network, said = AutoModelForSequenceClassification.from_pretrained(
                self.model,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:  # architectures may raise any exception
            raise UserError(
                f"classifier {shown}: cannot be loaded as a sequence classifier with safetensors "
                f"({first_line(error)})"
            ) from error
        missing = sorted(said["missing_keys"])
        if missing:
            raise UserError(
                f"classifier {shown}: has no weights for {missing[0]}, so its scores would be "
                f"random; give one that was trained as a sequence classifier"
            )
        self._network = network.to(device).eval().requires_grad_(False)
        positions = getattr(network.config, "max_position_embeddings", None)
        limits = (self._tokenizer.model_max_length, LONGEST, positions)
        self._longest = int(min(limit for limit in limits if limit))

    @torch.no_grad()
    def measure(
        self, pairs: Sequence[tuple[str, str]], tell: Told = lambda done, total: None
    ) -> np.ndarray:
        """See `Features.measure`."""
        found = np.empty((len(pairs), 1))
        for i, pair in enumerate(pairs):
            first, second = (text.encode("utf-8", "replace").decode("utf-8") for text in pair)
            read = self._tokenizer(
                first,
                second,
                truncation="longest_first",
                max_length=self._longest,
                return_tensors="pt",
            )
            logits = self._network(**read.to(self._network.device)).logits[0].double()
            found[i] = float(logits[-1] - logits[0]) if len(logits) > 1 else float(logits[0])
            tell(i + 1, len(pairs))
        return found

    def fingerprint(self) -> str:
        """See `Features.fingerprint`."""
        return fingerprint(self._network)
