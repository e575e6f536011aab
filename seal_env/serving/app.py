"""The application of `seal-env serve`, and the server that runs it."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

from seal_env.batcher import BatcherConfig, QueueFullError
from seal_env.config import EnvConfig
from seal_env.errors import UserError
from seal_env.serving.limits import Guard, ServeLimits
from seal_env.sessions import NoEpisodeError, Sessions

TOKEN = "SEAL_ENV_TOKEN"
"""Environment variable with the token that clients must give."""
STATUS = {NoEpisodeError: 409, QueueFullError: 429, UserError: 422, TimeoutError: 408}
"""HTTP status of what a session raises."""


def create_app(sessions: Sessions, limits: ServeLimits, token: str | None = None) -> Any:
    """The FastAPI application: OpenEnv's own, behind the limits, and ``GET /metrics``.

    Raises:
        UserError: The package openenv is missing.
    """
    try:
        from fastapi import Request
        from fastapi.responses import JSONResponse
        from openenv.core.env_server import ConcurrencyConfig
        from openenv.core.env_server import create_app as create_openenv_app
        from starlette.middleware.trustedhost import TrustedHostMiddleware
    except ImportError as error:
        raise UserError(
            f"serving needs the package openenv ({error}): pip install seal-env[serve]"
        ) from None
    from seal_env.serving.environment import NAME, SelfEditEnvironment
    from seal_env.serving.models import SelfEditAction, SelfEditObservation

    app = create_openenv_app(
        partial(SelfEditEnvironment, sessions),
        SelfEditAction,
        SelfEditObservation,
        env_name=NAME,
        concurrency_config=ConcurrencyConfig(
            max_concurrent_envs=limits.max_sessions, session_timeout=limits.idle_seconds
        ),
    )

    async def failed(_: Request, error: Exception) -> JSONResponse:
        kind = next(kind for kind in type(error).__mro__ if kind in STATUS)
        return JSONResponse({"detail": str(error) or "timeout"}, STATUS[kind])

    for kind in STATUS:
        app.add_exception_handler(kind, failed)

    @app.get("/metrics")
    async def metrics() -> dict[str, Any]:
        """Counts of the batcher."""
        return dataclasses.asdict(sessions.batcher.metrics())

    if token is None:  # no page may reach it under a name of its own that leads to this machine
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]"])
    app.add_middleware(Guard, limits=limits, token=token)
    return app


def app_of(folder: str | Path) -> Any:
    """Application of a hub's folder, with the settings of its ``seal_env.json``.

    Raises:
        UserError: The environment variable with the token is not set.
    """
    from seal_env.serving.space import read_settings

    token = os.environ.get(TOKEN)
    if not token:
        raise UserError(f"{TOKEN}: set it to the token that clients must give, as a secret")
    return create_app(Sessions(read_settings(folder)), ServeLimits(), token)


def serve(
    env: EnvConfig,
    host: str = "127.0.0.1",
    port: int = 8000,
    batching: BatcherConfig | None = None,
    limits: ServeLimits | None = None,
) -> None:
    """Serves an environment until the process is stopped.

    Args:
        env: Settings of the environment that all sessions share.
        host: Address to listen on. Any but a loopback address needs a token.
        port: Port; 0 for a free one.
        batching: Settings of the batcher.
        limits: Limits of requests and sessions.

    Raises:
        UserError: The address cannot be listened on, or it needs a token.
    """
    token = os.environ.get(TOKEN) or None
    if token is None and not _is_loopback(host):
        raise UserError(
            f"--host {host}: others can reach it; set the environment variable {TOKEN} to a token "
            f"that clients must give"
        )
    limits = limits or ServeLimits()
    with _listen(host, port) as listening, Sessions(env, batching) as sessions:
        app = create_app(sessions, limits, token)
        import uvicorn

        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}"
        print(f"serving {env.task} with {env.model} on {address}; Ctrl-C ends it", flush=True)
        settings = uvicorn.Config(
            app, log_level="warning", ws_max_size=limits.max_body, access_log=False
        )
        uvicorn.Server(settings).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens."""
    if not 0 <= port < 1 << 16:
        raise UserError(f"--port {port}: must be from 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {error.strerror or error}") from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
