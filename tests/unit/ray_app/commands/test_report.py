"""What `make report` refuses, and the parts it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_app.commands.report import require_store, run, startline_version, task_groups
from ray_app.config import load_config
from ray_app.variables import to_overrides
from tracking.errors import ConfigError, InputError, TableError
from tracking.experiments import run_address_prefix


def test_groups_are_those_of_the_papers() -> None:
    groups = task_groups()
    assert [len(groups[name]) for name in ("general", "nli", "site36", "twitter")] == [14, 6, 36, 6]
    assert list(groups) == sorted(groups)


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    config = load_config(to_overrides([f"OUT={tmp_path / 'none'}"]))
    with pytest.raises(InputError, match=r"no results at sqlite:.*make sweep.*OUT=dir"):
        require_store(config)
    with pytest.raises(InputError):
        run(config)
    assert not (tmp_path / "none").exists()


def test_faithful_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FROM: not given; FAITHFUL=1"):
        run(load_config(to_overrides(["FAITHFUL=1", f"OUT={tmp_path}"])))
    with pytest.raises(TableError):
        run(load_config(to_overrides(["FAITHFUL=1", f"OUT={tmp_path}", f"FROM={tmp_path}"])))


def test_the_version_is_the_projects() -> None:
    assert startline_version().count(".") == 2


@pytest.mark.parametrize(
    ("uri", "prefix"),
    [
        ("http://host:5000", "http://host:5000/#/runs/"),
        ("https://user:secret@host/mlflow/?x=1", "https://host/mlflow/#/runs/"),
        ("http://[::1]:5000/", "http://[::1]:5000/#/runs/"),
        ("sqlite:////x/mlflow.db", ""),
        ("databricks", ""),
        ("http:///nohost", ""),
    ],
)
def test_addresses_of_runs(uri: str, prefix: str) -> None:
    assert run_address_prefix(uri) == prefix


def test_a_site_must_be_an_address() -> None:
    with pytest.raises(ConfigError, match="site: 'javascript:x' is not the address of a web site"):
        load_config(to_overrides(["SITE=javascript:x"]))
