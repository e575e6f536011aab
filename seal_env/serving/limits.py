"""What a server refuses before OpenEnv sees it: strangers, and bodies that are no plain JSON."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from seal_env.errors import UserError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LONGEST_NESTING = 16
"""Most levels of lists and objects in a body."""
OPEN_PATHS = ("/health",)
"""Paths that need no token, for health checks of a container."""


@dataclass(frozen=True)
class ServeLimits:
    """Limits of a server."""

    max_body: int = 1 << 20
    """Bytes of the longest request."""
    max_sessions: int = 256
    """Most concurrent sessions; one more is refused."""
    idle_seconds: float = 3600.0
    """Seconds without a request after which a session ends."""

    def __post_init__(self) -> None:
        for name in ("max_body", "max_sessions", "idle_seconds"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} {getattr(self, name)}: must be above 0")


class BadRequestError(Exception):
    """A request that is refused, with its HTTP status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Guard:
    """ASGI middleware that keeps the limits.

    Args:
        app: The application behind it.
        limits: The limits.
        token: What ``Authorization: Bearer`` must say; None for a server that needs none.
    """

    def __init__(self, app: App, limits: ServeLimits, token: str | None) -> None:
        self.app, self.limits, self.token = app, limits, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        try:
            self._admit(scope)
            if scope["type"] == "http":
                receive = await self._whole(receive)
            else:
                send = _sent_while_open(send)
                receive = self._frames(receive, send)
        except BadRequestError as refused:
            await _refuse(scope, receive, send, refused)
            return
        await self.app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        """Refuses pages of other origins, which browsers let connect, and wrong tokens."""
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get(b"origin")
        if origin is not None and _netloc(origin) != headers.get(b"host"):
            raise BadRequestError(403, "requests of other origins are refused")
        if self.token is not None and scope["path"] not in OPEN_PATHS:
            given = headers.get(b"authorization", "").encode()
            if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
                raise BadRequestError(401, "give the server's token: Authorization: Bearer TOKEN")

    async def _whole(self, receive: Receive) -> Receive:
        """The body of a request, checked, as what is received."""
        body = bytearray()
        more = True
        while more:
            try:
                message = await asyncio.wait_for(receive(), self.limits.idle_seconds)
            except TimeoutError:
                raise BadRequestError(408, "the request is too slow") from None
            if message["type"] == "http.disconnect":
                return _after(receive, message)
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.limits.max_body:
                raise BadRequestError(413, f"longer than {self.limits.max_body} bytes")
        if body:
            check_json(bytes(body))
        return _after(receive, {"type": "http.request", "body": bytes(body), "more_body": False})

    def _frames(self, receive: Receive, send: Send) -> Receive:
        """Frames of a connection; those that are refused are answered here, and it goes on."""

        async def checked() -> Message:
            while True:
                try:
                    message = await asyncio.wait_for(receive(), self.limits.idle_seconds)
                except TimeoutError:
                    await send({"type": "websocket.close", "code": 1008, "reason": "idle"})
                    return {"type": "websocket.disconnect", "code": 1008}
                if message["type"] != "websocket.receive":
                    return message
                try:
                    text = message.get("text")
                    if text is None:
                        raise BadRequestError(400, "a binary frame")
                    if not isinstance(check_json(text.encode()), dict):
                        raise BadRequestError(400, "no JSON object")
                    return message
                except BadRequestError as refused:
                    data = {"message": f"Invalid message: {refused}", "code": "INVALID_JSON"}
                    reply = json.dumps({"type": "error", "data": data})
                    await send({"type": "websocket.send", "text": reply})

        return checked


def check_json(body: bytes) -> Any:
    """Value of a body that can be read, nested and written again.

    Raises:
        BadRequestError: It is no JSON, or has numbers, characters or a depth that JSON writers and
            recursive readers fail on.
    """
    try:
        value = json.loads(body)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise BadRequestError(400, f"no plain JSON: {type(error).__name__}") from None
    level = [value]
    for _ in range(LONGEST_NESTING):
        nested = [one for one in level if isinstance(one, dict | list)]
        level = [x for one in nested for x in (one.values() if isinstance(one, dict) else one)]
    if any(isinstance(one, dict | list) for one in level):
        raise BadRequestError(400, f"nested deeper than {LONGEST_NESTING} levels")
    return value


def _after(receive: Receive, first: Message) -> Receive:
    """What is received, with a message put before it."""
    waiting = [first]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


def _sent_while_open(send: Send) -> Send:
    """What sends on a connection until either side closes it; what comes later is dropped.

    A client may leave in the middle of a step, whose answer then has no reader. A server raises
    OSError (ASGI specification, "Send Event Exceptions"), which OpenEnv would answer with one more
    message, and that with a traceback; the next `receive` tells it that the client has left.
    """
    is_open = True

    async def checked(message: Message) -> None:
        nonlocal is_open
        if not is_open:
            return
        is_open = message["type"] != "websocket.close"
        try:
            await send(message)
        except OSError:
            is_open = False

    return checked


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


async def _refuse(scope: Scope, receive: Receive, send: Send, refused: BadRequestError) -> None:
    if scope["type"] == "websocket":
        await receive()  # the connection's request, which has to be taken before it is closed
        await send({"type": "websocket.close", "code": 1008, "reason": str(refused)})
        return
    body = json.dumps({"detail": str(refused)}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
