"""MLflow's model registry: the base model to start from, by name, version and alias. No model is copied or pickled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracking.errors import StoreError
from tracking.names import file_name
from tracking.schema import PREFIX, Kind, ModelTag, Param, Tag, experiment_name
from tracking.secrets import redact
from tracking.store import TAG_LIMIT, open_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

BEST_BASE = "best-base"
"""Alias of the version to start from."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A version of a registered model."""

    name: str
    version: str
    created: bool
    """False where the version was there already and only the alias was set."""


def registered_name(arch: str) -> str:
    """Registered model of an architecture: ``startline-<arch>``, '/' as '_' (MLflow refuses '/' and ':')."""
    return f"{PREFIX}-{file_name(arch)}"


def register_base(
    uri: str, *, arch: str, base_model: str, source: str, key: str, tags: Mapping[str, str], description: str
) -> Registration:
    """Make a base model the version that alias ``best-base`` points to.

    Args:
        uri: MLflow tracking URI, which is the registry's too.
        arch: architecture; its registered model is made where absent.
        base_model: its name; the version is linked to its ``base`` run, where `make rank` wrote one.
        source: where the weights are: a folder, or ``hf://<id>@<revision>``. A tracking server takes no folder: there the
            source is ``startline:/<key>``, and the folder stands in the tags.
        key: identity of what is registered: a version that has it is used again.
        tags: further facts about the version, by full tag names.
        description: in words.

    Raises:
        StoreError: the registry refused or is away.
    """
    client = open_client(uri)
    name = registered_name(arch)
    with _store_errors(uri):
        if not client.search_registered_models(f"name = '{name}'", max_results=1):
            client.create_registered_model(name, tags={Tag.KIND: str(Kind.BASE), ModelTag.ARCH: arch})
        version = _version_with(client, name, key)
        created = version is None
        if version is None:
            made = client.create_model_version(
                name,
                f"{PREFIX}:/{key}" if _is_server(uri) and _is_folder(source) else source,
                run_id=_base_run(client, arch, base_model),
                tags=_cut({**tags, Tag.KEY: key}),
                description=description,
            )
            version = str(made.version)
        client.set_registered_model_alias(name, BEST_BASE, version)
    return Registration(name=name, version=version, created=created)


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _is_folder(source: str) -> bool:
    return "://" not in source or source.startswith("file:")


def _cut(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: str(value)[:TAG_LIMIT] for name, value in tags.items()}


def _version_with(client: MlflowClient, name: str, key: str) -> str | None:
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", max_results=200, page_token=token)
        for version in page:
            if version.tags.get(Tag.KEY) == key:
                return str(version.version)
        token = page.token
        if not token:
            return None


def _base_run(client: MlflowClient, arch: str, base_model: str) -> str | None:
    """Run id of the ``base`` run; names are compared here, since they are untrusted and would stand in a filter."""
    experiment = client.get_experiment_by_name(experiment_name(arch))
    token: str | None = None
    while experiment is not None:
        page = client.search_runs(
            [experiment.experiment_id], f"tags.`{Tag.KIND}` = '{Kind.BASE}'", max_results=1000, page_token=token
        )
        for run in page:
            if run.data.params.get(Param.BASE_MODEL) == base_model:
                return str(run.info.run_id)
        token = page.token
        if not token:
            break
    return None


@contextlib.contextmanager
def _store_errors(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise StoreError(
            f"the model registry of {redact(uri)} did not take the base model ({text}); "
            "check tracking.uri and that its server keeps a registry, then register again",
            uri=redact(uri),
        ) from error
