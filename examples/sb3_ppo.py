"""PPO of stable-baselines3 learns which kind of self-edit teaches the learner most.

stable-baselines3 has no text actions. `ChoiceVecEnv` makes a self-edit a few discrete choices
(style, number of facts, number of wordings) and carries out a whole step in one pass.

    python examples/sb3_ppo.py
"""

import gymnasium as gym
from stable_baselines3 import PPO

import seal_env  # noqa: F401  (registers SelfEdit-v0)
from seal_env.wrappers.sb3.choice_vec import ChoiceVecEnv

NUM_ENVS = 16
TEST_PROBLEMS = [{"problems": index} for index in range(NUM_ENVS)]


def make(split: str) -> ChoiceVecEnv:
    """Returns environments of one split of the embedded task, with the embedded model."""
    reward = "accuracy + 0.3 * log_likelihood"
    envs = gym.make_vec("SelfEdit-v0", num_envs=NUM_ENVS, split=split, reward=reward)
    return ChoiceVecEnv(envs)


def accuracy(model: PPO, envs: ChoiceVecEnv) -> float:
    """Returns the mean accuracy of the policy's self-edits on held-out people."""
    envs.seed(0)
    envs.set_options(TEST_PROBLEMS)
    actions, _ = model.predict(envs.reset(), deterministic=True)
    _, _, _, infos = envs.step(actions)
    return sum(info["accuracy"] for info in infos) / NUM_ENVS


def main(rounds: int = 12) -> tuple[float, float]:
    """Returns the accuracy before and after training."""
    model = PPO(
        "MultiInputPolicy",
        make("train"),
        n_steps=1,  # an episode has one step
        batch_size=NUM_ENVS,
        learning_rate=1e-2,
        seed=0,
        device="cpu",
    )
    test = make("test")
    before = accuracy(model, test)
    model.learn(rounds * NUM_ENVS)
    after = accuracy(model, test)
    print(f"accuracy on {NUM_ENVS} held-out people: {before:.2f} -> {after:.2f}")
    return before, after


if __name__ == "__main__":
    main()
