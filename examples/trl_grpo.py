"""GRPO of TRL trains the language model that writes self-edits.

TRL runs the loop; the environment is its reward function, which takes a whole batch at once.

    python examples/trl_grpo.py
"""

import tempfile

import gymnasium as gym
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from seal_env.engine.loading import EMBEDDED

BATCH = 16  # self-edits per step
GROUP = 8  # self-edits per problem


def main(steps: int = 2) -> list[float]:
    """Returns the mean reward of each step's self-edits."""
    envs = gym.make_vec("SelfEdit-v0", num_envs=BATCH, reward="accuracy + 0.3 * log_likelihood")
    prompts = []
    for problem in range(steps * BATCH // GROUP):
        observation, _ = envs.reset(seed=0, options={"problems": [problem] * BATCH})
        prompt = f"{observation['context'][0]}\nNotes:\n"  # what `tiny` was pretrained on
        prompts.append({"prompt": prompt, "problem": problem})
    means: list[float] = []

    def reward(completions: list[str], problem: list[int], **_: object) -> list[float]:
        envs.reset(seed=0, options={"problems": problem})
        rewards = envs.step(completions)[1].tolist()
        means.append(sum(rewards) / len(rewards))
        print(f"mean reward of {len(rewards)} self-edits: {means[-1]:+.3f}")
        return rewards

    settings = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        num_generations=GROUP,
        max_completion_length=96,
        learning_rate=1e-5,
        max_steps=steps,
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        report_to="none",
    )
    policy = AutoModelForCausalLM.from_pretrained(EMBEDDED["tiny"])
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED["tiny"], padding_side="left")
    trainer = GRPOTrainer(policy, reward, settings, Dataset.from_list(prompts), None, tokenizer)
    trainer.train()
    return means


if __name__ == "__main__":
    main()
