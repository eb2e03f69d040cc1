"""Metadata of published models: what an import kept of columns that are no results."""

from __future__ import annotations

from tracking.errors import StoreError
from tracking.schema import Kind, Param, Tag, experiment_name
from tracking.secrets import redact
from tracking.store import open_client


def read_source_numbers(uri: str, arch: str, column: str) -> dict[str, float]:
    """A column of the published files by base model, where it holds a number; empty where nothing was imported.

    Args:
        uri: MLflow tracking URI.
        arch: architecture.
        column: name in the source file, such as 'size'.

    Raises:
        StoreError: the store cannot be read.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    client = open_client(uri)
    found: dict[str, float] = {}
    token: str | None = None
    try:
        experiment = client.get_experiment_by_name(experiment_name(arch))
        while experiment is not None:
            page = client.search_runs(
                [experiment.experiment_id],
                filter_string=f"tags.`{Tag.KIND}` = '{Kind.PUBLISHED}'",
                max_results=5000,
                page_token=token,
            )
            for run in page:
                text = run.data.tags.get(Tag.SOURCE_COLUMN + column, "")
                try:
                    found[run.data.params[Param.BASE_MODEL]] = float(text)
                except ValueError:
                    continue
            token = page.token
            if not token:
                break
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise StoreError(
            f"the tracking store {redact(uri)} cannot be read ({str(error)[:200]}); is it up?", uri=redact(uri)
        ) from error
    return found
