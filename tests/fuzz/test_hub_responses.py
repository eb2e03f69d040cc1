"""Answers of a hub: whatever they are, one sentence; and nothing half of it is left that the next fetch would take for whole."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_app.hub.checkpoints import ModelRef, find_checkpoint
from ray_app.hub.client import HubClient
from ray_app.hub.datasets_hub import fetch_task_tables
from ray_app.hub.patience import Patience
from ray_app.hub.search import Reference, search_hub
from ray_app.hub.search_settings import SearchConfig
from ray_app.hub.tasks import TaskConfig
from tests.fuzz.surface import damaged, fuzzed, plain_json, texts, user_sees
from tests.hub_server import HubServer
from tests.model_factory import copy_model, tiny_model

NO_WAIT = Patience(
    first_wait_s=0.0, longest_wait_s=0.0, longest_named_wait_s=0.0, attempts=2, connect_attempts=2, away_s=0.0
)
TASK = TaskConfig(
    name="t",
    hub_id="org/data",
    text_columns=["text"],
    label_names=["a", "b"],
    license="none",
    splits={"train": ["train"]},
)
_scratch = tempfile.TemporaryDirectory(prefix="startline-fuzz-")


@cache
def hub() -> HubServer:
    """One hub for all inputs, with a model and a data set."""
    root = Path(_scratch.name)
    folder = copy_model("bert", root / "models" / "org" / "tiny")
    (folder / ".hub.json").write_text('{"tags": ["bert"], "downloads": 9}')
    data = root / "datasets" / "org" / "data"
    data.mkdir(parents=True)
    pq.write_table(pa.table({"text": ["x", "y"], "label": [0, 1]}), data / "train.parquet")
    (data / "README.md").write_text("---\nlicense: mit\n---\n")
    server = HubServer(root)
    server.__enter__()
    return server


@pytest.fixture(autouse=True, scope="module")
def _the_hub_ends_with_the_tests() -> Iterator[None]:
    yield
    hub().__exit__()


@contextmanager
def only_this_hub(folder: Path) -> Iterator[None]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_OFF"))
    }
    own = {"HF_ENDPOINT": hub().endpoint, "HF_HOME": str(folder / "home"), "NO_PROXY": "127.0.0.1,localhost"}
    with mock.patch.dict(os.environ, kept | own, clear=True):
        try:
            yield
        finally:
            hub().forget()


header_texts = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
headers = st.dictionaries(
    st.sampled_from(
        ["Content-Type", "Location", "Link", "ETag", "X-Linked-Etag", "X-Linked-Size", "X-Repo-Commit", "X-Error-Code",
         "X-Error-Message", "Retry-After", "RateLimit", "Content-Encoding", "WWW-Authenticate", "X-Xet-Hash", "Content-Range"]
    ),
    st.one_of(
        header_texts,
        st.sampled_from(
            ["0", "-1", "9" * 30, "gzip", "br", "text/html", "/", "http://127.0.0.1:9/x", "file:///etc/passwd", "../..", '"api";r=0;t=0',
             '<http://127.0.0.1:9/x>; rel="next"', "RepoNotFound", "GatedRepo", "EntryNotFound", "RevisionNotFound", "a" * 40, '"../x"']
        ),
    ),
    max_size=3,
)  # fmt: skip
replies = st.one_of(
    plain_json.map(lambda value: json.dumps(value).encode(errors="surrogatepass")),
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.one_of(st.just("org/tiny"), texts, plain_json),
            "sha": st.one_of(st.just("a" * 40), texts, plain_json),
            "siblings": st.one_of(
                plain_json,
                st.lists(
                    st.fixed_dictionaries({}, optional={"rfilename": st.one_of(texts, st.sampled_from(["config.json", "model.safetensors", "../x"])),
                                                        "size": plain_json, "lfs": plain_json, "blobId": plain_json}),
                    max_size=4,
                ),
            ),
            "tags": plain_json, "downloads": plain_json, "lastModified": st.one_of(plain_json, st.just("2024-01-01T00:00:00.000Z")),
            "gated": plain_json, "private": plain_json, "cardData": plain_json, "config": plain_json,
        },
    ).map(lambda value: json.dumps(value).encode(errors="surrogatepass")),
    st.binary(max_size=100),
    st.just(b"<html>please log in</html>"),
)  # fmt: skip
statuses = st.sampled_from(
    [200] * 6 + [201, 204, 206, 301, 302, 304, 307, 400, 401, 403, 404, 410, 416, 418, 429, 451, 500, 503, 599]
)
faults = st.one_of(
    st.fixed_dictionaries({"status": statuses, "headers": headers, "body": replies}),
    st.fixed_dictionaries({"truncate_at": st.integers(0, 3000), "reset": st.booleans()}),
    st.just({"garble": True}),
    st.just({"truncate_at": 0}),
)
PLACES = st.sampled_from(["/api/", "/resolve/", r"resolve/.*config\.json", "/storage/", "tokenizer", "/tree/", ".*"])
TIMES = st.sampled_from([1, 2, None])


def find(folder: Path) -> Path:
    return find_checkpoint(
        ModelRef(id="org/tiny"), mirror=None, cache_dir=folder, expected_model_types=["bert"], patience=NO_WAIT
    ).path


@given(PLACES, TIMES, faults)
@fuzzed(quick=15, share=0.5)
def test_a_model_is_had_whole_or_refused(place: str, times: int | None, fault: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as name, only_this_hub(Path(name)):
        cache_dir = Path(name) / "cache"
        hub().fail(place, times=times, **fault)
        with user_sees("hub: a model"):
            find(cache_dir)
        hub().forget()
        with user_sees(
            "hub: the model afterwards"
        ):  # what a lying hub gave once may be kept; it is never a part of a file
            folder = find(cache_dir)
            for path in tiny_model("bert").glob("*.safetensors"):
                assert (folder / path.name).read_bytes() == path.read_bytes()


@given(PLACES, TIMES, faults)
@fuzzed(quick=8, share=0.2)
def test_a_data_set_is_had_whole_or_refused(place: str, times: int | None, fault: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as name, only_this_hub(Path(name)):
        hub().fail(place, times=times, **fault)
        with user_sees("hub: a data set"):
            tables, commit = fetch_task_tables(TASK, cache_dir=Path(name), offline=False, patience=NO_WAIT)
            assert len(commit) == 40 and tables["train"].num_rows


@given(PLACES, TIMES, faults)
@fuzzed(quick=8, share=0.2)
def test_a_search_names_what_it_leaves_out(place: str, times: int | None, fault: dict[str, object]) -> None:
    config = json.loads((tiny_model("bert") / "config.json").read_text())
    reference = Reference(model_id="org/base", config=config, weights=("0",), model_types=("bert",))
    with tempfile.TemporaryDirectory() as name, only_this_hub(Path(name)):
        client = HubClient(cache=Path(name) / "hub", endpoint=hub().endpoint, patience=NO_WAIT)
        hub().fail(place, times=times, **fault)
        with user_sees("hub: a search"):
            for hit in search_hub(client, reference, SearchConfig(limit=3, min_downloads=0)):
                assert isinstance(hit.reason, str)


@given(
    damaged(b'{"id": "org/tiny", "sha": "' + b"a" * 40 + b'", "siblings": [{"rfilename": "config.json", "size": 3}]}')
)
@fuzzed(quick=8, share=0.2)
def test_a_damaged_answer_about_a_model(body: bytes) -> None:
    with tempfile.TemporaryDirectory() as name, only_this_hub(Path(name)):
        hub().fail("/api/", times=None, status=200, body=body, headers={"Content-Type": "application/json"})
        with user_sees("hub: a model"):
            find(Path(name))
