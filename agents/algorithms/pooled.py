"""Agent `pooled`: self-edits by the untrained model, pooled up to a number of tokens.

`pooled:400` samples self-edits for a problem until they have 400 tokens together, and cuts what is
beyond. With the length of a trained policy's self-edits it is the comparison at equal training
tokens: it tells a policy that writes better from one that only writes more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from seal_agents.algorithms.prompted import Prompted
from seal_agents.base import Action, AgentContext, Observation
from seal_agents.policies.options import PolicyOptions
from seal_env.errors import UserError, printable
from seal_env.hashing import stable_hash

MOST_SAMPLES = 64
"""Self-edits sampled per problem at most: a model may write nothing."""
MOST_DIGITS = 9
"""Digits of the number of tokens at most; Python refuses to read some thousands."""


@dataclass(frozen=True)
class PooledOptions(PolicyOptions):
    """Options of pooled self-edits."""

    tokens: int = 400
    """Tokens per problem, of all its self-edits together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens < 1:
            raise UserError(f"tokens {self.tokens}: must be at least 1")


class Pooled(Prompted[PooledOptions]):
    """Writes several self-edits per problem, one below the other."""

    Options = PooledOptions
    takes = "TOKENS"

    def __init__(self, context: AgentContext) -> None:
        count = context.argument
        if count:
            if not (count.isascii() and count.isdigit() and len(count) <= MOST_DIGITS):
                raise UserError(
                    f"agent pooled:{printable(count)}: give how many tokens, as in pooled:400"
                )
            options = context.options or PooledOptions()
            assert isinstance(options, PooledOptions)
            context = replace(context, argument="", options=replace(options, tokens=int(count)))
        super().__init__(context)

    def act(self, observations: Sequence[Observation], seeds: Sequence[int]) -> Sequence[Action]:
        """Samples and pools self-edits; each result has as many tokens as asked for."""
        model, texts = self.policy.model, [""] * len(observations)
        short = list(range(len(texts)))
        for number in range(MOST_SAMPLES):
            drawn = [seeds[i] if number == 0 else stable_hash(seeds[i], number) for i in short]
            written = self.policy.write([observations[i] for i in short], drawn)
            for i, one in zip(short, written, strict=True):
                texts[i] = f"{texts[i]}\n{one.text}" if texts[i] else one.text
            short = [i for i in short if len(model.encode(texts[i])) < self.options.tokens]
            if not short:
                break
        return [model.decode(model.encode(text)[: self.options.tokens]) for text in texts]
