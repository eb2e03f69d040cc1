"""What no line of the product does, whatever it is given: read from its syntax trees and its lists of dependencies."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.unit.test_architecture import NAMES, ROOT, SOURCES

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "evaluate"}
"""Modules whose files run code when they are read (``evaluate`` loads scripts from the hub)."""
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.jit.load", "torch.hub.load", "yaml.load",
    "yaml.unsafe_load", "yaml.full_load", "numpy.load_pickle", "pandas.read_pickle", "datasets.load_dataset", "hydra.utils.instantiate",
    "mlflow.pyfunc.load_model", "mlflow.sklearn.load_model", "mlflow.pytorch.load_model", "mlflow.transformers.load_model",
    "mlflow.artifacts.load_dict", "mlflow.spark.load_model",
}  # fmt: skip
FLOORS = {"ray": "2.56", "mlflow": "3.17", "transformers": "5.2.1", "hydra-core": "1.3.6", "pyarrow": "14.0.1"}
"""First versions without the known holes: Ray's dashboard and job API, MLflow's model loading and traversals, transformers'
config-driven code, Hydra's instantiate, pyarrow's IPC and Parquet readers (CVE-2023-47248)."""


def calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """Every call of a file with the dotted name of what is called, aliases of modules resolved."""
    tree = ast.parse(path.read_text())
    aliases: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            aliases |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            head, dot, tail = ast.unparse(node.func).partition(".")
            yield node, aliases.get(head, head) + dot + tail


def stated(call: ast.Call, name: str) -> str:
    """Source of a keyword argument; empty where it is not given."""
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == name), "")


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_nothing_that_runs_code_from_a_file_is_used(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & FORBIDDEN_MODULES, path
    for call, name in calls(path):
        assert name not in FORBIDDEN_CALLS, f"{path}:{call.lineno} calls {name}"
        assert stated(call, "shell") in ("", "False"), f"{path}:{call.lineno} runs a shell"
        assert stated(call, "allow_pickle") in ("", "False"), f"{path}:{call.lineno} allows pickled arrays"
        assert stated(call, "trust_remote_code") in ("", "False"), f"{path}:{call.lineno} trusts code of a checkpoint"
        assert stated(call, "weights_only") in ("", "True"), f"{path}:{call.lineno} unpickles weights"


def test_every_load_of_a_checkpoint_refuses_its_code_its_pickles_and_the_network() -> None:
    found = 0
    for path in SOURCES:
        for call, name in calls(path):
            if not name.endswith(".from_pretrained"):
                continue
            found += 1
            where = f"{path}:{call.lineno} {name}"
            assert stated(call, "trust_remote_code") == "False", where
            assert stated(call, "local_files_only") == "True", where
            if not name.startswith(
                ("transformers.AutoTokenizer", "transformers.AutoConfig", "transformers.AutoImageProcessor")
            ):
                assert stated(call, "use_safetensors") == "True", where
    assert found >= 4


def test_no_model_of_mlflow_is_ever_loaded_or_logged() -> None:
    """MLflow stores models of Python flavours as pickles; the registry holds addresses of checkpoints, never models."""
    for path in SOURCES:
        for call, name in calls(path):
            assert not re.search(
                r"\b(load_model|log_model|save_model|autolog|load_table|load_pickle)$", name
            ) or not name.startswith(("mlflow", "self.client", "client")), f"{path}:{call.lineno} {name}"


@pytest.mark.parametrize("name", FLOORS)
def test_dependencies_are_above_the_versions_with_known_holes(name: str) -> None:
    floor = Version(FLOORS[name])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {each.name: each for each in map(Requirement, project["dependencies"])}
    lowest = [Version(part.version) for part in needed[name].specifier if part.operator in (">=", "==", ">")]
    assert lowest and min(lowest) >= floor, f"pyproject.toml lets {name} {min(lowest, default=None)} in"
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert Version(pins[name]) >= floor
    assert Version(version(name)) >= floor, f"installed: {name} {version(name)}"


def test_every_constraint_is_exact() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) > 100
    assert not [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._!+-]+", line)]


def test_every_page_and_every_sheet_is_escaped() -> None:
    """Templates escape by themselves and are never told not to; CSV is written by three files, the published form apart."""
    environments = writers = 0
    for path in SOURCES:
        for call, name in calls(path):
            if name in ("jinja2.Environment", "jinja2.Template"):
                environments += 1
                assert stated(call, "autoescape") == "True", f"{path}:{call.lineno}"
            elif name in ("csv.writer", "csv.DictWriter", "pyarrow.csv.write_csv"):
                writers += 1
                safe = "spreadsheet_safe" in path.read_text()
                assert safe or path.name == "faithful_pages.py", f"{path} writes CSV without spreadsheet_safe"
            assert name not in ("markupsafe.Markup", "jinja2.utils.markupsafe.Markup"), f"{path}:{call.lineno}"
    assert environments >= 1 and writers >= 3
    templates = sorted((ROOT / "analysis").rglob("*.j2"))
    assert len(templates) >= 8
    for template in templates:
        assert not re.search(r"\|\s*safe\b|autoescape\s+false", template.read_text()), template
