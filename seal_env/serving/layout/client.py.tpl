"""Client of the server."""

from seal_env.serving.client import SelfEditClient

__all__ = ["SelfEditClient"]
