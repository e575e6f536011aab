"""Agents: RL algorithms that train a policy against SelfEdit-v0."""
