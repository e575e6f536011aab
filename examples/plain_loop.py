"""The plain Gymnasium loop: hill climbing on the self-edit of one problem.

A self-edit is a text on which the learner is finetuned. This program starts from the passage,
one sentence per line, tries eight changes per round in one pass, and keeps the best.

    python examples/plain_loop.py
"""

from random import Random

import gymnasium as gym

import seal_env  # noqa: F401  (registers SelfEdit-v0)

PROBLEM = 3
CANDIDATES = 8


def change(lines: list[str], random: Random) -> list[str]:
    """Returns the lines with some of them removed, or with some of them written again."""
    some = random.sample(range(len(lines)), k=len(lines) // 2)
    if random.random() < 0.3:
        return [line for i, line in enumerate(lines) if i not in some[:2]]
    return lines + [lines[i] for i in some]


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
    lines = observation["context"][0].split(". ")
    rewards = []
    for round_number in range(1, rounds + 1):
        candidates = [lines] + [change(lines, random) for _ in range(CANDIDATES - 1)]
        envs.reset(seed=0, options=same_problem)  # the same seed: rewards are comparable
        _, reward, _, _, info = envs.step(["\n".join(candidate) for candidate in candidates])
        best = reward.argmax()
        lines = candidates[best]
        rewards.append(float(reward[best]))
        accuracy = info["final_info"]["accuracy"][best]
        print(f"round {round_number}: reward {rewards[-1]:+.3f}, accuracy {accuracy:.2f}")
    print("", *lines, sep="\n")
    return rewards


if __name__ == "__main__":
    main()
