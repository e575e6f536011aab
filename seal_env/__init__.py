"""seal-env: a Gymnasium environment in which language models learn to adapt themselves.

Importing this package registers ``SelfEdit-v0``::

    import gymnasium as gym
    import seal_env

    env = gym.make("SelfEdit-v0", task="biographies", model="tiny")

That is cheap: the settings below are loaded when they are first used, and torch when the first
environment is made.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seal_env.config import EnvConfig, InnerLoopConfig
    from seal_env.engine.config import FinetuneConfig, LoraConfig
    from seal_env.errors import UserError

if importlib.util.find_spec("gymnasium") is not None:  # `seal_env.engine` does without it
    from gymnasium.envs.registration import register

    register(
        id="SelfEdit-v0",
        entry_point="seal_env.env:SelfEditEnv",
        vector_entry_point="seal_env.vector:SelfEditVectorEnv",
    )

__version__ = "0.1.0"
__all__ = [
    "EnvConfig",
    "FinetuneConfig",
    "InnerLoopConfig",
    "LoraConfig",
    "UserError",
    "__version__",
]

_PLACES = {
    "EnvConfig": "seal_env.config",
    "FinetuneConfig": "seal_env.engine.config",
    "InnerLoopConfig": "seal_env.config",
    "LoraConfig": "seal_env.engine.config",
    "UserError": "seal_env.errors",
}
"""Name to the module that defines it."""


def __getattr__(name: str) -> Any:
    """Loads a setting's class at its first use (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
