"""The hub path against a hub on this machine: fetch, fetch again, and everything that goes wrong on the way."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

from ray_app.hub.checkpoints import Checkpoint, ModelRef, find_checkpoint, find_checkpoints
from ray_app.hub.datasets_hub import fetch_task_tables, task_commit
from ray_app.hub.patience import Patience
from ray_app.hub.task_data import read_mirror_task, read_task
from ray_app.hub.task_yaml import read_task_config
from ray_app.hub.tasks import SplitCaps, SplitRule, TaskConfig
from tests.hub_server import HubServer
from tests.model_factory import build_model, copy_model, tiny_model
from tracking.errors import CheckpointError, ConfigError, StartlineError, StorageError, TaskDataError, UnreachableError

FAST = Patience(first_wait_s=0.01, longest_wait_s=0.02, longest_named_wait_s=0.3, attempts=4, away_s=0.0)
TOKEN = "hf_" + "Secret" * 5


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with the model org/tiny."""
    copy_model("bert", tmp_path / "hub" / "models" / "org" / "tiny")
    with HubServer(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def _find(
    tmp_path: Path,
    *,
    model_id: str = "org/tiny",
    revision: str | None = None,
    offline: bool = False,
    min_free_bytes: int = 0,
    patience: Patience = FAST,
) -> Checkpoint:
    return find_checkpoint(
        ModelRef(id=model_id, revision=revision),
        mirror=None,
        cache_dir=tmp_path / "cache",
        expected_model_types=["bert"],
        offline=offline,
        min_free_bytes=min_free_bytes,
        patience=patience,
    )


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
    assert sum(header.parameter_count.values()) == _find(tmp_path).n_parameters
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
    checkpoint = _find(tmp_path)
    assert checkpoint.revision == hub.commit("models", "org/tiny")
    names = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(path.name for path in checkpoint.path.iterdir()) == names
    for name in names:
        assert (checkpoint.path / name).read_bytes() == (repository / name).read_bytes()
    assert checkpoint.path.is_relative_to(tmp_path / "cache" / "hub")
    assert hub.paths("GET")[-1].endswith("/storage/models/org/tiny/model.safetensors")  # weights come last


def test_a_second_call_only_resolves_the_branch(hub: HubServer, tmp_path: Path) -> None:
    first = _find(tmp_path)
    hub.forget()
    assert _find(tmp_path) == first
    assert hub.paths() == ["/api/models/org/tiny"]
    hub.forget()
    assert _find(tmp_path, revision=first.revision) == first
    assert hub.paths() == []


def test_a_branch_that_moved_is_seen_and_the_old_commit_stays(hub: HubServer, tmp_path: Path) -> None:
    first = _find(tmp_path)
    (tmp_path / "hub" / "models" / "org" / "tiny" / "README.md").write_text("new")
    second = _find(tmp_path)
    assert second.revision != first.revision
    assert _find(tmp_path, revision=first.revision) == first


def test_a_conversion_on_a_pull_request_can_be_named(hub: HubServer, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models" / "org" / "old"
    copy_model("bert", repository)
    (repository / "model.safetensors").rename(repository / "pytorch_model.bin")
    copy_model("bert", repository.with_name("old@refs%2Fpr%2F1"))
    with pytest.raises(CheckpointError, match="only pickled weights"):
        _find(tmp_path, model_id="org/old")
    assert not any("pytorch_model.bin" in path for path in hub.paths())
    checkpoint = _find(tmp_path, model_id="org/old", revision="refs/pr/1")
    assert checkpoint.revision == hub.commit("models", "org/old", "refs/pr/1")


def test_shards_are_fetched_by_their_index(hub: HubServer, tmp_path: Path) -> None:
    build_model("bert", tmp_path / "hub" / "models" / "org" / "parts", max_shard_size="50KB")
    checkpoint = _find(tmp_path, model_id="org/parts")
    assert checkpoint.n_parameters == _find(tmp_path).n_parameters
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
    first = _find(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "cache" / "hub").rename(tmp_path / "home" / "hub")
    hub.forget()
    second = _find(tmp_path, revision=first.revision, offline=True)
    assert second.path.is_relative_to(tmp_path / "home")
    assert _find(tmp_path, offline=True).revision == first.revision
    third = _find(tmp_path)
    assert third.path == second.path
    assert not any("model.safetensors" in path for path in hub.paths())


# Models: what the hub refuses


def test_401_without_a_token(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"org/none does not exist or is private \(status 401\).*HF_TOKEN"):
        _find(tmp_path, model_id="org/none")


def test_a_private_model_with_its_token(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub" / "models" / "org" / "tiny" / ".hub.json").write_text('{"private": true}')
    hub.tokens.add(TOKEN)
    with pytest.raises(CheckpointError, match="is private"):
        _find(tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert _find(tmp_path).model_type == "bert"
    by_host = {entry.host: entry.authorization for entry in hub.requests}
    assert by_host["127.0.0.1"] == f"Bearer {TOKEN}"
    assert by_host["localhost"] is None  # the token does not go to the storage host


def test_a_token_that_is_refused(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_invalid")
    with pytest.raises(CheckpointError, match=r"refuses the token \(status 401\).*renew HF_TOKEN"):
        _find(tmp_path)


@pytest.mark.parametrize(("token", "status"), [(None, 401), (TOKEN, 403)])
def test_a_gated_model(
    token: str | None, status: int, hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hub" / "models" / "org" / "tiny" / ".hub.json").write_text('{"gated": "manual"}')
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(CheckpointError, match=rf"is gated \(status {status}\).*accept its conditions.*HF_TOKEN"):
        _find(tmp_path)


def test_404_with_a_token(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(CheckpointError, match=r"org/none does not exist on the hub at http://127.*\(status 404\)"):
        _find(tmp_path, model_id="org/none")


def test_404_of_a_revision(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no revision v9 \(status 404\).*check its revision"):
        _find(tmp_path, revision="v9")
    with pytest.raises(CheckpointError, match="has no revision"):
        _find(tmp_path, revision="0" * 40)


def test_404_of_a_file(hub: HubServer, tmp_path: Path) -> None:
    hub.fail(r"resolve/.*/tokenizer\.json", status=404, error_code="EntryNotFound", times=None)
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json at [0-9a-f]{12} \(status 404\)"):
        _find(tmp_path)


def test_403_and_disabled(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/api/models", status=403, headers={"X-Error-Message": "no"})
    with pytest.raises(CheckpointError, match=r"may not be read with this token \(status 403\)"):
        _find(tmp_path)
    hub.fail("/api/models", status=403, headers={"X-Error-Message": "Access to this resource is disabled."})
    with pytest.raises(CheckpointError, match="was disabled by the hub"):
        _find(tmp_path)


def test_the_wrong_architecture_is_refused_before_its_weights_are_fetched(hub: HubServer, tmp_path: Path) -> None:
    copy_model("roberta", tmp_path / "hub" / "models" / "org" / "other")
    with pytest.raises(CheckpointError, match="architecture is 'roberta', expected bert"):
        _find(tmp_path, model_id="org/other")
    assert [path.rpartition("/")[2] for path in hub.paths("GET")] == ["other", "config.json"]


def test_no_message_and_no_cause_holds_a_token(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    body = json.dumps({"error": f"bad token {TOKEN} Bearer {TOKEN}"}).encode()
    for status in (401, 403, 404, 418, 503):
        hub.fail("/api/models", status=status, body=body, headers={"X-Error-Message": f"token {TOKEN}"}, times=4)
        with caplog.at_level(logging.INFO), pytest.raises(StartlineError) as caught:
            _find(tmp_path)
        hub.forget()
        error: BaseException | None = caught.value
        while error is not None:
            assert TOKEN not in str(error)
            error = error.__cause__
    assert TOKEN not in caplog.text


# Models: a hub that is busy, breaks off or is away


@pytest.mark.parametrize("header", ["ratelimit", "retry-after"])
def test_429_waits_as_long_as_the_hub_says(header: str, hub: HubServer, tmp_path: Path) -> None:
    hub.rate_limit("/api/models", wait_s=1, header=header)
    begin = time.monotonic()
    _find(tmp_path, patience=Patience(first_wait_s=0.0, longest_named_wait_s=5.0))
    assert time.monotonic() - begin >= 1.0


def test_429_waits_no_longer_than_patience(hub: HubServer, tmp_path: Path) -> None:
    hub.rate_limit(r"resolve/.*config\.json", wait_s=3600, times=2)
    begin = time.monotonic()
    _find(tmp_path)
    assert 0.6 <= time.monotonic() - begin < 20  # two waits of 0.3 s


def test_429_for_ever(hub: HubServer, tmp_path: Path) -> None:
    hub.rate_limit("/api/models", wait_s=3600, times=None)
    with pytest.raises(UnreachableError, match="429 Too Many Requests"):
        _find(tmp_path, patience=Patience(attempts=3, longest_named_wait_s=0.01))
    assert len(hub.paths()) == 3


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("match", ["/api/models", "resolve/.*/config.json", "/storage/"])
def test_5xx_then_ok(status: int, match: str, hub: HubServer, tmp_path: Path) -> None:
    hub.fail(match, status=status, times=3)
    assert _find(tmp_path).model_type == "bert"


@pytest.mark.parametrize("match", ["/api/models", "resolve/.*/config.json", "/storage/"])
def test_5xx_for_ever(match: str, hub: HubServer, tmp_path: Path) -> None:
    hub.fail(match, status=503, times=None)
    with pytest.raises(UnreachableError, match="503 Service Unavailable") as caught:
        _find(tmp_path)
    assert caught.value.values["missing"] == "org/tiny"
    assert caught.value.retryable
    hub.forget()
    assert _find(tmp_path).model_type == "bert"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub writes, and so resumes, by chunks of 10 MB; these files are smaller than one."""
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)


@pytest.mark.usefixtures("small_chunks")
def test_a_truncated_file_is_resumed(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/storage/.*safetensors", truncate_at=60_000, times=1)
    checkpoint = _find(tmp_path)
    ranges = [entry.range for entry in hub.requests if "safetensors" in entry.path and entry.method == "GET"]
    assert ranges == [None, "bytes=60000-"]
    assert (checkpoint.path / "model.safetensors").read_bytes() == (
        tiny_model("bert") / "model.safetensors"
    ).read_bytes()


def test_a_connection_reset_in_the_middle_of_a_file(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/storage/.*safetensors", truncate_at=60_000, reset=True, times=1)
    checkpoint = _find(tmp_path)
    assert (checkpoint.path / "model.safetensors").read_bytes() == (
        tiny_model("bert") / "model.safetensors"
    ).read_bytes()


def test_a_file_that_arrives_changed_is_fetched_again(hub: HubServer, tmp_path: Path) -> None:
    fault = hub.fail("/storage/.*safetensors", garble=True, times=2)
    checkpoint = _find(tmp_path)
    assert fault.times == 0
    assert (checkpoint.path / "model.safetensors").read_bytes() == (
        tiny_model("bert") / "model.safetensors"
    ).read_bytes()


def test_a_file_that_always_arrives_changed_is_never_kept(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/storage/.*safetensors", garble=True, times=None)
    with pytest.raises(UnreachableError, match=r"model\.safetensors came with SHA-256"):
        _find(tmp_path)
    assert not list((tmp_path / "cache" / "hub").rglob("model.safetensors"))


def test_a_fetch_that_broke_off_goes_on_where_it_was(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/storage/", status=503, times=None)
    with pytest.raises(UnreachableError):
        _find(tmp_path)
    with pytest.raises(UnreachableError):
        _find(tmp_path, offline=True)  # a part is never taken for the whole
    hub.forget()
    _find(tmp_path)
    assert [path.rpartition("/")[2] for path in hub.paths("GET")] == ["tiny", "model.safetensors"]


def test_an_unreachable_hub_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://me:password@127.0.0.1:{port}/")
    refs = [ModelRef(id=f"org/m{number}") for number in range(30)]
    begin = time.monotonic()
    found, errors = find_checkpoints(
        refs, mirror=None, cache_dir=tmp_path / "cache", expected_model_types=[], patience=Patience(first_wait_s=0.05)
    )
    assert time.monotonic() - begin < 10  # asked for the first, not for all thirty
    assert not found
    assert len(errors) == 30
    for ref, error in zip(refs, errors, strict=True):
        assert isinstance(error, UnreachableError)
        for part in (f"missing: model {ref.id}", f"http://127.0.0.1:{port}", "HF_ENDPOINT", "MIRROR=dir", "HF_HOME"):
            assert part in error.message
        assert "password" not in error.message
        assert "\n" not in error.message


def test_a_hub_that_went_away_leaves_the_cache(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = _find(tmp_path)
    hub.fail("/", status=503, times=None)
    assert _find(tmp_path) == first
    assert f"taken from the cache at commit {first.revision}" in caplog.text
    hub.forget()
    assert _find(tmp_path, offline=True) == first
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert _find(tmp_path) == first
    assert hub.paths() == []


def test_a_page_that_is_no_hub(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/api/models", status=200, body=b"<html>please log in</html>", headers={"Content-Type": "text/html"})
    with pytest.raises(UnreachableError, match="answers, but not as a hub does"):
        _find(tmp_path)
    hub.fail("/api/models", status=200, body=b'{"id": "org/tiny", "sha": "../../etc", "siblings": []}')
    with pytest.raises(UnreachableError, match="answers, but not as a hub does"):
        _find(tmp_path)
    hub.fail("resolve/", status=200, body=b"<html>please log in</html>", times=None)
    with pytest.raises(UnreachableError, match="answers, but not as a hub does"):
        _find(tmp_path)


@pytest.mark.parametrize("endpoint", ["ftp://host", "host", "http://", "file:///etc"])
def test_an_endpoint_that_is_none(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(ConfigError, match="HF_ENDPOINT is not an address"):
        _find(tmp_path)


def test_a_disk_nearly_full(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="MB to be left: free space there") as caught:
        _find(tmp_path, min_free_bytes=2**62)
    assert caught.value.exit_code == 3
    assert not any("safetensors" in path for path in hub.paths())


def test_a_cache_that_is_a_file(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        _find(tmp_path)


# Tasks


def _table(n_rows: int, *, start: int = 0, names: list[str] | None = None) -> pa.Table:
    table = pa.table(
        {
            "text": [f"text number {row}" for row in range(start, start + n_rows)],
            "label": [row % 2 for row in range(start, start + n_rows)],
            "other": list(range(n_rows)),
        }
    )
    if names is None:
        return table
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": names, "_type": "ClassLabel"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def _task(**changes: object) -> TaskConfig:
    stated: dict[str, object] = {
        "name": "toy",
        "hub_id": "org/toy",
        "text_columns": ["text"],
        "label_names": ["no", "yes"],
        "splits": {"train": ["train"], "test": ["test"]},
    }
    return TaskConfig(**{**stated, **changes})  # type: ignore[arg-type]


@pytest.fixture
def repository(hub: HubServer, tmp_path: Path) -> Path:
    """Folder of the empty data set org/toy."""
    folder = tmp_path / "hub" / "datasets" / "org" / "toy"
    folder.mkdir(parents=True)
    return folder


def _fetch(config: TaskConfig, tmp_path: Path, *, offline: bool = False) -> tuple[dict[str, pa.Table], str]:
    return fetch_task_tables(config, cache_dir=tmp_path / "cache", offline=offline, patience=FAST)


def test_a_task_in_shards(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    names = ["yes", "no"]  # the other way round than the task's own order
    _write(_table(30, names=names), repository / "data" / "train-00000-of-00002.parquet")
    _write(_table(20, start=30, names=names), repository / "data" / "train-00001-of-00002.parquet")
    _write(_table(10, start=50, names=names), repository / "data" / "test-00000-of-00001.parquet")
    tables, commit = _fetch(_task(), tmp_path)
    assert commit == hub.commit("datasets", "org/toy")
    assert {split: table.num_rows for split, table in tables.items()} == {"train": 50, "test": 10}
    assert tables["train"].column_names == ["text", "label"]
    assert tables["train"]["text"].to_pylist() == [f"text number {row}" for row in range(50)]
    data = read_task(_task(), raw=tables, revision=commit, split_rule=SplitRule.SITE, caps=SplitCaps())
    assert data.splits["test"]["label"].to_pylist() == [1, 0] * 5  # 'yes' is 0 in the file and 1 in the task


def test_a_second_fetch_of_a_task_only_resolves_the_branch(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    for split in ("train", "test"):
        _write(_table(10), repository / f"{split}.parquet")
    first, commit = _fetch(_task(), tmp_path)
    hub.forget()
    second, again = _fetch(_task(), tmp_path)
    assert again == commit
    assert second == first
    assert [path for path in hub.paths() if not path.startswith("/api/datasets/org/toy")] == []
    hub.forget()
    assert _fetch(_task(revision=commit), tmp_path)[1] == commit
    assert _fetch(_task(), tmp_path, offline=True)[1] == commit
    assert hub.paths() == []
    hub.fail("/", status=503, times=None)
    assert _fetch(_task(), tmp_path)[1] == commit


def test_the_commit_of_a_task_costs_no_rows(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    for split in ("train", "test"):
        _write(_table(10), repository / f"{split}.parquet")
    commit = task_commit(_task(), cache_dir=tmp_path / "cache", offline=False, patience=FAST)
    assert commit == hub.commit("datasets", "org/toy")
    assert not any("parquet" in path for path in hub.paths())


def test_a_cache_filled_by_others_serves_offline(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    for split in ("train", "test"):
        _write(_table(10), repository / f"{split}.parquet")
    commit = _fetch(_task(), tmp_path)[1]
    (tmp_path / "home").mkdir()
    (tmp_path / "cache" / "hub").rename(tmp_path / "home" / "hub")
    (tmp_path / "cache" / "listings").rename(tmp_path / "gone")
    hub.forget()
    assert _fetch(_task(), tmp_path, offline=True)[1] == commit
    assert hub.paths() == []


def test_long_listings_come_in_pages(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    hub.page_size = 2
    for shard in range(5):
        _write(_table(4, start=4 * shard), repository / "data" / f"train-{shard:05d}-of-00005.parquet")
    _write(_table(4), repository / "data" / "test-00000-of-00001.parquet")
    assert _fetch(_task(), tmp_path)[0]["train"].num_rows == 20


def test_the_card_names_configurations_files_and_classes(repository: Path, tmp_path: Path) -> None:
    for name, shift in (("a", 0), ("b", 100)):
        _write(_table(10, start=shift), repository / "odd" / f"{name}-first.parquet")
        _write(_table(6, start=shift), repository / "odd" / f"{name}-second.parquet")
    (repository / "README.md").write_text(
        """---
configs:
- config_name: a
  data_files:
  - split: train
    path: odd/a-first.parquet
  - split: test
    path: [odd/a-sec*.parquet]
- config_name: b
  data_dir: odd
  data_files: {train: b-first.parquet, test: b-second.parquet}
dataset_info:
- config_name: b
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names: {'0': 'yes', '1': 'no'}
---
# Toy
"""
    )
    tables, _ = _fetch(_task(config="b"), tmp_path)
    assert tables["train"]["text"][0].as_py() == "text number 100"
    data = read_task(_task(config="b"), raw=tables, revision="x", split_rule=SplitRule.SITE, caps=SplitCaps())
    assert data.splits["test"]["label"].to_pylist() == [1, 0] * 3
    assert _fetch(_task(config="a"), tmp_path)[0]["test"].num_rows == 6
    with pytest.raises(TaskDataError, match="has no configuration 'c', expected one of a, b"):
        _fetch(_task(config="c"), tmp_path)
    with pytest.raises(TaskDataError, match="has no configuration None"):
        _fetch(_task(), tmp_path)


def test_folders_of_configurations(repository: Path, tmp_path: Path) -> None:
    for name, rows in (("cola", 10), ("rte", 20)):
        _write(_table(rows), repository / name / "train-00000-of-00001.parquet")
        _write(_table(4), repository / name / "test-00000-of-00001.parquet")
    assert _fetch(_task(config="rte"), tmp_path)[0]["train"].num_rows == 20
    with pytest.raises(TaskDataError, match=r"keeps several sets of files \(cola, rte\), expected one"):
        _fetch(_task(), tmp_path)
    with pytest.raises(TaskDataError, match="no file that can be read for test, train of configuration wnli"):
        _fetch(_task(config="wnli"), tmp_path)


def test_splits_of_odd_names(repository: Path, tmp_path: Path) -> None:
    for split in ("train_r1", "train_r2", "dev_r1", "test_r1"):
        _write(_table(6), repository / "plain_text" / f"{split}-00000-of-00001.parquet")
    splits = {"train": ["train_r1", "train_r2"], "validation": ["dev_r1"], "test": ["test_r1"]}
    tables, _ = _fetch(_task(config="plain_text", splits=splits), tmp_path)
    assert sorted(tables) == ["dev_r1", "test_r1", "train_r1", "train_r2"]


def test_json_lines_and_csv(repository: Path, tmp_path: Path) -> None:
    rows = [{"text": f'a "quoted", {row}\nsecond line', "label": "yes" if row % 3 else "no"} for row in range(12)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (repository / "train.jsonl").write_text(lines)
    (repository / "dev.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    head = "text\tlabel\n"
    (repository / "test.tsv").write_text(
        head + "".join(f"tab {row}\t{'no' if row % 2 else 'yes'}\n" for row in range(6))
    )
    splits = {"train": ["train"], "validation": ["validation"], "test": ["test"]}
    tables, commit = _fetch(_task(splits=splits), tmp_path)
    assert tables["validation"] == tables["train"]
    assert tables["train"]["text"][0].as_py() == 'a "quoted", 0\nsecond line'
    data = read_task(_task(splits=splits), raw=tables, revision=commit, split_rule=SplitRule.SITE, caps=SplitCaps())
    assert data.splits["test"]["label"].to_pylist() == [1, 0] * 3


def test_the_best_format_is_read_once(repository: Path, tmp_path: Path) -> None:
    _write(_table(10), repository / "train.parquet")
    (repository / "train.csv").write_text("text,label\nx,0\n")
    _write(_table(10), repository / "test.parquet")
    assert _fetch(_task(), tmp_path)[0]["train"].num_rows == 10


def test_files_named_by_the_task(repository: Path, tmp_path: Path) -> None:
    _write(_table(10), repository / "x" / "part-1.parquet")
    _write(_table(10, start=10), repository / "x" / "part-2.parquet")
    _write(_table(4), repository / "held" / "out.parquet")
    named = {"train": "x/part-*.parquet", "test": "held/out.parquet"}
    tables, _ = _fetch(_task(data_files=named), tmp_path)
    assert tables["train"].num_rows == 20
    with pytest.raises(TaskDataError, match=r"data_files of test \(none/\*\) matches none of the files"):
        _fetch(_task(data_files={"train": "x/*.parquet", "test": "none/*"}), tmp_path)


def test_a_script_is_never_run_and_the_converted_copy_is_read(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    (repository / "toy.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (repository / "train.csv").write_text("raw,material\n1,2\n")
    with pytest.raises(TaskDataError, match=r"no file that can be read for test, train; it holds toy\.py, train\.csv"):
        _fetch(_task(), tmp_path)
    converted = repository.with_name("toy@refs%2Fconvert%2Fparquet")
    _write(_table(10), converted / "default" / "train" / "0000.parquet")
    _write(_table(4), converted / "default" / "test" / "0000.parquet")
    tables, commit = _fetch(_task(), tmp_path)
    assert tables["train"].num_rows == 10
    assert commit == hub.commit("datasets", "org/toy", "refs/convert/parquet")
    hub.forget()
    assert _fetch(_task(), tmp_path, offline=True)[1] == commit
    assert _fetch(_task(revision=commit), tmp_path)[1] == commit
    assert hub.paths() == []
    assert not (tmp_path / "ran").exists()


def test_a_copy_that_was_cut_is_not_taken(repository: Path, tmp_path: Path) -> None:
    (repository / "toy.py").write_text("")
    converted = repository.with_name("toy@refs%2Fconvert%2Fparquet")
    _write(_table(10), converted / "default" / "partial-train" / "0000.parquet")
    _write(_table(4), converted / "default" / "test" / "0000.parquet")
    with pytest.raises(TaskDataError, match="no file that can be read for train"):
        _fetch(_task(), tmp_path)


def test_a_missing_column_is_left_to_the_reader(repository: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        _write(_table(4), repository / f"{split}.parquet")
    tables, _ = _fetch(_task(text_columns=["premise"]), tmp_path)
    assert tables["train"].column_names == ["text", "label", "other"]


def test_a_damaged_file_is_named(repository: Path, tmp_path: Path) -> None:
    (repository / "train.parquet").write_bytes(b"PAR1 this is none PAR1")
    _write(_table(4), repository / "test.parquet")
    with pytest.raises(TaskDataError, match=r"task toy: train\.parquet of org/toy cannot be read"):
        _fetch(_task(), tmp_path)


def test_shards_that_disagree_are_named(repository: Path, tmp_path: Path) -> None:
    _write(_table(4), repository / "train-00000-of-00002.parquet")
    _write(pa.table({"text": [1, 2], "label": ["a", "b"]}), repository / "train-00001-of-00002.parquet")
    _write(_table(4), repository / "test.parquet")
    with pytest.raises(TaskDataError, match="task toy, split train: its files do not have the same columns"):
        _fetch(_task(), tmp_path)


def test_what_the_hub_refuses_of_tasks(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(TaskDataError, match="data set org/none does not exist or is private"):
        _fetch(_task(hub_id="org/none"), tmp_path)
    with pytest.raises(TaskDataError, match="has no data set on the hub"):
        _fetch(_task(hub_id=None), tmp_path)
    with pytest.raises(TaskDataError, match="data set org/toy has no revision"):
        _fetch(_task(revision="0" * 40), tmp_path)
    (repository / ".hub.json").write_text('{"gated": "auto"}')
    for split in ("train", "test"):
        _write(_table(4), repository / f"{split}.parquet")
    with pytest.raises(TaskDataError, match="data set org/toy is gated"):
        _fetch(_task(), tmp_path)
    with pytest.raises(UnreachableError, match=r"missing: data set org/other .*MIRROR=dir with tasks/<task>/"):
        _fetch(_task(hub_id="org/other"), tmp_path, offline=True)


@pytest.mark.usefixtures("small_chunks")
def test_truncation_and_5xx_of_tasks(repository: Path, hub: HubServer, tmp_path: Path) -> None:
    _write(_table(5000), repository / "train.parquet")
    _write(_table(4), repository / "test.parquet")
    hub.fail("/storage/.*train", truncate_at=10_000, times=1)
    hub.fail("/api/datasets/org/toy/tree", status=502, times=2)
    hub.rate_limit("/storage/.*test", wait_s=0, times=2)
    assert _fetch(_task(), tmp_path)[0]["train"].num_rows == 5000
    assert "bytes=10000-" in [entry.range for entry in hub.requests]


def test_real_data_is_the_same_from_hub_and_mirror(repository: Path, tmp_path: Path) -> None:
    mirror = Path(__file__).parents[3] / "shared" / "data"
    if not (mirror / "tasks" / "rte").is_dir():
        pytest.skip("no mirror with real data at ../shared/data")
    config = read_task_config(Path(__file__).parents[2] / "conf" / "task" / "rte.yaml")
    config.hub_id = "org/toy"
    for split in ("train", "validation"):
        (repository / "rte").mkdir(exist_ok=True)
        shutil.copyfile(
            mirror / "tasks" / "rte" / f"{split}.parquet", repository / "rte" / f"{split}-00000-of-00001.parquet"
        )
    rules = {"split_rule": SplitRule.SITE, "caps": SplitCaps()}
    tables, commit = _fetch(config, tmp_path)
    fetched = read_task(config, raw=tables, revision=commit, **rules)  # type: ignore[arg-type]
    mirrored = read_mirror_task(config, mirror=mirror, **rules)  # type: ignore[arg-type]
    assert fetched.splits == mirrored.splits
    assert fetched.splits["test"].num_rows == 277  # rows of GLUE's RTE validation set
