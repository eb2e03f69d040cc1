"""Base models from a hub that is busy, breaks off, lies or is away."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from ray_app.hub.checkpoints import ModelRef, find_checkpoints
from ray_app.hub.patience import Patience
from tests.hub_calls import find
from tests.hub_server import HubServer
from tests.model_factory import tiny_model
from tracking.errors import ConfigError, StorageError, UnreachableError

pytestmark = pytest.mark.usefixtures("hub_environment")


@pytest.mark.parametrize("header", ["ratelimit", "retry-after"])
def test_429_waits_as_long_as_the_hub_says(header: str, hub: HubServer, tmp_path: Path) -> None:
    hub.rate_limit("/api/models", wait_s=1, header=header)
    begin = time.monotonic()
    find(tmp_path, patience=Patience(first_wait_s=0.0, longest_named_wait_s=5.0))
    assert time.monotonic() - begin >= 1.0


def test_429_waits_no_longer_than_patience(hub: HubServer, tmp_path: Path) -> None:
    hub.rate_limit(r"resolve/.*config\.json", wait_s=3600, times=2)
    begin = time.monotonic()
    find(tmp_path)
    assert 0.6 <= time.monotonic() - begin < 20  # two waits of 0.3 s


def test_429_for_ever(hub: HubServer, tmp_path: Path) -> None:
    hub.rate_limit("/api/models", wait_s=3600, times=None)
    with pytest.raises(UnreachableError, match="429 Too Many Requests"):
        find(tmp_path, patience=Patience(attempts=3, longest_named_wait_s=0.01))
    assert len(hub.paths()) == 3


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("match", ["/api/models", "resolve/.*/config.json", "/storage/"])
def test_5xx_then_ok(status: int, match: str, hub: HubServer, tmp_path: Path) -> None:
    hub.fail(match, status=status, times=3)
    assert find(tmp_path).model_type == "bert"


@pytest.mark.parametrize("match", ["/api/models", "resolve/.*/config.json", "/storage/"])
def test_5xx_for_ever(match: str, hub: HubServer, tmp_path: Path) -> None:
    hub.fail(match, status=503, times=None)
    with pytest.raises(UnreachableError, match="503 Service Unavailable") as caught:
        find(tmp_path)
    assert caught.value.values["missing"] == "org/tiny"
    assert caught.value.retryable
    hub.forget()
    assert find(tmp_path).model_type == "bert"


@pytest.mark.usefixtures("small_chunks")
def test_a_truncated_file_is_resumed(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/storage/.*safetensors", truncate_at=60_000, times=1)
    checkpoint = find(tmp_path)
    ranges = [entry.range for entry in hub.requests if "safetensors" in entry.path and entry.method == "GET"]
    assert ranges == [None, "bytes=60000-"]
    assert (checkpoint.path / "model.safetensors").read_bytes() == (
        tiny_model("bert") / "model.safetensors"
    ).read_bytes()


def test_a_connection_reset_in_the_middle_of_a_file(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/storage/.*safetensors", truncate_at=60_000, reset=True, times=1)
    checkpoint = find(tmp_path)
    assert (checkpoint.path / "model.safetensors").read_bytes() == (
        tiny_model("bert") / "model.safetensors"
    ).read_bytes()


def test_a_file_that_arrives_changed_is_fetched_again(hub: HubServer, tmp_path: Path) -> None:
    fault = hub.fail("/storage/.*safetensors", garble=True, times=2)
    checkpoint = find(tmp_path)
    assert fault.times == 0
    assert (checkpoint.path / "model.safetensors").read_bytes() == (
        tiny_model("bert") / "model.safetensors"
    ).read_bytes()


def test_a_file_that_always_arrives_changed_is_never_kept(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/storage/.*safetensors", garble=True, times=None)
    with pytest.raises(UnreachableError, match=r"model\.safetensors came with SHA-256"):
        find(tmp_path)
    assert not list((tmp_path / "cache" / "hub").rglob("model.safetensors"))


def test_a_fetch_that_broke_off_goes_on_where_it_was(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/storage/", status=503, times=None)
    with pytest.raises(UnreachableError):
        find(tmp_path)
    with pytest.raises(UnreachableError):
        find(tmp_path, offline=True)  # a part is never taken for the whole
    hub.forget()
    find(tmp_path)
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
    first = find(tmp_path)
    hub.fail("/", status=503, times=None)
    assert find(tmp_path) == first
    assert f"taken from the cache at commit {first.revision}" in caplog.text
    hub.forget()
    assert find(tmp_path, offline=True) == first
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert find(tmp_path) == first
    assert hub.paths() == []


def test_a_page_that_is_no_hub(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("/api/models", status=200, body=b"<html>please log in</html>", headers={"Content-Type": "text/html"})
    with pytest.raises(UnreachableError, match="answers, but not as a hub does"):
        find(tmp_path)
    hub.fail("/api/models", status=200, body=b'{"id": "org/tiny", "sha": "../../etc", "siblings": []}')
    with pytest.raises(UnreachableError, match="answers, but not as a hub does"):
        find(tmp_path)
    hub.fail("resolve/", status=200, body=b"<html>please log in</html>", times=None)
    with pytest.raises(UnreachableError, match="answers, but not as a hub does"):
        find(tmp_path)


@pytest.mark.parametrize("endpoint", ["ftp://host", "host", "http://", "file:///etc"])
def test_an_endpoint_that_is_none(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(ConfigError, match="HF_ENDPOINT is not an address"):
        find(tmp_path)


def test_a_disk_nearly_full(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="MB to be left: free space there") as caught:
        find(tmp_path, min_free_bytes=2**62)
    assert caught.value.exit_code == 3
    assert not any("safetensors" in path for path in hub.paths())


def test_a_cache_that_is_a_file(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        find(tmp_path)
