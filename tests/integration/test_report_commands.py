"""From published files to the site, a card and the registry, as a user runs it, with hostile and broken input on the way."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ray_app.__main__ import main
from tests.hub_commits import CommitHub
from tests.published_folder import TASKS, model_line, write_models, write_pretrained
from tracking.registry import BEST_BASE, registered_name
from tracking.schema import ModelTag, Tag
from tracking.store import open_client

pytestmark = pytest.mark.slow

Run = Callable[..., int]
ARCH = "acme/tiny-1"
N = 101
"""Rows of every test set, a prime: no score can be a fraction with a smaller denominator."""
EVIL = ["<script>alert(1)</script>", "=cmd()", "a/b", "a_b"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of an architecture with a clear winner, one with a single pretrained repetition, one with none."""
    source = tmp_path_factory.mktemp("published")
    level = {task: 40 + 3 * (place % 7) for place, task in enumerate(TASKS)}
    good = {task: (level[task] + 10) / N for task in TASKS}
    lines = [model_line("org/good", 0.75, good, arch=ARCH), model_line("org/probed", 0.5, None, arch=ARCH)]
    for place, name in enumerate(EVIL):
        scores = {t: (level[t] + (place * 5 + i * 3) % 7 - 3) / N for i, t in enumerate(TASKS)}
        lines.append(model_line(name, 0.5 + place / 100, scores, arch=ARCH))
    lines.append(model_line("org/one", 0.5, good, arch="acme/one-seed"))
    lines.append(model_line("org/none", 0.5, good, arch="acme/no-seed"))
    write_models(source, lines)
    repetitions = [{t: (level[t] + (i * 7 + s * 5) % 3 - 1) / N for i, t in enumerate(TASKS)} for s in range(6)]
    write_pretrained(source, repetitions, arch=ARCH)
    write_pretrained(source, repetitions[:1], arch="acme/one-seed")
    folder = tmp_path_factory.mktemp("results") / "outputs"
    assert main(["import-published", f"FROM={source}", f"OUT={folder}"]) == 0
    return folder


def test_the_site_of_every_architecture(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", f"OUT={out}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "acme/no-seed has no ranking: no cell of the pretrained model" in said and "report/index.html" in said
    index = (out / "report" / "index.html").read_text()
    assert "No ranking: no cell of the pretrained model" in index and "&lt;script&gt;alert" not in index
    assert sorted(path.name for path in (out / "report" / "arch").iterdir()) == ["acme_one-seed", "acme_tiny-1"]
    ranking = (out / "report/arch/acme_tiny-1/index.html").read_text()
    assert "<script>alert" not in ranking and "&lt;script&gt;alert(1)&lt;/script&gt;" in ranking
    with (out / "report/arch/acme_tiny-1/download/ranking.csv").open() as file:
        rows = {row["base_model"]: row for row in csv.DictReader(file)}
    assert rows["org/good"]["rank"] == "1" and float(rows["org/good"]["avg_gain"]) == pytest.approx(1000 / N, abs=0.2)
    assert {"'=cmd()", "a/b", "a_b"} <= set(rows) and rows["org/probed"]["integrity"] == "untested"
    one = (out / "report/arch/acme_one-seed/index.html").read_text()
    assert "cannot be said: the noise of seeds is unknown" in one


def test_a_second_report_reads_nothing_anew_and_replaces_the_first(out: Path) -> None:
    (out / "report").exists() or main(["report", f"OUT={out}"])
    stale = out / "report" / "stale.html"
    stale.write_text("old")
    assert main(["report", f"OUT={out}"]) == 0
    assert not stale.exists() and (out / "report" / "index.html").exists()


def test_a_card(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", f"ARCH={ARCH}", "MODEL=org/good", f"OUT={out}", "SITE=https://site.example/"]) == 0
    folder = out / "card" / "org_good"
    section = (folder / "section.md").read_text()
    assert "[Evaluation on 36 datasets](https://site.example/arch/acme_tiny-1/model/org_good.html)" in section
    assert "The model is ranked 1st among all 5 tested models" in section
    entries = yaml.safe_load((folder / ".eval_results/startline-acme_tiny-1.yaml").read_text())
    assert len(entries) > 30 and all(entry["dataset"]["id"].count("/") == 1 for entry in entries)
    assert "next: make publish ARCH=acme/tiny-1 MODEL=org/good" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["card", f"ARCH={ARCH}"], "MODEL: not given"),
        (["card", f"ARCH={ARCH}", "MODEL=org/goood"], "no base model 'org/goood' among 6; nearest: org/good"),
        (
            ["card", f"ARCH={ARCH}", "MODEL=org/probed"],
            "no card for org/probed: it was not finetuned on any target task",
        ),
        (["card", "ARCH=acme/no-seed", "MODEL=org/none"], "no cell of the pretrained model"),
        (["card", "ARCH=acme/unknown", "MODEL=x"], "no scored cell for acme/unknown yet"),
        (["register", "ARCH=acme/one-seed"], "nothing was registered. Whether a base model is better"),
        (["publish", f"ARCH={ARCH}", "MODEL=org/good", "DRY=0", "OFFLINE=1"], "a pull request needs the hub"),
    ],
)
def test_what_is_refused_and_why(
    out: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, f"OUT={out}"]) == 2
    assert words in capsys.readouterr().err


def test_the_best_base_model_is_registered_once(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", f"ARCH={ARCH}", f"OUT={out}"]) == 0
    for state in ("registered as", "is registered already as"):
        assert main(["register", f"ARCH={ARCH}", f"OUT={out}"]) == 0
        assert f"org/good: {state} startline-acme_tiny-1 version 1" in " ".join(capsys.readouterr().out.split())
    client = open_client(f"sqlite:///{out.absolute()}/mlflow.db")
    version = client.get_model_version_by_alias(registered_name(ARCH), BEST_BASE)
    assert version.source == "hf://org/good" and version.tags[ModelTag.RANK] == "1"
    assert (
        float(version.tags[ModelTag.GAIN]) == pytest.approx(1000 / N, abs=0.2) and ModelTag.FORCED not in version.tags
    )
    assert client.get_run(version.run_id).data.params["base_model"] == "org/good"
    assert len(version.tags[Tag.KEY]) == 16


def test_forced_registration_says_so(out: Path) -> None:
    assert main(["register", "ARCH=acme/one-seed", f"OUT={out}", "FORCE=1"]) == 0
    client = open_client(f"sqlite:///{out.absolute()}/mlflow.db")
    version = client.get_model_version_by_alias(registered_name("acme/one-seed"), BEST_BASE)
    assert version.tags[ModelTag.FORCED] == "true" and version.tags[ModelTag.VERDICT] == "unknown"


README = "---\nlicense: mit\n---\n# Good\n"


@pytest.fixture
def commit_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_environment: None) -> CommitHub:
    folder = tmp_path / "hub" / "models" / "org" / "good"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(README)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    hub = CommitHub(tmp_path / "hub")
    hub.tokens = {"hf_writer"}
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    return hub


@pytest.fixture
def publish(out: Path, tmp_path: Path) -> Run:
    return lambda *more: main(
        ["publish", f"ARCH={ARCH}", "MODEL=org/good", f"OUT={out}", f"ARGS=cache='{tmp_path}/cache'", *more]
    )


def test_publishing_shows_and_sends_nothing_by_itself(
    commit_hub: CommitHub, publish: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with commit_hub as hub:
        assert publish() == 0
        said = capsys.readouterr().out
        assert "+## Evaluation as a base model" in said and "nothing was sent" in said and "DRY=0" in said
        assert publish("DRY=1") == 0 and hub.commits == []
        assert hub.paths("POST") == []


def test_dry_0_opens_one_pull_request(
    commit_hub: CommitHub, publish: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    with commit_hub as hub:
        assert publish("DRY=0") == 0
        (commit,) = hub.commits
        assert (
            commit.is_pull_request
            and commit.repo_id == "org/good"
            and commit.parent == hub.commit("models", "org/good")
        )
        assert set(commit.files) == {"README.md", ".eval_results/startline-acme_tiny-1.yaml"}
        front, body = commit.files["README.md"].decode().removeprefix("---\n").split("---\n", 1)
        assert yaml.safe_load(front)["license"] == "mit" and body.startswith("# Good\n\n<!-- startline:begin -->")
        assert f"{hub.endpoint}/org/good/discussions/1" in "".join(capsys.readouterr().out.split())
    assert (commit_hub.root / "models/org/good/README.md").read_text() == README


@pytest.mark.parametrize(
    ("token", "fault", "words"),
    [
        (None, None, "set HF_TOKEN to a token with write access"),
        ("hf_reader", None, "set HF_TOKEN to a token with write access"),
        ("hf_writer", ("/commit/", 412, b"{}"), "changed on the hub in the meantime"),
        ("hf_writer", ("validate-yaml", 400, b'{"errors": [{"message": "license is odd"}]}'), "license is odd"),
        ("hf_writer", ("/commit/", 500, b"{}"), "it answers 500"),
    ],
)
def test_a_pull_request_that_is_refused(
    commit_hub: CommitHub,
    publish: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    token: str | None,
    fault: tuple[str, int, bytes] | None,
    words: str,
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with commit_hub as hub:
        if fault:
            hub.fail(fault[0], status=fault[1], body=fault[2])
        assert publish("DRY=0") == 2
        told = capsys.readouterr().err
        assert words in told and "Traceback" not in told and (token is None or token not in told)
        assert hub.commits == []


def test_a_model_that_the_hub_does_not_have(
    commit_hub: CommitHub, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with commit_hub:
        assert main(["publish", f"ARCH={ARCH}", "MODEL=a/b", f"OUT={out}"]) == 2
    assert "a/b does not exist" in capsys.readouterr().err


def test_offline_shows_the_section_without_asking(
    commit_hub: CommitHub, publish: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with commit_hub as hub:
        assert publish("OFFLINE=1") == 0 and hub.requests == []
    assert "## Evaluation as a base model" in capsys.readouterr().out


def test_faithful_pages(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_models(tmp_path, [model_line("org/m", 0.5, 0.75)])
    write_pretrained(tmp_path, [0.5, 0.625])
    assert main(["report", "FAITHFUL=1", f"FROM={tmp_path}", f"OUT={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "out/faithful/index.md").exists() and "faithful" in capsys.readouterr().out
