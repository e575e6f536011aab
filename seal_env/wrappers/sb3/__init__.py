"""The environment as vector environments of stable-baselines3."""
