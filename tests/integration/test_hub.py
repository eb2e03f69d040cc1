"""Base models from a hub on this machine: fetch, fetch again, and what the hub refuses."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

from ray_app.hub.checkpoints import ModelRef, find_checkpoints
from tests.hub_calls import FAST, TOKEN, find
from tests.hub_server import HubServer
from tests.model_factory import build_model, copy_model, tiny_model
from tracking.errors import CheckpointError, StartlineError, UnreachableError

pytestmark = pytest.mark.usefixtures("hub_environment")


def test_the_hub_of_the_tests_answers_the_hub_client_in_all_it_asks(hub: HubServer, tmp_path: Path) -> None:
    """The server is worth what huggingface_hub, which it was not written with, makes of its answers."""
    hub.page_size = 2
    for number in range(5):
        folder = copy_model("bert", tmp_path / "hub" / "models" / "others" / f"m{number}")
        (folder / ".hub.json").write_text(json.dumps({"downloads": number, "tags": ["en"] if number % 2 else ["de"]}))
    api = HfApi(endpoint=hub.endpoint, token=False)
    listed = list(api.list_models(author="others", fetch_config=True))
    assert [model.id for model in listed] == [f"others/m{number}" for number in range(5)]
    assert [model.downloads for model in listed] == list(range(5))
    assert listed[0].config == {"architectures": ["BertForMaskedLM"], "model_type": "bert"}
    assert [model.id for model in api.list_models(search="M3")] == ["others/m3"]
    assert [model.id for model in api.list_models(filter="en")] == ["others/m1", "others/m3"]
    assert len(list(api.list_models(limit=3))) == 3
    (tmp_path / "hub" / "models" / "org" / "tiny" / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "hub" / "models" / "org" / "tiny" / "sub" / "deep" / "file.txt").write_text("x")
    names = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(entry.path for entry in api.list_repo_tree("org/tiny")) == [*names[:2], "sub", *names[2:]]
    assert [entry.path for entry in api.list_repo_tree("org/tiny", "sub", recursive=True)] == [
        "sub/deep",
        "sub/deep/file.txt",
    ]
    (info,) = api.get_paths_info("org/tiny", ["model.safetensors", "none"])
    assert isinstance(info, RepoFile)
    assert info.lfs is not None
    assert info.lfs.sha256 == hashlib.sha256((tiny_model("bert") / "model.safetensors").read_bytes()).hexdigest()
    header = api.get_safetensors_metadata("org/tiny")  # range requests
    assert sum(header.parameter_count.values()) == find(tmp_path).n_parameters
    assert any(entry.range == "bytes=0-100000" for entry in hub.requests)


# Models: the good way


def test_a_model_is_fetched_whole_and_nothing_else(hub: HubServer, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models" / "org" / "tiny"
    (repository / "README.md").write_text("card")
    (repository / "pytorch_model.bin").write_bytes(b"\x80\x02")
    (repository / "model.fp16.safetensors").write_bytes(b"variant")
    (repository / "onnx").mkdir()
    (repository / "onnx" / "tokenizer.json").write_text("{}")
    (repository / "training_args.bin").write_bytes(b"\x80\x02")
    checkpoint = find(tmp_path)
    assert checkpoint.revision == hub.commit("models", "org/tiny")
    names = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in checkpoint.path.iterdir()) == names
    for name in names:
        assert (checkpoint.path / name).read_bytes() == (repository / name).read_bytes()
    assert checkpoint.path.is_relative_to(tmp_path / "cache" / "hub")
    assert hub.paths("GET")[-1].endswith("/storage/models/org/tiny/model.safetensors")  # weights come last


def test_a_second_call_only_resolves_the_branch(hub: HubServer, tmp_path: Path) -> None:
    first = find(tmp_path)
    hub.forget()
    assert find(tmp_path) == first
    assert hub.paths() == ["/api/models/org/tiny"]
    hub.forget()
    assert find(tmp_path, revision=first.revision) == first
    assert hub.paths() == []


def test_a_branch_that_moved_is_seen_and_the_old_commit_stays(hub: HubServer, tmp_path: Path) -> None:
    first = find(tmp_path)
    (tmp_path / "hub" / "models" / "org" / "tiny" / "README.md").write_text("new")
    second = find(tmp_path)
    assert second.revision != first.revision
    assert find(tmp_path, revision=first.revision) == first


def test_a_conversion_on_a_pull_request_can_be_named(hub: HubServer, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models" / "org" / "old"
    copy_model("bert", repository)
    (repository / "model.safetensors").rename(repository / "pytorch_model.bin")
    copy_model("bert", repository.with_name("old@refs%2Fpr%2F1"))
    with pytest.raises(CheckpointError, match="only pickled weights"):
        find(tmp_path, model_id="org/old")
    assert not any("pytorch_model.bin" in path for path in hub.paths())
    checkpoint = find(tmp_path, model_id="org/old", revision="refs/pr/1")
    assert checkpoint.revision == hub.commit("models", "org/old", "refs/pr/1")


def test_shards_are_fetched_by_their_index(hub: HubServer, tmp_path: Path) -> None:
    build_model("bert", tmp_path / "hub" / "models" / "org" / "parts", max_shard_size="50KB")
    checkpoint = find(tmp_path, model_id="org/parts")
    assert checkpoint.n_parameters == find(tmp_path).n_parameters
    assert len(list(checkpoint.path.glob("*.safetensors"))) > 1


def test_many_at_once(hub: HubServer, tmp_path: Path) -> None:
    ids = [f"org/m{number}" for number in range(12)]
    for model_id in ids:
        copy_model("bert", tmp_path / "hub" / "models" / model_id)
    hub.fail(r"/api/models/org/m3$", status=503, times=1)
    hub.fail(r"/api/models/org/m4", status=503, times=None)
    refs = [ModelRef(id=model_id) for model_id in [*ids, "org/none"]]
    found, errors = find_checkpoints(
        refs, mirror=None, cache_dir=tmp_path / "cache", expected_model_types=["bert"], patience=FAST
    )
    assert [checkpoint.model_id for checkpoint in found] == [name for name in ids if name != "org/m4"]
    assert [type(error) for error in errors] == [UnreachableError, CheckpointError]


def test_the_cache_of_the_user_is_read(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = find(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "cache" / "hub").rename(tmp_path / "home" / "hub")
    hub.forget()
    second = find(tmp_path, revision=first.revision, offline=True)
    assert second.path.is_relative_to(tmp_path / "home")
    assert find(tmp_path, offline=True).revision == first.revision
    third = find(tmp_path)
    assert third.path == second.path
    assert not any("model.safetensors" in path for path in hub.paths())


# Models: what the hub refuses


def test_401_without_a_token(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"org/none does not exist or is private \(status 401\).*HF_TOKEN"):
        find(tmp_path, model_id="org/none")


def test_a_private_model_with_its_token(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub" / "models" / "org" / "tiny" / ".hub.json").write_text('{"private": true}')
    hub.tokens.add(TOKEN)
    with pytest.raises(CheckpointError, match="is private"):
        find(tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert find(tmp_path).model_type == "bert"
    by_host = {entry.host: entry.authorization for entry in hub.requests}
    assert by_host["127.0.0.1"] == f"Bearer {TOKEN}"
    assert by_host["localhost"] is None  # the token does not go to the storage host


def test_a_token_that_is_refused(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_invalid")
    with pytest.raises(CheckpointError, match=r"refuses the token \(status 401\).*renew HF_TOKEN"):
        find(tmp_path)


@pytest.mark.parametrize(("token", "status"), [(None, 401), (TOKEN, 403)])
def test_a_gated_model(
    token: str | None, status: int, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub" / "models" / "org" / "tiny" / ".hub.json").write_text('{"gated": "manual"}')
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(CheckpointError, match=rf"is gated \(status {status}\).*accept its conditions.*HF_TOKEN"):
        find(tmp_path)


def test_404_with_a_token(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(CheckpointError, match=r"org/none does not exist on the hub at http://127.*\(status 404\)"):
        find(tmp_path, model_id="org/none")


def test_404_of_a_revision(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no revision v9 \(status 404\).*check its revision"):
        find(tmp_path, revision="v9")
    with pytest.raises(CheckpointError, match="has no revision"):
        find(tmp_path, revision="0" * 40)


def test_404_of_a_file(hub: HubServer, tmp_path: Path) -> None:
    hub.fail(r"resolve/.*/tokenizer\.json", status=404, error_code="EntryNotFound", times=None)
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json at [0-9a-f]{12} \(status 404\)"):
        find(tmp_path)


def test_403_and_disabled(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/api/models", status=403, headers={"X-Error-Message": "no"})
    with pytest.raises(CheckpointError, match=r"may not be read with this token \(status 403\)"):
        find(tmp_path)
    hub.fail("/api/models", status=403, headers={"X-Error-Message": "Access to this resource is disabled."})
    with pytest.raises(CheckpointError, match="was disabled by the hub"):
        find(tmp_path)


def test_the_wrong_architecture_is_refused_before_its_weights_are_fetched(hub: HubServer, tmp_path: Path) -> None:
    copy_model("roberta", tmp_path / "hub" / "models" / "org" / "other")
    with pytest.raises(CheckpointError, match="architecture is 'roberta', expected bert"):
        find(tmp_path, model_id="org/other")
    assert [path.rpartition("/")[2] for path in hub.paths("GET")] == ["other", "config.json"]


def test_no_message_and_no_cause_holds_a_token(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    body = json.dumps({"error": f"bad token {TOKEN} Bearer {TOKEN}"}).encode()
    for status in (401, 403, 404, 418, 503):
        hub.fail("/api/models", status=status, body=body, headers={"X-Error-Message": f"token {TOKEN}"}, times=4)
        with caplog.at_level(logging.INFO), pytest.raises(StartlineError) as caught:
            find(tmp_path)
        hub.forget()
        error: BaseException | None = caught.value
        while error is not None:
            assert TOKEN not in str(error)
            error = error.__cause__
    assert TOKEN not in caplog.text
