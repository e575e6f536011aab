"""Actions and observations."""

from seal_env.serving.models import SelfEditAction, SelfEditObservation

__all__ = ["SelfEditAction", "SelfEditObservation"]
