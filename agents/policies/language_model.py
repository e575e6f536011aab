"""A language model as a policy: reads a problem, writes a self-edit, can be finetuned."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from seal_agents.base import AgentContext, Experience, Observation
from seal_agents.policies.options import ADAPTER, PolicyOptions
from seal_agents.policies.writing import write_texts
from seal_env.config import default_prompt, make_language, make_task, takes_text
from seal_env.constrained import PatternConstraint
from seal_env.engine.config import FinetuneConfig, LoraConfig
from seal_env.engine.loading import load_learner, merged_learner
from seal_env.engine.lora import AdapterBank, find_targets
from seal_env.engine.peft_io import load_peft, save_peft
from seal_env.engine.sampling import Completion, Sampling
from seal_env.engine.training import Dataset, Example, finetune
from seal_env.errors import UserError
from seal_env.wrappers.sb3.tokens import TextTokens


class Tokenized(NamedTuple):
    """An experience as token ids, in TRL's words."""

    prompt_ids: list[int]
    """Prompt, as token ids."""
    completion_ids: list[int]
    """Self-edit, as token ids, with its end token unless it was cut off."""
    log_probs: list[float] | None
    """Log-probability (nats) of each of `completion_ids` when it was sampled; None if unknown."""


class Policy:
    """The language model that writes self-edits: the learner's base with its own LoRA adapter.

    Args:
        context: Environment, seed, and the prompt's name as argument.
        options: Options of sampling.
        trainable: Whether it has an adapter to finetune.
    """

    def __init__(self, context: AgentContext, options: PolicyOptions, trainable: bool) -> None:
        env = context.env
        self.context, self.options = context, options
        self.model = load_learner(
            env.model, env.dtype, env.device, trust_remote_code=env.trust_remote_code
        )
        task = make_task(env.task, env.data, env.task_options)
        language = make_language(env)
        asked = context.argument or self.options.prompt
        if not asked and not takes_text(language):
            raise UserError(
                f"--edit {env.edit}: its self-edits are vectors, for which no prompt asks a "
                f"language model; choose another agent or another language"
            )
        self.prompt = asked or default_prompt(task, language)
        self.tokens = TextTokens(self.model, self.prompt, self.options.max_new_tokens)
        """Conversion of prompts and self-edits to token ids."""
        self.constraint = self._constraint() if self.options.constrained else None
        self.adapter: AdapterBank | None = None
        if trainable:
            rank = self.options.rank
            lora = LoraConfig(rank, 2.0 * rank, ("all-linear",))
            targets = find_targets(self.model.model, lora)
            self.adapter = AdapterBank(targets, lora, 1, self.model.device)
            self.adapter.initialize([context.seed])

    def _constraint(self) -> PatternConstraint:
        """Decoding constraint of the self-edit language.

        Raises:
            UserError: The language has no grammar.
        """
        env, model = self.context.env, self.model
        language = make_language(env)
        language.bind(model, make_task(env.task, env.data, env.task_options))
        pattern = language.pattern()
        if pattern is None:
            raise UserError(f"constrained: the language {env.edit!r} does not say what is right")
        vocabulary = int(model.model.get_output_embeddings().weight.shape[0])
        return PatternConstraint(model.tokenizer, pattern, vocabulary, model.stop_ids.tolist())

    def read(self, observation: Observation) -> list[int]:
        """The prompt for an observation as token ids, cut to the model's input length."""
        return self.tokens.prompt(str(observation["context"]))

    def write(self, observations: Sequence[Observation], seeds: Sequence[int]) -> list[Completion]:
        """Samples one self-edit per observation, each with its own seed."""
        if not observations:
            return []
        prompts = [self.read(observation) for observation in observations]
        # One adapter for all texts is best made part of the weights: nothing is left to add.
        model = self.model if self.adapter is None else merged_learner(self.model, self.adapter)
        options = self.options
        return write_texts(
            model,
            prompts,
            Sampling(options.max_new_tokens, options.temperature),
            seeds,
            options.generation_batch_size,
            constraint=self.constraint,
            progress=lambda done: self.context.progress("writing", done, len(prompts)),
        )

    def tokenize(self, experience: Experience) -> Tokenized:
        """An experience as token ids to learn from.

        The tokens that were sampled. If the text was cut before it was carried out, those of them
        that spell what is left of it, without an end. If none do (it was cut inside of a token or
        changed), or if no tokens are known, the usual spelling of the text, with its end.
        """
        prompt, text = self.read(experience.observation), experience.text
        ids, log_probs = list(experience.tokens or ()), experience.log_probs
        written = ids[:-1] if experience.ended else ids
        decode = self.model.decode
        if ids and decode(written) != text:
            # A text grows with its tokens, so the shortest that is long enough can be looked up.
            lengths = range(len(written) + 1)
            count = bisect_left(lengths, len(text), key=lambda n: len(decode(written[:n])))
            ids = written[:count] if decode(written[:count]) == text else []
        if not ids:
            return Tokenized(prompt, self.tokens.encode(text), None)
        return Tokenized(prompt, ids, list(log_probs[: len(ids)]) if log_probs else None)

    def imitate(
        self, experiences: Sequence[Experience], config: FinetuneConfig, seed: int
    ) -> float:
        """Finetunes the adapter on experiences; only what was written is learned.

        Returns:
            The mean loss per token of the last step.
        """
        assert self.adapter is not None, "this policy is not trainable"
        pairs = [self.tokenize(experience)[:2] for experience in experiences]
        examples = [
            Example((*prompt, *completion), len(prompt))
            for prompt, completion in pairs
            if completion
        ]

        def tell(done: int, total: int) -> None:
            self.context.progress("learning", done, total)

        record = finetune(self.model, self.adapter, [Dataset(examples, config, seed)], tell)[0]
        if record.failed:
            raise UserError(
                "the policy's finetuning diverged (infinite or NaN): lower its learning rate"
            )
        return record.loss

    def save(self, folder: Path) -> None:
        """Writes the adapter in PEFT's format."""
        if self.adapter is not None:
            save_peft(self.adapter, 0, folder / ADAPTER, self.model.name)

    def load(self, folder: Path) -> None:
        """Reads an adapter in PEFT's format."""
        self.adapter = load_peft(folder / ADAPTER, self.model.model, self.model.device)
