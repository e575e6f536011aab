"""The application that uvicorn runs."""

from pathlib import Path

from seal_env.serving.app import app_of

app = app_of(Path(__file__).parents[1])


def main() -> None:
    """Serves on port 8000 of all addresses; the token is in SEAL_ENV_TOKEN."""
    import uvicorn

    uvicorn.run(app, host="0.0.0.0", port=8000, ws_max_size=1 << 20)


if __name__ == "__main__":
    main()
