"""SelfEdit-v0 on a hub: client and models."""

from seal_env.serving.client import SelfEditClient
from seal_env.serving.models import SelfEditAction, SelfEditObservation

__all__ = ["SelfEditAction", "SelfEditClient", "SelfEditObservation"]
