"""A sweep with every secret it may be given: none of them is in anything that it writes or says."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ray_app.__main__ import main
from ray_app.sweeps.attempt import Attempt
from ray_app.sweeps.orders import Order, Storage
from ray_app.training.models import ModelPool
from ray_app.training.settings import ExecutionConfig, FinetuneConfig
from ray_app.training.tokens import Family
from tests.hub_server import HubServer
from tests.model_factory import copy_model
from tests.tiny_study import TinyStudy, make_mirror
from tracking.records import read_record
from tracking.schema import Tag

TOKEN = "hf_" + "qZ7" * 11 + "k"
PASSWORD = "correct-horse-battery"
SECRETS = (TOKEN, PASSWORD)


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own for Ray's session; short, since paths of sockets are."""
    folder = Path(tempfile.mkdtemp(prefix="sl", dir="/tmp"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def private_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_environment: None) -> Iterator[HubServer]:
    """A hub that gives org/other only to the token."""
    folder = copy_model("bert", tmp_path / "hub" / "models" / "org" / "other", seed=1)
    (folder / ".hub.json").write_text('{"private": true}')
    with HubServer(tmp_path / "hub") as server:
        server.tokens.add(TOKEN)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def leaks(folder: Path) -> list[str]:
    """Files under a folder that hold a secret; sockets and the like are left out."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files, f"{folder} is empty"
    return [str(path) for path in files if any(secret.encode() in path.read_bytes() for secret in SECRETS)]


def settings(study: TinyStudy, *more: str) -> tuple[str, ...]:
    return (
        "candidates.models=[{id: org/other}]", "candidates.sources=[]", "suite.tasks=[rte]", "debug.log_level=DEBUG",
        "method.max_epochs=1", *more,
    )  # fmt: skip


@pytest.mark.slow
def test_a_sweep_keeps_its_secrets(private_hub: HubServer, ray_folder: Path, tmp_path: Path) -> None:
    study = TinyStudy(make_mirror(tmp_path / "mirror", rows=24), tmp_path / "out", tmp_path / "cache")
    code, text = study.run("sweep", *settings(study))
    assert code == 0, text
    asked = {(request.host, request.authorization) for request in private_hub.requests}
    assert ("127.0.0.1", f"Bearer {TOKEN}") in asked
    assert {given for host, given in asked if host == "localhost"} == {None}  # the storage host is not given the token
    assert len(study.cells()) == 2
    assert "DEBUG" in text
    assert not [secret for secret in SECRETS if secret in text]
    assert leaks(tmp_path / "out") == leaks(tmp_path / "cache") == leaks(ray_folder) == []
    with sqlite3.connect(tmp_path / "out" / "mlflow.db") as store:
        dump = "\n".join(store.iterdump())
    assert "org/other" in dump and not [secret for secret in SECRETS if secret in dump]


def test_a_hub_that_repeats_the_token_is_not_quoted(
    private_hub: HubServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusals, broken answers and busy ones, whose words hold the token and a signed address."""
    study = TinyStudy(make_mirror(tmp_path / "mirror", rows=24), tmp_path / "out", tmp_path / "cache")
    echo = f'{{"error": "{TOKEN} at https://ann:{PASSWORD}@host/x?X-Amz-Signature=sig"}}'.encode()
    monkeypatch.setenv("HF_ENDPOINT", f"http://ann:{PASSWORD}@127.0.0.1:{private_hub.port}")
    headers = {"X-Error-Message": f"Invalid token {TOKEN}", "WWW-Authenticate": f"Bearer {TOKEN}"}
    for status in (401, 403, 418, 200):
        private_hub.forget()
        private_hub.fail("/", times=None, status=status, body=echo, headers=headers)
        code = main(["sweep", *study.arguments(*settings(study, "DRY=1"))])
        captured = capfd.readouterr()
        assert (code == 2 and captured.err.startswith("error: ")) or "error: " in captured.err, status
        assert not [secret for secret in SECRETS if secret in captured.out + captured.err], status
        assert "Traceback" not in captured.err


def test_a_failed_cell_keeps_the_secrets_of_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reason, traceback and record of an error whose words hold a token and an address with a password."""
    monkeypatch.setenv("HF_TOKEN", "of-another-form")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"{TOKEN} of-another-form postgresql://ann:{PASSWORD}@host/db")

    monkeypatch.setattr("ray_app.sweeps.attempt.EncodedTask", fail)
    order = Order(
        key="0123456789abcdef",
        attempt="sweep.1",
        arch="tiny",
        family=Family.ENCODER,
        base=tmp_path,
        base_name="tiny/base",
        encoded=tmp_path,
        config=FinetuneConfig(),
        execution=ExecutionConfig(),
        seed=0,
        keep_model=False,
        storage=Storage(root=tmp_path / "storage"),
        params={},
        tags={},
        features=tmp_path,
    )
    _, record = Attempt(order, ModelPool()).step()
    assert record is not None and record.tags[Tag.REASON] == "RuntimeError: *** *** postgresql://***@host/db"
    files = list((tmp_path / "storage" / "records").iterdir())
    assert len(files) == 2
    for path in files:
        text = path.read_text()
        assert TOKEN not in text and PASSWORD not in text and "of-another-form" not in text
    assert read_record(next(path for path in files if path.name.endswith(".record.json"))) == record
