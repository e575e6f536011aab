"""Streams: the ways in which a learner goes on from self-edit to self-edit. One file per way.

A stream is named by a text: a way, and what is added to it, as in ``"merge + gate"``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from seal_env.checks import construct
from seal_env.errors import UserError
from seal_env.registry import Registry
from seal_env.streams.base import Addition, History, Stream, StreamStep

STREAMS = Registry(
    "stream",
    {
        "continue": "seal_env.streams.continued:Continue",
        "joint": "seal_env.streams.joint:Joint",
        "merge": "seal_env.streams.merge:Merge",
        "route": "seal_env.streams.route:Route",
        "replay": "seal_env.streams.replay:Replay",
        "stack": "seal_env.streams.stack:Stack",
    },
)


ADDITIONS = Registry(
    "addition to a stream",
    {
        "gate": "seal_env.streams.gate:Gate",
        "kl": "seal_env.streams.kl:KL",
        "null_space": "seal_env.streams.null_space:NullSpace",
        "orthogonal": "seal_env.streams.orthogonal:Orthogonal",
    },
)


def parse_stream(text: str, options: Mapping[str, Mapping[str, Any]] | None = None) -> Stream:
    """Stream from a text such as ``"continue"`` or ``"merge + gate"``.

    Args:
        text: A way, and what is added to it.
        options: Keyword arguments, by the names that the text has.

    Raises:
        UserError: A name is unknown, or one does not take its options.
    """
    options = options or {}
    names = stream_names(text)
    for name in options:
        if name not in names:
            raise UserError(
                f"stream_options: the stream {text!r} has no {name!r}; it has {', '.join(names)}"
            )
    stream: Stream = _constructed(STREAMS, Stream, names[0], options)
    for name in names[1:]:
        addition: Addition = _constructed(ADDITIONS, Addition, name, options)
        stream = addition.on(stream)
    return stream


def stream_names(text: str) -> list[str]:
    """Names that a stream's text has, the way first."""
    return re.split(r"\s*\+\s*", text.strip())


def load_part(name: str) -> Any:
    """Class of a way or an addition by name.

    Raises:
        UserError: There is none of this name.
    """
    return (ADDITIONS if name in ADDITIONS else STREAMS).load(name)


def _constructed(
    registry: Registry, base: type[Any], name: str, options: Mapping[str, Mapping[str, Any]]
) -> Any:
    """A part of a stream by name."""
    kind = registry.load(name)
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise UserError(f"stream {name!r}: is no subclass of {base.__name__}")
    return construct(kind, options.get(name, {}), f"stream {name!r}")


__all__ = [
    "ADDITIONS",
    "STREAMS",
    "Addition",
    "History",
    "Stream",
    "StreamStep",
    "load_part",
    "parse_stream",
    "stream_names",
]
