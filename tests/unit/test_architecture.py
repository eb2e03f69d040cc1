"""The house as its imports show it: floors point down, libraries stay on their floor, names stand in one place."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("tracking", "analysis", "ray_app")
SOURCES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]


def imported(path: Path) -> set[str]:
    """Every module imported anywhere in a file, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found.add(node.module or "")
    return found


def tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def test_all_floors_are_read() -> None:
    assert len(SOURCES) > 80
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(FLOORS)


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_imports_point_down(path: Path) -> None:
    floor = FLOORS.index(path.relative_to(ROOT).parts[0])
    above = set(FLOORS[floor + 1 :]) & tops(path)
    assert not above, f"{path} imports {above}"


ALLOWED = {
    "mlflow": ("tracking/",),
    "sqlalchemy": ("tracking/",),
    "ray": ("ray_app/",),
    "torch": ("ray_app/",),
    "transformers": ("ray_app/",),
    "hydra": ("ray_app/config.py",),
    "omegaconf": ("ray_app/config.py",),
    "huggingface_hub": ("ray_app/",),
    "matplotlib": ("analysis/report/",),
    "jinja2": ("analysis/report/",),
}


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_libraries_stay_on_their_floor(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    for library, places in ALLOWED.items():
        if library in tops(path):
            assert name.startswith(places), f"{name} imports {library}, which belongs to {places}"


def test_the_training_core_stands_alone() -> None:
    core = [path for path in SOURCES if path.parent == ROOT / "ray_app" / "training"]
    assert len(core) >= 9
    for path in core:
        own = {name for name in imported(path) if name.split(".")[0] in FLOORS}
        outside = {name for name in own if not name.startswith("ray_app.training") and name != "tracking.errors"}
        assert not outside, f"{path} imports {outside}"
        assert not tops(path) & {"ray", "mlflow", "hydra", "omegaconf", "analysis"}, path


OTHER_USES = ("startline.corpus",)
"""Names that are no MLflow names: the key of a Parquet file's own metadata."""


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_names_of_runs_are_written_in_the_schema_only(path: Path) -> None:
    if path.name == "schema.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not node.value.startswith("startline.") or node.value in OTHER_USES, f"{path}:{node.lineno} {node.value}"


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_nothing_runs_at_import(path: Path) -> None:
    """Module level holds definitions, constants and imports; calls that act are behind functions."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant), f"{path}:{node.lineno} runs at import"


def test_configuration_is_yaml_only() -> None:
    files = [path for path in (ROOT / "conf").rglob("*") if path.is_file()]
    assert len(files) > 60
    assert {path.suffix for path in files} == {".yaml"}
    for path in files:
        assert path.read_text().lstrip().startswith("#"), f"{path} does not open with the command that uses it"
