"""What the hub's refusals mean, in words a user can act on; and no token in any of them."""

from __future__ import annotations

import errno
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import errors as hub_errors

from ray_app.hub.patience import HubBusyError
from tracking.errors import CheckpointError, InputError, StartlineError, StorageError, TaskDataError, UnreachableError
from tracking.secrets import redact


class RepoKind(Enum):
    """The two kinds of repositories of the hub that are read here."""

    MODEL = "model"
    DATASET = "dataset"


def scrub(error: BaseException) -> BaseException:
    """The error itself, and all it was raised from, with `redact` applied to their texts."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        current.args = tuple(redact(arg) if isinstance(arg, str) else arg for arg in current.args)
        current = current.__cause__ or current.__context__
    return error


def explain(
    error: Exception, *, kind: RepoKind, repo_id: str, wanted: str, endpoint: str, cache: Path
) -> StartlineError:
    """The error of our own tree that says what a failed request means.

    Args:
        error: what huggingface_hub or the HTTP client raised.
        kind: model or data set.
        repo_id: its id.
        wanted: what was asked for, such as 'config.json at 0123...'.
        endpoint: address of the hub.
        cache: folder that is downloaded to.
    """
    if isinstance(error, HubBusyError):
        return unreachable(error.reason, kind=kind, repo_id=repo_id, wanted=wanted, endpoint=endpoint)
    if isinstance(error, hub_errors.HfHubHTTPError):
        return _of_answer(error, kind=kind, repo_id=repo_id, wanted=wanted, endpoint=endpoint)
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        return of_disk(error, folder=cache)
    if isinstance(
        error, (hub_errors.LocalEntryNotFoundError, hub_errors.FileMetadataError, ValueError, LookupError, TypeError)
    ):
        reason = "it answers, but not as a hub does"
    else:
        reason = redact(str(error)).strip().partition("\n")[0][:200] or type(error).__name__
    return unreachable(reason, kind=kind, repo_id=repo_id, wanted=wanted, endpoint=endpoint)


def unreachable(reason: str, *, kind: RepoKind, repo_id: str, wanted: str, endpoint: str) -> UnreachableError:
    """The error for something that neither the hub nor anything local gives us: what is missing, and three ways out."""
    noun, place = ("model", f"models/{repo_id}/") if kind is RepoKind.MODEL else ("data set", "tasks/<task>/*.parquet")
    return UnreachableError(
        f"missing: {noun} {repo_id} ({wanted}); the hub at {_host(endpoint)} could not be used ({redact(reason)}) and no "
        f"mirror or cache has it. Ways out: connect, or set HF_ENDPOINT to a hub that can be reached; MIRROR=dir with "
        f"{place} in it; or a filled Hugging Face cache, named by HF_HOME.",
        missing=repo_id,
        kind=kind.value,
        endpoint=_host(endpoint),
    )


def of_disk(error: OSError, *, folder: Path) -> StorageError:
    """The error for a cache folder that is full or cannot be written."""
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return StorageError(
        f"{folder} {'has no space left' if full else f'cannot be written ({error.strerror})'}, expected room for downloads: "
        "free space there or name another cache folder.",
        folder=str(folder),
    )


def _of_answer(
    error: hub_errors.HfHubHTTPError, *, kind: RepoKind, repo_id: str, wanted: str, endpoint: str
) -> StartlineError:
    noun = "model" if kind is RepoKind.MODEL else "data set"
    named = f"{noun} {repo_id}"
    status = error.response.status_code
    has_token = "authorization" in error.response.request.headers
    if isinstance(error, hub_errors.GatedRepoError):
        text = (
            f"{named} is gated (status {status}), expected one that may be read: accept its conditions at "
            f"{_host(endpoint)} and set HF_TOKEN to a token of that account."
        )
    elif status == 401 and has_token:
        text = f"{named}: the hub refuses the token (status 401), expected a valid one: renew HF_TOKEN, or unset it for a public {noun}."
    elif status == 401:
        text = (
            f"{named} does not exist or is private (status 401), expected a public one: check its id, or set HF_TOKEN to a "
            "token that may read it."
        )
    elif isinstance(error, hub_errors.DisabledRepoError):
        text = f"{named} was disabled by the hub (status {status}), expected one that may be read: leave it out."
    elif status == 403:
        text = f"{named} may not be read with this token (status 403): set HF_TOKEN to a token with read access."
    elif isinstance(error, hub_errors.RevisionNotFoundError):
        text = f"{named} has no {wanted} (status 404), expected a commit, branch or tag of it: check its revision."
    elif isinstance(error, hub_errors.RemoteEntryNotFoundError):
        text = f"{named} has no {wanted} (status 404): check the file's name and the revision."
    elif status == 404:
        text = f"{named} does not exist on the hub at {_host(endpoint)} (status 404), expected org/name: check its id."
    else:
        return unreachable(f"it answers {status}", kind=kind, repo_id=repo_id, wanted=wanted, endpoint=endpoint)
    return refused(text, kind=kind, repo_id=repo_id, status=status)


def refused(text: str, *, kind: RepoKind, repo_id: str, status: int | None = None) -> InputError:
    """CheckpointError or TaskDataError, after the kind of the repository."""
    tree = CheckpointError if kind is RepoKind.MODEL else TaskDataError
    return tree(redact(text), repo_id=repo_id, status=status)


def _host(endpoint: str) -> str:
    """Address of the hub without a name and password in it."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


CAUGHT = (
    HubBusyError,
    httpx2.HTTPError,
    httpx2.InvalidURL,
    hub_errors.EntryNotFoundError,
    hub_errors.XetDownloadError,
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
)
"""All that a request through huggingface_hub may raise. RuntimeError comes from its Xet transfers; ValueError, LookupError
and TypeError come from reading an answer that is not a hub's (a login page of a network, say)."""
