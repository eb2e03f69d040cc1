"""Secrets and hidden characters in a configuration: refused, or hidden wherever it is shown or kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_app.__main__ import main
from ray_app.config import load_config
from ray_app.config_tree import as_plain
from ray_app.variables import quoted, to_overrides
from tracking.errors import ConfigError

TOKEN = "hf_" + "aB3" * 11 + "z"
PASSWORD = "wo/rd@5"


@pytest.mark.parametrize(
    "override",
    [
        f"model={TOKEN}",
        f"candidates.models=[{{id: org/{TOKEN}}}]",
        f"candidates.source={TOKEN}",
        f"contrast={{{TOKEN}: [a]}}",
        f"discover.text={TOKEN}",
        f"out=outputs/{TOKEN}",
    ],
)
def test_a_token_is_refused_wherever_it_stands_and_not_repeated(
    override: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"looks like a token of the hub.*HF_TOKEN"):
        load_config([override])
    assert main(["config", override]) == 2
    captured = capsys.readouterr()
    assert TOKEN not in captured.out + captured.err


def test_the_token_of_the_environment_is_known_by_its_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "one-of-another-form")
    for argument in ("model=one-of-another-form", "out=${oc.env:HF_TOKEN}", "MODEL=one-of-another-form"):
        assert main(["config", argument]) == 2
        captured = capsys.readouterr()
        assert "looks like a token" in captured.err and "one-of-another-form" not in captured.out + captured.err


@pytest.mark.parametrize("path", ["tracking.artifacts", "site", "cluster.address", "candidates.source"])
def test_an_address_with_a_password_is_refused(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", f"{path}='https://ann:{PASSWORD}@host/x'"]) == 2
    captured = capsys.readouterr()
    assert f"{path}: holds a name or password" in captured.err and PASSWORD not in captured.out + captured.err


def test_the_tracking_address_may_hold_one_and_is_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    uri = f"postgresql://ann:{PASSWORD}@host/db"
    config = load_config([quoted("tracking.uri", uri)])
    assert config.tracking_uri == uri
    assert json.loads(json.dumps(as_plain(config)))["tracking"]["uri"] == "postgresql://***@host/db"
    assert main(["config", quoted("tracking.uri", uri)]) == 0
    captured = capsys.readouterr()
    assert "***@host/db" in captured.out and PASSWORD not in captured.out + captured.err


def test_an_override_that_cannot_be_read_is_repeated_without_its_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", f"tracking.uri=[https://ann:{PASSWORD}@host"]) == 2
    assert PASSWORD not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a\0b", "a\x1b[2Jb", "a\udcffb", "a\rb"])
def test_what_is_hidden_in_a_text_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", f"OUT={text}"]) == 2
    assert "control character" in capsys.readouterr().err


HOSTILE_IDS = [
    "../../etc/passwd", "/etc/passwd", "..", "a/../b", "a//b", "a/b/c", "a--b/c", "C:\\x", "a\\b", "a/b.git", "-a/b", "a/.b", "~/x",
    "gооgle/t5", "a b", "a%2fb", "a/" + "x" * 97, "x" * 5000, "${a}", "a:b", "a;b", "<b>", "", " ",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_IDS, ids=range(len(HOSTILE_IDS)))
def test_no_path_is_made_of_an_id_that_is_none(name: str) -> None:
    """Ids of models, of the architecture, revisions and labels of sources: refused before anything is looked for."""
    with pytest.raises(ConfigError) as caught:
        load_config(
            [
                f"candidates.models=[{{id: {as_text(name)}}},{{id: org/x, revision: {as_text('..' + name)}}}]",
                f"candidates.sources=[{{tasks: [rte], label: {as_text('/' + name)}}}]",
                f"arch.pretrained.id={as_text(name)}",
                f"arch.name={as_text(name)}",
            ]
        )
    if "Interpolation" not in caught.value.message:
        places = ("arch.name", "arch.pretrained.id", "models.0.id", "models.1.revision", "sources.0.label")
        assert all(place in caught.value.message for place in places)


def as_text(value: str) -> str:
    """A value of an override in quotes."""
    return quoted("", value).removeprefix("=")


@pytest.mark.parametrize("name", [*HOSTILE_IDS[:8], "a'b", 'a"b'], ids=range(10))
def test_tasks_and_groups_are_chosen_among_those_there_are(name: str) -> None:
    for argument in (f"TASKS={name}", f"SUITE={name}", f"CANDIDATES={name}", f"CLUSTER={name}"):
        with pytest.raises(ConfigError):
            load_config(to_overrides([argument]))
    with pytest.raises(ConfigError):
        load_config(to_overrides([f"ARCH={name}"]), any_arch=True)


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(exclude_characters="\0"), max_size=12))
def test_a_variable_sets_its_text_as_it_stands(text: str) -> None:
    override = OverridesParser.create().parse_override(quoted("out", text))
    assert override.value() == text


def test_a_plain_request_is_as_before(tmp_path: Path) -> None:
    config = load_config(to_overrides([f"OUT={tmp_path}/Größe mit 'Zeichen'", "ARCH=google/t5-v1_1-base"]))
    assert config.out == tmp_path / "Größe mit 'Zeichen'"
