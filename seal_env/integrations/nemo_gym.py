"""NeMo-Gym: `SelfEdit-v0` as a resources server that verifies self-edits.

Rows of the data set have ``responses_create_params`` and ``problem``. The server's ``entrypoint``
is a file that calls `SelfEditResourcesServer.run_webserver`.
"""

import asyncio
from typing import Any

from pydantic import Field

from seal_env.integrations.shared import needs, shared_sessions

with needs("nemo-gym", "install NVIDIA-NeMo/Gym from its repository"):
    from nemo_gym.base_resources_server import (
        BaseResourcesServerConfig,
        BaseVerifyRequest,
        BaseVerifyResponse,
        SimpleResourcesServer,
    )


class SelfEditServerConfig(BaseResourcesServerConfig):
    """Settings of the server."""

    env_config: dict[str, Any] = Field(default_factory=dict)
    """Fields of `seal_env.EnvConfig`, with a horizon of 1."""
    seed: int = 0
    """Seed of all inner loops."""


class SelfEditVerifyRequest(BaseVerifyRequest):
    """A rollout."""

    problem: int
    """Index of the problem in the split."""


class SelfEditVerifyResponse(BaseVerifyResponse):
    """Its reward."""

    problem: int
    """Index of the problem in the split."""
    error: str | None = None
    """Why the self-edit could not be used."""


class SelfEditResourcesServer(SimpleResourcesServer):
    """Rewards of rollouts, which share passes with all that are verified at the same time."""

    config: SelfEditServerConfig

    async def verify(self, body: SelfEditVerifyRequest) -> SelfEditVerifyResponse:
        """Carries out the text of a response."""
        sessions = await asyncio.to_thread(shared_sessions, self.config.env_config)
        text = body.response.output_text
        step = await sessions.one_step_async(body.problem, text, self.config.seed)
        error = step.info["error"] or None
        return SelfEditVerifyResponse(**body.model_dump(), reward=step.reward, error=error)
