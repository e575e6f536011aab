"""seal-env: a Gymnasium environment in which language models learn to adapt themselves.

Importing this package registers ``SelfEdit-v0``::

    import gymnasium as gym
    import seal_env

    env = gym.make("SelfEdit-v0", task="biographies", model="tiny")
"""

from gymnasium.envs.registration import register

from seal_env.errors import UserError

register(
    id="SelfEdit-v0",
    entry_point="seal_env.env:SelfEditEnv",
    vector_entry_point="seal_env.vector:SelfEditVectorEnv",
)

__version__ = "0.1.0"
__all__ = ["UserError", "__version__"]
