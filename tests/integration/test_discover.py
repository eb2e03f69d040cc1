"""`make discover` against a hub on this machine: who becomes a candidate, who does not and why, and what that costs the hub."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from ray_app.commands import discover
from ray_app.config import CONF, AppConfig, load_config
from ray_app.hub.client import HubClient
from ray_app.hub.search import Reference, SearchHit, look_into, read_reference, search_hub
from ray_app.hub.search_settings import SearchConfig
from tests.hub_calls import FAST
from tests.hub_repositories import META
from tests.hub_server import HubServer
from tests.model_factory import copy_model
from tracking.errors import UnreachableError

WEIGHTS = "model.safetensors"


def _publish(root: Path, name: str, *, seed: int, downloads: int, kind: str = "bert", **meta: Any) -> Path:
    folder = copy_model(kind, root / "hub" / "models" / "org" / name, seed=seed)
    fields = {"downloads": downloads, "tags": ["bert", "en", "license:mit"], "lastModified": "2024-05-01T10:00:00.000Z"}
    (folder / META).write_text(json.dumps({**fields, **meta}))
    return folder


def _change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def shelf(tmp_path: Path, hub: HubServer) -> HubServer:
    """A hub with two candidates and one model for every reason to leave one out."""
    shutil.rmtree(tmp_path / "hub" / "models" / "org" / "tiny")
    _publish(tmp_path, "first", seed=1, downloads=900)
    copied = tmp_path / "hub" / "models" / "org" / "copy-of-first"
    shutil.copytree(tmp_path / "hub" / "models" / "org" / "first", copied)
    (copied / META).write_text(json.dumps({"downloads": 800, "tags": ["bert"]}))
    _publish(tmp_path, "second", seed=2, downloads=700, tags=["bert", "de", "license:apache-2.0"])
    _publish(tmp_path, "pretrained", seed=0, downloads=1000)
    _publish(tmp_path, "copy-of-pretrained", seed=0, downloads=650)
    _change_config(_publish(tmp_path, "wide", seed=3, downloads=600), hidden_size=64)
    _change_config(_publish(tmp_path, "words", seed=3, downloads=590), vocab_size=9999)
    (_publish(tmp_path, "pickled", seed=3, downloads=580) / WEIGHTS).rename(
        tmp_path / "hub" / "models" / "org" / "pickled" / "pytorch_model.bin"
    )
    _publish(tmp_path, "gated", seed=3, downloads=570, gated="manual")
    for file in ("tokenizer.json", "vocab.txt"):
        (_folder(tmp_path, "mute", 560) / file).unlink(missing_ok=True)
    os.truncate(_publish(tmp_path, "cut", seed=3, downloads=550) / WEIGHTS, 5000)
    _change_config(_publish(tmp_path, "other", seed=3, downloads=540), model_type="roberta")
    _change_config(_publish(tmp_path, "code", seed=3, downloads=530), model_type="own", auto_map={"AutoModel": "x.Y"})
    (_publish(tmp_path, "empty", seed=3, downloads=520) / "config.json").unlink()
    return hub


def _folder(tmp_path: Path, name: str, downloads: int) -> Path:
    folder = tmp_path / "hub" / "models" / "org" / name
    return folder if folder.exists() else _publish(tmp_path, name, seed=3, downloads=downloads)


def _client(tmp_path: Path, hub: HubServer) -> HubClient:
    return HubClient(cache=tmp_path / "cache" / "hub", endpoint=hub.endpoint, patience=FAST)


def _reference(tmp_path: Path) -> Reference:
    folder = copy_model("bert", tmp_path / "reference", seed=0)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    return read_reference("org/pretrained", (folder / "config.json").read_bytes(), [digest], ["bert"])


def _search(tmp_path: Path, hub: HubServer, **settings: Any) -> list[SearchHit]:
    return list(search_hub(_client(tmp_path, hub), _reference(tmp_path), SearchConfig(**settings)))


REASONS = {
    "org/pretrained": "it is the pretrained model itself",
    "org/copy-of-first": "the same weights as org/first",
    "org/copy-of-pretrained": "the same weights as org/pretrained",
    "org/wide": "its width is 64, expected 32 as of org/pretrained",
    "org/words": "its vocabulary is 9999",
    "org/pickled": "only pickled weights",
    "org/gated": "it is gated",
    "org/mute": "has no tokenizer",
    "org/cut": "cut short",
    "org/other": "architecture is 'roberta', expected bert",
    "org/code": "needs Python code of its own",
    "org/empty": "no config.json",
}


def test_candidates_and_a_reason_for_everybody_else(shelf: HubServer, tmp_path: Path) -> None:
    hits = {hit.model_id: hit for hit in _search(tmp_path, shelf)}
    assert [name for name, hit in hits.items() if not hit.reason] == ["org/first", "org/second"]
    assert set(hits) == set(REASONS) | {"org/first", "org/second"}
    for name, reason in REASONS.items():
        assert reason in hits[name].reason, hits[name]
    first = hits["org/first"]
    assert first.revision == shelf.commit("models", "org/first")
    assert (first.downloads, first.licence, first.languages, first.last_modified) == (900, "mit", ("en",), "2024-05-01")
    assert first.model_type == "bert" and first.n_parameters and first.size_bytes == 4 * first.n_parameters


def test_no_weights_are_fetched(shelf: HubServer, tmp_path: Path) -> None:
    _search(tmp_path, shelf)
    weights = [request for request in shelf.requests if WEIGHTS in request.path and request.method == "GET"]
    assert weights
    for request in weights:
        assert request.range is not None and int(request.range.rpartition("-")[2]) <= 100_000
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    looked = {path for path in shelf.paths() if path.startswith("/api/models/")}
    assert not any("gated" in path or path.endswith(("pickled", "/pretrained")) for path in looked)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"limit": 1}, ["org/first"]),
        ({"languages": ["de"]}, ["org/second"]),
        ({"licences": ["mit"]}, ["org/first"]),
        ({"min_downloads": 800}, ["org/first"]),
        ({"until": "2024-04-30"}, []),
        ({"since": "2024-04-30"}, ["org/first", "org/second"]),
        ({"max_parameters": 10}, []),
        ({"text": "second"}, ["org/second"]),
        ({"author": "nobody"}, []),
        ({"most_looked_at": 2}, ["org/first"]),
    ],
)
def test_filters(shelf: HubServer, tmp_path: Path, settings: dict[str, Any], expected: list[str]) -> None:
    hits = _search(tmp_path, shelf, **settings)
    assert [hit.model_id for hit in hits if not hit.reason] == expected
    assert all(hit.reason for hit in hits if hit.model_id not in expected)


def test_another_vocabulary_where_it_is_wanted(shelf: HubServer, tmp_path: Path) -> None:
    hits = {hit.model_id: hit for hit in _search(tmp_path, shelf, same_vocabulary=False)}
    assert "vocab_size 9999 and the embedding" in hits["org/words"].reason  # its own weights disagree with it


def test_pages_of_the_list_are_followed(shelf: HubServer, tmp_path: Path) -> None:
    shelf.page_size = 3
    assert len(_search(tmp_path, shelf)) == len(REASONS) + 2


def test_a_busy_hub_is_waited_for(shelf: HubServer, tmp_path: Path) -> None:
    shelf.rate_limit("/api/models", wait_s=0, times=2)
    shelf.fail("/api/models/org/first", status=502)
    shelf.fail(f"org/first/.*{WEIGHTS}", status=429, headers={"Retry-After": "0"})
    shelf.fail(f"storage/models/org/second/{WEIGHTS}", truncate_at=40)
    assert [hit.model_id for hit in _search(tmp_path, shelf) if not hit.reason] == ["org/first", "org/second"]


@pytest.mark.parametrize(("status", "code"), [(404, "RepoNotFound"), (401, None), (403, "GatedRepo"), (500, None)])
def test_a_model_that_the_hub_will_not_show_costs_no_other(
    shelf: HubServer, tmp_path: Path, status: int, code: str | None
) -> None:
    shelf.fail("/api/models/org/first$|/api/models/org/first[?]", status=status, error_code=code, times=None)
    hits = {hit.model_id: hit for hit in _search(tmp_path, shelf)}
    assert str(status) in hits["org/first"].reason
    assert not hits["org/second"].reason and not hits["org/copy-of-first"].reason


def test_a_header_that_is_no_header(shelf: HubServer, tmp_path: Path) -> None:
    shelf.fail(f"storage/models/org/first/{WEIGHTS}", garble=True, times=None)
    hits = {hit.model_id: hit for hit in _search(tmp_path, shelf)}
    assert "is damaged" in hits["org/first"].reason


def test_a_long_header_is_asked_for_to_its_end(
    shelf: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _search(tmp_path, shelf, text="first")[0]
    monkeypatch.setattr("ray_app.hub.search._FIRST_BYTES", 50)
    again = look_into(_client(tmp_path, shelf), whole, _reference(tmp_path), SearchConfig())
    assert again == whole and not again.reason


def test_a_list_that_cannot_be_read_is_an_error(shelf: HubServer, tmp_path: Path) -> None:
    shelf.fail("/api/models[?]", status=503, times=None)
    with pytest.raises(UnreachableError, match="answers 503"):
        _search(tmp_path, shelf)


def _config(tmp_path: Path, *more: str) -> AppConfig:
    pretrained = copy_model("bert", tmp_path / "pretrained", seed=0)
    given = [f"out={tmp_path / 'out'}", f"cache={tmp_path / 'cache'}", "cluster.min_free_gb=0.001", *more]
    return load_config(["arch=minilm", f"arch.pretrained={{id: org/pretrained, path: {pretrained}}}", *given])


def test_the_list_is_one_that_sweeps_take(shelf: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert discover.run(_config(tmp_path)) == 0
    with (tmp_path / "out" / "discover" / "minilm.csv").open(newline="") as file:
        rows = {row["base_model"]: row for row in csv.DictReader(file)}
    assert {name for name, row in rows.items() if row["status"] == "candidate"} == {"org/first", "org/second"}
    assert all(row["reason"] for row in rows.values() if row["status"] == "left out")
    conf = shutil.copytree(CONF, tmp_path / "conf")
    shutil.copy(tmp_path / "out" / "discover" / "minilm.yaml", conf / "candidates" / "minilm.yaml")
    listed = load_config(["arch=minilm", "candidates=minilm"], conf).candidates
    assert [model.id for model in listed.models] == ["org/first", "org/second"]
    assert listed.models[0].revision == shelf.commit("models", "org/first")
    assert [model.licence for model in listed.models] == ["mit", "apache-2.0"]
    assert yaml.safe_load((conf / "candidates" / "minilm.yaml").read_text())["name"] == "minilm"
    assert "left out: 2 x the same weights as another" in capsys.readouterr().out


def test_nothing_found_and_nothing_to_ask(shelf: HubServer, tmp_path: Path) -> None:
    assert discover.run(_config(tmp_path, "discover.author=nobody")) == 1
    with pytest.raises(UnreachableError, match="switched off"):
        discover.run(_config(tmp_path, "offline=true"))


def test_settings_say_what_is_wrong_with_them() -> None:
    assert SearchConfig().faults() == []
    wrong = SearchConfig(limit=0, min_downloads=-1, since="2024-13-01", until="May")
    assert [fault.partition(":")[0] for fault in wrong.faults()] == ["limit", "min_downloads", "since", "until"]
    assert "is after until" in SearchConfig(since="2025-01-01", until="2024-01-01").faults()[0]
