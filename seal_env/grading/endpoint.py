"""Requests to an OpenAI-compatible endpoint, each with one deadline and one type of error.

Whatever the server sends (no HTTP, endless headers, a slow body, deeply nested brackets), the
result is the text of a reply or a `Failure`.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx2

MAX_REPLY_BYTES = 1 << 20
"""Maximum length of a reply, in bytes. A verdict is one line; a reasoning judge writes pages."""

PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP status codes of errors that may be temporary."""


class Failure(Exception):
    """Request without a reply; the message states the cause."""

    def __init__(
        self, reason: str, passing: bool = True, wait: float = 0.0, complaint: str = ""
    ) -> None:
        super().__init__(reason)
        self.passing = passing
        """Whether the same request may succeed later."""
        self.wait = wait
        """Delay in seconds that the endpoint requests before a retry."""
        self.complaint = complaint
        """Objection of the endpoint to the request itself."""


class Reply(NamedTuple):
    """Reply to one request."""

    text: str
    """Text of the chat completion."""
    tokens: int
    """Tokens of the request and the reply, as the endpoint counts them; 0 if it does not."""


@dataclass
class Endpoint:
    """Client for the chat completions of one endpoint."""

    url: str
    """URL of the requests: the address of the endpoint with its path."""
    key: str = field(repr=False)
    """API key; empty for none."""
    timeout: float
    """Time limit for a whole request in seconds, from name resolution to the last byte."""

    def client(self) -> httpx2.AsyncClient:
        """HTTP client for several requests. It follows no redirects: the key is for one host."""
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return httpx2.AsyncClient(headers=headers, timeout=None, follow_redirects=False)

    async def complete(self, client: httpx2.AsyncClient, body: Mapping[str, Any]) -> Reply:
        """Reply to one request.

        Raises:
            Failure: The request has no reply.
        """
        try:
            async with asyncio.timeout(self.timeout):
                status, headers, data = await self._send(client, body)
        except TimeoutError:
            raise Failure(f"no complete reply within {self.timeout:g} s") from None
        except Failure:
            raise
        except Exception as error:  # whatever a client makes of what an endpoint sends
            raise Failure(_reason(error)) from None
        if status != 200:
            said = _complaint(data)
            raise Failure(
                f"HTTP {status}{said and ': '}{said}",
                status in PASSING_STATUS,
                _wait(headers.get("retry-after", "")),
                said if status in (400, 422) else "",
            )
        return Reply(_content(data), _tokens(data))

    async def _send(
        self, client: httpx2.AsyncClient, body: Mapping[str, Any]
    ) -> tuple[int, httpx2.Headers, bytes]:
        content = json.dumps(body).encode()
        async with client.stream("POST", self.url, content=content) as response:
            coding = response.headers.get("content-encoding", "identity").strip().lower()
            if coding not in ("", "identity"):  # nobody asked for it, and it may hide gigabytes
                raise Failure(f"the reply is compressed ({coding}) though no compression was asked")
            data = bytearray()
            async for part in response.aiter_raw():
                data += part
                if len(data) > MAX_REPLY_BYTES:
                    raise Failure(f"the reply is longer than {MAX_REPLY_BYTES >> 20} MiB")
        if self.key:  # some endpoints quote the request
            data = data.replace(self.key.encode(), b"***")
        return response.status_code, response.headers, bytes(data)


def _reason(error: Exception) -> str:
    """Message of a connection error, with the name of its class if the message is short."""
    told = str(error).strip() or str(error.__cause__ or "").strip()
    return told if " " in told else f"{type(error).__name__} {told}".strip()


def _parse(data: bytes) -> Any:
    return json.loads(data.decode("utf-8-sig"))


def _content(data: bytes) -> str:
    """Text of a chat completion, whose content may be a list of parts."""
    try:
        choice = _parse(data)["choices"][0]
        content = choice["message"]["content"]
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content)
        if not isinstance(content, str):
            reason = choice.get("finish_reason") or choice["message"].get("refusal")
            raise Failure(f"the reply has no text (it ended with {reason!r})")
    except (ValueError, RecursionError):
        raise Failure(f"the reply is not JSON ({data[:60]!r})") from None
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Failure(f"the reply is no chat completion ({data[:60]!r})") from None
    return content


def _tokens(data: bytes) -> int:
    """Tokens that a completion says it took."""
    try:
        count = _parse(data)["usage"]["total_tokens"]
    except (KeyError, TypeError):
        return 0
    return count if type(count) is int and 0 <= count < MAX_REPLY_BYTES else 0


def _complaint(data: bytes) -> str:
    """Objection of an endpoint to a request; empty if the body is an HTML page."""
    try:
        said = _parse(data)
        error = said.get("error", said)
        message = error if isinstance(error, str) else error.get("message") or error.get("detail")
        return " ".join(str(message or "").split())[:300]
    except (ValueError, RecursionError, TypeError, AttributeError):
        text = data[:300].decode("utf-8", "replace").strip()
        return "" if text.startswith("<") else " ".join(text.split())


def _wait(header: str) -> float:
    """Delay in seconds that a Retry-After header requests, as a number or as a date."""
    if header.strip().isdecimal():
        return float(header.strip()[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
