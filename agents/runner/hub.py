"""Folders pushed to the Hugging Face hub, or to what HF_ENDPOINT names in its place."""

from __future__ import annotations

from pathlib import Path

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from seal_env.errors import UserError


def check_repo(repo: str) -> None:
    """Checks the name of a repository.

    Raises:
        UserError: It is none.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"--push-to-hub {repo}: {error}") from None


def push(folder: Path, repo: str, kind: str, private: bool) -> str:
    """Pushes the files of a folder as one commit; makes the repository if there is none.

    The token is that of HF_TOKEN, or of ``hf auth login``.

    Args:
        folder: The folder.
        repo: Name of the repository, such as ``me/self-edits``.
        kind: ``dataset`` or ``model``.
        private: Whether a new repository is private.

    Returns:
        Address of the commit.

    Raises:
        UserError: The hub cannot be reached, or refuses.
    """
    api = HfApi()
    try:
        api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=folder,
            delete_patterns="data/*",  # of an earlier export
            commit_message=f"Add a {kind} of seal-env",
        )
    except (OSError, ValueError, KeyError, httpx2.HTTPError) as error:
        raise UserError(
            f"--push-to-hub {repo}: {error}; {folder} is written: to push it again, "
            f"hf upload {repo} {folder} --repo-type {kind}"
        ) from None
    return str(commit.commit_url)
