"""Client of a server of `seal-env serve`."""

from __future__ import annotations

from typing import Any

from openenv.core import EnvClient
from openenv.core.client_types import StepResult
from openenv.core.env_server.types import State

from seal_env.serving.models import SelfEditAction, SelfEditObservation


class SelfEditClient(EnvClient[SelfEditAction, SelfEditObservation, State]):
    """One session of a server.

    Example::

        with SelfEditClient(base_url="http://127.0.0.1:8000").sync() as client:
            context = client.reset(seed=0, problem=7).observation.context
            result = client.step(SelfEditAction(text="One line."))
            print(result.reward, result.done)
    """

    def _step_payload(self, action: SelfEditAction) -> dict[str, Any]:
        return {"text": action.text}

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[SelfEditObservation]:
        reward, done = payload.get("reward"), bool(payload.get("done"))
        fields = {"done": done, "reward": reward, **payload["observation"]}
        observation = SelfEditObservation.model_validate(fields)
        return StepResult(observation=observation, reward=reward, done=done)

    def _parse_state(self, payload: dict[str, Any]) -> State:
        return State.model_validate(payload)
