"""Numbers that an import kept of columns that are no results."""

from __future__ import annotations

from pathlib import Path

from tracking.schema import Kind, Param, Tag
from tracking.source_columns import read_source_numbers
from tracking.store import TrackingStore


def test_a_column_of_published_models_and_nothing_else(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert read_source_numbers(uri, "roberta-base", "size") == {}
    store = TrackingStore(uri, "roberta-base", artifact_root=str(tmp_path / "artifacts"))
    for name, kind, size in (
        ("org/a", Kind.PUBLISHED, "124647170.0"),
        ("org/b", Kind.PUBLISHED, "unknown"),
        ("org/c", Kind.PUBLISHED, ""),
        ("org/d", Kind.CELL, "5"),
    ):
        tags = {Tag.KIND: kind, Tag.SOURCE_COLUMN + "size": size}
        store.write_run(name=name, tags=tags, params={Param.BASE_MODEL: name})
    assert read_source_numbers(uri, "roberta-base", "size") == {"org/a": 124647170.0}
    assert read_source_numbers(uri, "roberta-base", "layers") == {}
