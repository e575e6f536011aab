"""The plain Gymnasium loop: random search for the best self-edit of one problem.

A self-edit is a text on which the learner is finetuned. This program rearranges the sentences of
the passage, evaluates eight texts per round in one pass, and keeps the best.

    python examples/plain_loop.py
"""

from random import Random

import gymnasium as gym

import seal_env  # noqa: F401  (registers SelfEdit-v0)

PROBLEM = 5
CANDIDATES = 8


def rearrange(sentences: list[str], random: Random) -> str:
    """Returns the sentences one to four times over, in random order, one or more per line."""
    copies, per_line = random.randint(1, 4), random.randint(1, len(sentences))
    lines = []
    for _ in range(copies):
        shuffled = random.sample(sentences, len(sentences))
        groups = range(0, len(sentences), per_line)
        lines += [" ".join(shuffled[start : start + per_line]) for start in groups]
    return "\n".join(lines)


def main(rounds: int = 6) -> list[float]:
    """Returns the best reward after each round."""
    random = Random(0)
    envs = gym.make_vec(
        "SelfEdit-v0",
        num_envs=CANDIDATES,
        task="biographies",
        model="tiny",
        reward="accuracy + 0.3 * log_likelihood",
    )
    same_problem = {"problems": [PROBLEM] * CANDIDATES}
    observation, _ = envs.reset(seed=0, options=same_problem)
    best = observation["context"][0]
    sentences = best.replace(". ", ".\n").splitlines()
    rewards = []
    for round_number in range(1, rounds + 1):
        texts = [best] + [rearrange(sentences, random) for _ in range(CANDIDATES - 1)]
        envs.reset(seed=0, options=same_problem)  # the same seed: rewards are comparable
        _, reward, _, _, info = envs.step(texts)
        winner = reward.argmax()
        best = texts[winner]
        rewards.append(float(reward[winner]))
        accuracy = info["final_info"]["accuracy"][winner]
        print(f"round {round_number}: reward {rewards[-1]:+.3f}, accuracy {accuracy:.2f}")
    print(f"\n{best}")
    return rewards


if __name__ == "__main__":
    main()
