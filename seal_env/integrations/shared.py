"""What adapters share: environments by their settings, and the error for a missing package."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from seal_env.checks import build
from seal_env.config import EnvConfig
from seal_env.errors import UserError
from seal_env.sessions import Sessions

_SESSIONS: dict[str, Sessions] = {}
_LOCK = threading.Lock()


def shared_sessions(settings: Mapping[str, Any]) -> Sessions:
    """The process's one environment of some settings, whose rollouts share passes.

    Args:
        settings: Fields of `seal_env.EnvConfig`, plain values.
    """
    key = repr(sorted(settings.items()))
    with _LOCK:
        if key not in _SESSIONS:
            _SESSIONS[key] = Sessions(build(EnvConfig, settings, "env_config"))
        return _SESSIONS[key]


@contextmanager
def needs(package: str, install: str) -> Iterator[None]:
    """Makes a failed import one line that says what to install.

    Args:
        package: Name of the package that is imported within.
        install: How to install it.

    Raises:
        UserError: It is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(f"this adapter needs the package {package} ({error}): {install}") from None
