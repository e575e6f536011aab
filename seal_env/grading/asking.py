"""Questions to a language model behind an OpenAI-compatible endpoint: many at once, with retries.

What is asked and how a reply is read is the caller's: `seal_env.grading.judge` grades answers,
`seal_env.probes.rubric_grades` self-edits.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import httpx2

from seal_env.errors import UserError, printable
from seal_env.grading.endpoint import Endpoint, Failure

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Delay before the first retry, which doubles with each further retry, and the maximum delay,
which also bounds what the endpoint requests; both in seconds."""

T = TypeVar("T")


class Verdict(NamedTuple, Generic[T]):
    """What a reply says, and what it took."""

    value: T | None
    """The reply as it was read; None if it could not be read."""
    calls: int
    """Requests that had a reply."""
    tokens: int
    """Tokens of these requests and their replies, as the endpoint counts them; 0 if it does not."""
    reply: str
    """The last reply."""


@dataclass(frozen=True)
class JudgeQuestion(Generic[T]):
    """The part that all requests of a batch share."""

    instruction: str
    """The system turn."""
    read: Callable[[str], T | None]
    """Reads a reply; None if it is none of the replies that were asked for."""


@dataclass(frozen=True)
class ChatModel:
    """Model at an endpoint that judges; plain data, so that it can be a setting."""

    base_url: str
    """URL of the endpoint, such as https://api.openai.com/v1 or http://127.0.0.1:8000/v1."""
    model: str
    """Name of the model at that endpoint."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; no key is sent if it is unset."""
    timeout: float = 30.0
    """Time limit for one whole reply, in seconds. A reasoning model may need more."""
    retries: int = 3
    """Maximum number of retries per request after temporary failures."""
    concurrency: int = 8
    """Maximum number of concurrent requests."""
    max_tokens: int | None = None
    """Maximum length of a reply in tokens, reasoning included; the endpoint decides if unset."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout < float("inf"):
            raise UserError(f"judge: timeout {self.timeout!r} is no time in seconds above 0")
        if self.retries < 0 or self.concurrency < 1:
            raise UserError(
                f"judge: retries {self.retries!r} must be 0 or more, concurrency "
                f"{self.concurrency!r} 1 or more"
            )
        if self.max_tokens is not None and self.max_tokens < 1:
            raise UserError(f"judge: max_tokens {self.max_tokens!r} must be 1 or more")
        self._address()

    def ask(
        self,
        question: JudgeQuestion[T],
        contents: Sequence[str],
        tell: Callable[[int, Verdict[T]], None] = lambda index, verdict: None,
    ) -> list[Verdict[T]]:
        """Asks about contents, several at a time.

        A reply that cannot be read is asked for again, as after a temporary failure.

        Args:
            question: What is asked.
            contents: User turn of each request.
            tell: Told each verdict as soon as it is there, by index.

        Raises:
            UserError: The endpoint is unreachable, or rejects a request.
        """
        return _run(self._all(question, contents, tell)) if contents else []

    def _address(self) -> httpx2.URL:
        try:
            url = httpx2.URL(self.base_url)
        except (httpx2.InvalidURL, TypeError, UnicodeError) as error:
            reason = str(error)
        else:
            port_fits = url.port is None or 0 < url.port < 65536
            if url.scheme in ("http", "https") and url.host and port_fits:
                return url
            reason = "its port is impossible" if not port_fits else "no scheme or no host"
        shown = printable(str(self.base_url), 200)
        raise UserError(f"judge: base_url {shown!r} is no http:// or https:// address ({reason})")

    async def _all(
        self,
        question: JudgeQuestion[T],
        contents: Sequence[str],
        tell: Callable[[int, Verdict[T]], None],
    ) -> list[Verdict[T]]:
        url = self._address()
        url = url.copy_with(path=f"{url.path.rstrip('/')}/chat/completions")
        endpoint = Endpoint(str(url), self._key(), self.timeout)
        request = _Request(self.model, question.instruction, self.max_tokens)
        slots = asyncio.Semaphore(self.concurrency)

        async def ask(client: httpx2.AsyncClient, index: int) -> Verdict[T]:
            async with slots:
                verdict = await self._one(endpoint, client, request, question, contents[index])
            tell(index, verdict)
            return verdict

        try:
            client = endpoint.client()
        except Exception as error:  # a wrong proxy or certificate in the environment
            raise self.refusal(f"{type(error).__name__}: {error}") from None
        async with client:
            tasks = [asyncio.create_task(ask(client, i)) for i in range(len(contents))]
            try:
                return await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(
        self,
        endpoint: Endpoint,
        client: httpx2.AsyncClient,
        request: _Request,
        question: JudgeQuestion[T],
        content: str,
    ) -> Verdict[T]:
        attempt = calls = tokens = 0
        while True:
            body = request.body(content)
            wait = FIRST_WAIT * 2**attempt
            try:
                reply = await endpoint.complete(client, body)
            except Failure as failure:
                if request.adapts(body, failure.complaint):
                    continue
                if not failure.passing or attempt >= self.retries:
                    raise self.refusal(str(failure)) from None
                wait = max(wait, failure.wait)
            else:
                calls, tokens = calls + 1, tokens + reply.tokens
                value = question.read(reply.text)
                if value is not None or attempt >= self.retries:
                    return Verdict(value, calls, tokens, reply.text)
            attempt += 1
            await asyncio.sleep(min(wait, LONGEST_WAIT))

    def _key(self) -> str:
        key = os.environ.get(self.api_key_env, "").strip()
        if not key.isascii() or not key.isprintable():
            raise UserError(
                f"judge: the key in {self.api_key_env} has characters that no key has; set it again"
            )
        return key

    def refusal(self, problem: str) -> UserError:
        """Error for a request without a verdict; it contains no secret."""
        url = self._address()
        shown = str(url.copy_with(userinfo=b"", query=None, fragment=None))
        for secret in (self._key(), url.userinfo.decode(), url.query.decode()):
            problem = problem.replace(secret, "***") if secret else problem
        return UserError(
            f"judge: no verdict from {printable(self.model)!r} at {shown} "
            f"({problem}); check the address, the model's name and the key in "
            f"{self.api_key_env}, or use the offline grader"
        )


@dataclass
class _Request:
    """Format of the requests to a judge; adapted when an endpoint rejects a part of it."""

    model: str
    instruction: str
    max_tokens: int | None
    temperature: bool = True
    limit: str = "max_tokens"
    system: bool = True

    def body(self, content: str) -> dict[str, Any]:
        """Request body."""
        body: dict[str, Any] = {"model": self.model}
        if self.temperature:
            body["temperature"] = 0
        if self.max_tokens is not None and self.limit:
            body[self.limit] = self.max_tokens
        body["messages"] = (
            [
                {"role": "system", "content": self.instruction},
                {"role": "user", "content": content},
            ]
            if self.system
            else [{"role": "user", "content": f"{self.instruction}\n\n{content}"}]
        )
        return body

    def adapts(self, body: dict[str, Any], complaint: str) -> bool:
        """Removes the part that an endpoint objects to; returns whether a new form is left to try.

        Reasoning models accept no `temperature`, newer endpoints name the length limit of the
        reply `max_completion_tokens`, and some chat templates have no system turn.
        """
        complaint = complaint.lower()
        if "temperature" in complaint and "temperature" in body:
            self.temperature = False
        elif "max_tokens" in complaint and "max_tokens" in body:
            self.limit = "max_completion_tokens"
        elif "max_completion_tokens" in complaint and "max_completion_tokens" in body:
            self.limit = ""
        elif "system" in complaint and len(body["messages"]) == 2:
            self.system = False
        else:
            return False
        return True


def _run(job: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to completion, even inside a running event loop, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(job)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, job).result()
