"""Names for the exchangeable parts: tasks, self-edit languages, reward terms, agents.

A registry maps a short name to ``"package.module:Name"``, which is imported at its first use. Parts
of other packages need no entry: every option that takes a name also takes
``"package.module:Name"``.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from seal_env.errors import UserError


class Registry(Mapping[str, str]):
    """A read-only mapping from short names to import paths.

    Args:
        kind: Name of the kind of entries, for messages (``"task"``).
        entries: Import paths, ``"package.module:Name"``, by short name.
        aliases: Earlier name to the short name that replaced it. An alias loads what the short
            name does, and is not listed.
        extra: Extra of seal-env that the entries need, if there is one.
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
        """Class with a short name or an import path ``"package.module:Name"``.

        Raises:
            UserError: The name is not registered, the path cannot be imported, or a required
                package is not installed.
        """
        path = self.get(name, name)
        if ":" not in path:
            raise UserError(f"unknown {self.kind} {name!r}: {self.advice(name)}")
        module_name, _, attribute = path.partition(":")
        if _is_file(module_name):
            dotted = _module_of(module_name)
            raise UserError(
                f"{self.kind} {name!r}: name the module, not the file: '{dotted}:{attribute}'"
            )
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
            alike = [known for known in vars(module) if known.lower() == attribute.lower()]
            alike += difflib.get_close_matches(attribute, vars(module), n=1)
            hint = f"did you mean {alike[0]!r}?" if alike else "name a class that it defines"
            raise UserError(
                f"{self.kind} {name!r}: module {module_name!r} has no {attribute!r}; {hint}"
            ) from None

    def advice(self, name: str) -> str:
        """Which names there are, and the one most similar to an unknown one."""
        close = difflib.get_close_matches(name, self._entries, n=1)
        if _is_file(name):
            close = [f"{_module_of(name)}:Name"]
        elif "." in name.strip(".") and not close:
            close = [":".join(name.rsplit(".", 1))]
        hint = f"did you mean {close[0]!r}? " if close else ""
        known = ", ".join(sorted(self._entries))
        return f"{hint}known: {known}; or give your own as 'package.module:Name'"


def _is_file(name: str) -> bool:
    return name.endswith(".py") or "/" in name


def _module_of(file: str) -> str:
    """Name of the module in a file, as it is imported from the folder that the path begins in."""
    path = PurePosixPath(file)
    folders = () if path.is_absolute() or ".." in path.parts else path.parent.parts
    return ".".join((*folders, path.name.removesuffix(".py")))
