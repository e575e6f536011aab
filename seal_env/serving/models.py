"""What goes over the wire: actions and observations in OpenEnv's types."""

from __future__ import annotations

from openenv.core.env_server.types import Action, Observation
from pydantic import Field

from seal_env.spaces import LONGEST_TEXT


class SelfEditAction(Action):
    """One self-edit."""

    text: str = Field(max_length=LONGEST_TEXT, description="The self-edit; any text is legal")


class SelfEditObservation(Observation):
    """Observation of an episode; `metadata` is the info of `SelfEditEnv`."""

    context: str = Field(description="Text that the policy reads")
