"""Names for the exchangeable parts: tasks, self-edit languages, reward terms, agents.

A registry maps a short name to ``"package.module:Name"``; nothing is imported before it is
asked for. A user's own part needs no entry: every place that takes a name also takes the
``"package.module:Name"`` form directly.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from seal_env.errors import UserError


class Registry(Mapping[str, str]):
    """A read-only mapping from short names to import paths.

    Args:
        kind: What the entries are, as it reads in an error message (``"task"``).
        entries: Short name to ``"package.module:Name"``.
        aliases: Earlier name to the short name that replaced it. An alias loads what the short
            name does, and is not listed.
        extra: The extra of seal-env that brings what the entries need, if there is one.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, str],
        extra: str = "",
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.extra = extra
        self._entries = dict(entries)
        self._aliases = dict(aliases or {})

    def __getitem__(self, name: str) -> str:
        return self._entries[self._aliases.get(name, name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, name: str) -> Any:
        """Returns the class behind a short name or a ``"package.module:Name"`` path.

        Raises:
            UserError: The name is not registered, the path cannot be imported, or a package
                that it needs is not installed.
        """
        path = self.get(name, name)
        if ":" not in path:
            raise UserError(f"unknown {self.kind} {name!r}: {self._advice(name)}")
        module_name, _, attribute = path.partition(":")
        try:
            module = importlib.import_module(module_name)
        except (ImportError, TypeError, ValueError) as error:  # the latter two: no module's name
            needed = error.name if isinstance(error, ModuleNotFoundError) else None
            if needed and not f"{module_name}.".startswith(f"{needed}."):
                hint = (
                    f": pip install 'seal-env[{self.extra}]'" if name in self and self.extra else ""
                )
                raise UserError(
                    f"{self.kind} {name!r} needs {needed!r}, which is not installed{hint}"
                ) from error
            close = difflib.get_close_matches(module_name, self._entries, n=1)
            hint = f"did you mean {close[0]!r}, or " if close else ""
            raise UserError(
                f"{self.kind} {name!r}: cannot import {module_name!r} ({error}); {hint}"
                f"check the spelling and that its folder is on the Python path"
            ) from error
        try:
            return getattr(module, attribute)
        except AttributeError:
            raise UserError(
                f"{self.kind} {name!r}: module {module_name!r} has no {attribute!r}; "
                f"name a class that it defines"
            ) from None

    def _advice(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._entries, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        known = ", ".join(sorted(self._entries))
        return f"{hint}known: {known}; or give your own as 'package.module:Name'"
