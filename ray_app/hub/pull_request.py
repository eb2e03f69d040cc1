"""Opens a pull request on the hub: the one place that writes there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import huggingface_hub
from huggingface_hub import CommitOperationAdd
from huggingface_hub import errors as hub_errors

from ray_app.hub.client import HubClient
from ray_app.hub.hub_cache import Listing
from ray_app.hub.refusals import CAUGHT, RepoKind, explain, scrub
from tracking.errors import CheckpointError, InputError
from tracking.secrets import redact

README = "README.md"


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """A pull request that was opened."""

    address: str
    commit: str


def read_readme(hub: HubClient, repo_id: str) -> tuple[str, Listing]:
    """The model card as it stands on the main branch ('' where there is none), and that commit's listing.

    Raises:
        CheckpointError: the hub refuses, has no such model, or the card is not UTF-8.
        UnreachableError: the hub is away.
    """
    listing = hub.listing(RepoKind.MODEL, repo_id)
    if README not in listing.files:
        return "", listing
    path = hub.fetch(RepoKind.MODEL, repo_id, commit=listing.commit, name=README)
    try:
        return path.read_bytes().decode("utf-8"), listing
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"the card of {repo_id} is not UTF-8 (byte offset {error.start}), expected Markdown; correct it on the hub first",
            repo_id=repo_id,
        ) from error


def open_pull_request(
    hub: HubClient, repo_id: str, *, files: Mapping[str, bytes], parent: str, title: str, text: str
) -> PullRequest:
    """Open a pull request that adds or replaces files.

    Args:
        hub: where; the token is the one that huggingface_hub finds (HF_TOKEN, or a login).
        repo_id: model.
        files: content by path in the repository.
        parent: commit that the files were made for; the hub refuses where the main branch has moved on.
        title: first line of the commit.
        text: its description.

    Raises:
        InputError: the hub refuses the content (metadata it does not take), or nothing would change.
        CheckpointError: it refuses the repository or the token, or the repository has changed since ``parent``.
        UnreachableError: it is away.
    """
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in files.items()]
    api = huggingface_hub.HfApi(endpoint=hub.endpoint)
    try:
        info = api.create_commit(
            repo_id,
            operations,
            commit_message=title,
            commit_description=text,
            create_pr=True,
            parent_commit=parent,
        )
    except CAUGHT as error:
        scrub(error)
        refused = _refusal(error, repo_id)
        if refused is not None:
            raise refused from error
        raise explain(
            error,
            kind=RepoKind.MODEL,
            repo_id=repo_id,
            wanted="a pull request",
            endpoint=hub.endpoint,
            cache=hub.cache,
        ) from error
    if info.pr_url is None:
        raise InputError(
            f"{repo_id} has these results already: nothing would change, no pull request was opened", repo_id=repo_id
        )
    return PullRequest(address=info.pr_url, commit=str(info.oid))


def _refusal(error: Exception, repo_id: str) -> InputError | None:
    """What a refused write means; None where it means what a refused read would."""
    if isinstance(error, hub_errors.HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return CheckpointError(
                f"the hub does not let this token open a pull request on {repo_id} (status {status}); set HF_TOKEN to a token "
                "with write access to repositories or discussions, and check the id",
                repo_id=repo_id,
                status=status,
            )
        if status in (409, 412):
            return CheckpointError(
                f"{repo_id} changed on the hub in the meantime (status {status}); run the same command again",
                repo_id=repo_id,
                status=status,
            )
        return None
    if isinstance(error, ValueError):
        said = " ".join(redact(str(error)).split())[:300]
        return InputError(
            f"the hub does not take the card of {repo_id} ({said}); correct the metadata at the top of its README.md there",
            repo_id=repo_id,
        )
    return None
