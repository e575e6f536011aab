"""The command ``seal-env``, which is also ``python -m seal_agents``."""

from __future__ import annotations

import sys
from importlib.util import find_spec

EXTRA = {
    "jinja2": "jinja2",
    "matplotlib": "matplotlib",
    "rich": "rich",
    "stable_baselines3": "stable-baselines3",
    "tensorboard": "tensorboard",
    "tyro": "tyro",
}
"""Packages of the extra `agents`, by the name that they are imported under."""


def main() -> None:
    """Runs the command line; one line if the packages that it needs are not installed."""
    missing = [package for module, package in EXTRA.items() if find_spec(module) is None]
    if missing:
        sys.exit(
            f"seal-env: the command line needs {', '.join(missing)}: pip install 'seal-env[agents]'"
        )
    try:
        from seal_agents.cli import main as run

        run()
    except KeyboardInterrupt:  # while it was still being imported
        print("seal-env: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
