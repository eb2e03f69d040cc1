"""A hub on this machine: a folder of repositories served over the HTTP API that huggingface_hub speaks, with faults on order.

Layout of the folder (a branch other than main has its percent-encoded name after '@'; ``.hub.json`` is served by no one):

    <root>/models/<org>/<name>/...            <root>/models/<org>/<name>/.hub.json
    <root>/datasets/<org>/<name>/...          <root>/datasets/<org>/<name>@refs%2Fconvert%2Fparquet/...

``.hub.json`` adds fields to the answer about a repository (downloads, tags, lastModified, ...); ``"private": true`` and
``"gated": "manual"`` are obeyed: only a token in ``HubServer.tokens`` may read. A commit is the SHA-1 of names and contents.

What is imitated was read from huggingface_hub 2.4 (hf_api.py, file_download.py, utils/_http.py, utils/_pagination.py) and
the hub's documentation: large files are redirected to another host with X-Linked-Etag and X-Linked-Size; a missing
repository answers 401 without a token and 404 with one; lists are cut into pages by a Link header.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from tests.hub_repositories import META, RefusalError, Repository, digests, entry_of, info_of, is_large, tree_of

_API = re.compile(
    r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+(?:/[^/]+)?)"
    r"(?:/(?P<verb>revision|tree|paths-info)/(?P<rev>[^/]+)(?:/(?P<path>.*))?)?"
)
_RESOLVE = re.compile(r"/(?:(?P<kind>datasets)/)?(?P<id>[^/]+(?:/[^/]+)?)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(kw_only=True)
class Fault:
    """What to do instead of answering, for requests whose path matches."""

    match: str
    """Regular expression searched in the path."""
    times: int | None = 1
    """Requests it happens to; None: all."""
    methods: tuple[str, ...] = ("GET", "HEAD", "POST")
    """Methods it happens to."""
    status: int | None = None
    """Answer with this status; None: answer as usual, but see below."""
    error_code: str | None = None
    """X-Error-Code of the answer."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of the answer."""
    body: bytes = b'{"error": "injected"}'
    """Body of the answer."""
    truncate_at: int | None = None
    """Close the connection after so many bytes of the body."""
    reset: bool = False
    """Close it as a broken connection (RST) and not as an ended one."""
    garble: bool = False
    """Change the first byte of the body."""
    delay_s: float = 0.0
    """Wait before answering."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    """Path and query."""
    host: str
    """Name by which the server was addressed: localhost stands for the hub's storage host."""
    range: str | None
    authorization: str | None


class HubServer:
    """Serves a folder as a hub until closed. Use as a context manager."""

    def __init__(self, root: Path, *, page_size: int = 1000, redirect_large: bool = True) -> None:
        self.root = root
        self.page_size = page_size
        self.redirect_large = redirect_large
        self.tokens: set[str] = set()
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """Port it listens on, on 127.0.0.1 only."""
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        """What HF_ENDPOINT has to be."""
        return f"http://127.0.0.1:{self.port}"

    def fail(self, match: str, **options: Any) -> Fault:
        """Order a fault (see `Fault`); the first one that matches and is not used up happens."""
        fault = Fault(match=match, **options)
        with self.lock:
            self.faults.append(fault)
        return fault

    def rate_limit(self, match: str, *, wait_s: int, times: int | None = 1, header: str = "ratelimit") -> Fault:
        """Answer 429 and name the wait by a RateLimit or a Retry-After header."""
        named = {"RateLimit": f'"api";r=0;t={wait_s}', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}
        headers = named if header == "ratelimit" else {"Retry-After": str(wait_s)}
        return self.fail(match, times=times, status=429, headers=headers)

    def paths(self, method: str | None = None) -> list[str]:
        """Paths asked for so far, without queries."""
        with self.lock:
            return [entry.path.partition("?")[0] for entry in self.requests if method in (None, entry.method)]

    def forget(self) -> None:
        """Drop recorded requests and ordered faults."""
        with self.lock:
            self.requests.clear()
            self.faults.clear()

    def commit(self, kind: str, repo_id: str, revision: str = "main") -> str:
        """Commit that a branch of a repository ('models' or 'datasets') is at."""
        repository = self.repository(kind, repo_id, revision)
        if repository is None:
            raise LookupError(f"{kind}/{repo_id} has no {revision}")
        return repository.commit()

    def repository(self, kind: str, repo_id: str, revision: str) -> Repository | None:
        """A repository at a branch or commit; None where there is none such."""
        for name, repository in self.branches(kind, repo_id).items():
            if revision in (name, repository.commit()):
                return repository
        return None

    def branches(self, kind: str, repo_id: str) -> dict[str, Repository]:
        """Branch name -> repository, main first."""
        folder = self.root / kind / repo_id
        if not folder.is_dir():
            return {}
        meta_file = folder / META
        meta = json.loads(meta_file.read_text()) if meta_file.is_file() else {}
        others = {unquote(path.name.partition("@")[2]): path for path in sorted(folder.parent.glob(f"{folder.name}@*"))}
        return {
            name: Repository(kind=kind, repo_id=repo_id, folder=path, meta=meta)
            for name, path in {"main": folder, **others}.items()
        }

    def repo_ids(self, kind: str) -> list[str]:
        """Ids of all repositories of a kind that have an organisation."""
        folders = sorted(path for path in (self.root / kind).glob("*/*") if path.is_dir() and "@" not in path.name)
        return [path.relative_to(self.root / kind).as_posix() for path in folders]

    def take_fault(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, if any; counts it."""
        with self.lock:
            for fault in self.faults:
                if method in fault.methods and fault.times != 0 and re.search(fault.match, path):
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    hub: HubServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news in a test of broken connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    fault: Fault | None

    def log_message(self, *args: object) -> None:
        """Nothing is written: requests are recorded."""

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.form = parse_qs(self.rfile.read(length).decode()) if length else {}
        self._record()
        self.fault = self.server.hub.take_fault(self.command, self.path)
        if self.fault is not None and self.fault.delay_s:
            time.sleep(self.fault.delay_s)
        try:
            if self.fault is not None and self.fault.status is not None:
                code = {"X-Error-Code": self.fault.error_code} if self.fault.error_code else {}
                self._send(self.fault.status, self.fault.body, {**code, **self.fault.headers})
                return
            self._route()
        except RefusalError as refusal:
            self._send(refusal.status, json.dumps({"error": str(refusal)}).encode(), refusal.headers)

    def _record(self) -> None:
        entry = Request(
            method=self.command,
            path=self.path,
            host=self.headers.get("Host", "").partition(":")[0],
            range=self.headers.get("Range"),
            authorization=self.headers.get("Authorization"),
        )
        with self.server.hub.lock:
            self.server.hub.requests.append(entry)

    def _route(self) -> None:
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        if parts.path == "/api/models":
            found = [self.server.hub.branches("models", name)["main"] for name in self._searched()]
            if self._one("sort") == "downloads":
                found.sort(key=lambda repository: -repository.meta.get("downloads", 0))
            self._send_page([info_of(repository, with_config=self._wants_config()) for repository in found])
        elif parts.path.startswith("/storage/"):
            self._send_stored(parts.path)
        elif match := _API.fullmatch(parts.path):
            self._send_api(match)
        elif match := _RESOLVE.fullmatch(parts.path):
            self._send_file(match)
        else:
            raise RefusalError(404, message="Not found")

    def _searched(self) -> Iterator[str]:
        """Ids of models that the query asks for: search, author, filter (tags)."""
        for repo_id in self.server.hub.repo_ids("models"):
            meta = self.server.hub.branches("models", repo_id)["main"].meta
            if self._one("search").lower() not in repo_id.lower():
                continue
            if self._one("author") not in ("", repo_id.partition("/")[0]):
                continue
            if set(self.query.get("filter", [])) <= set(meta.get("tags", [])):
                yield repo_id

    def _wants_config(self) -> bool:
        return bool(self._one("config")) or "config" in self.query.get("expand", [])

    def _send_api(self, match: re.Match[str]) -> None:
        repository = self._repository(match["kind"], match["id"], unquote(match["rev"] or "main"))
        if match["verb"] == "tree":
            prefix = f"{unquote(match['path'])}/" if match["path"] else ""
            recursive = self._one("recursive").lower() in {"true", "1"}
            self._send_page(tree_of(repository, prefix, recursive=recursive))
        elif match["verb"] == "paths-info":
            files = repository.files()
            asked = [name for name in self.form.get("paths", []) if name in files]
            self._send_json([entry_of(name, files[name]) for name in asked])
        else:
            self._send_json(info_of(repository, blobs="blobs" in self.query, with_config=match["kind"] == "models"))

    def _send_file(self, match: re.Match[str]) -> None:
        repository = self._repository(match["kind"] or "models", match["id"], unquote(match["rev"]), reads_files=True)
        commit = {"X-Repo-Commit": repository.commit()}
        name = unquote(match["path"])
        path = repository.files().get(name)
        if path is None:
            raise RefusalError(404, code="EntryNotFound", message="Entry not found", headers=commit)
        blob, sha256 = digests(path)
        if is_large(name) and self.server.hub.redirect_large:
            inside = path.relative_to(self.server.hub.root).as_posix()
            location = f"http://localhost:{self.server.hub.port}/storage/{quote(inside)}?Signature=not-for-the-log"
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(path.stat().st_size), "Location": location}
            self._send(302, b"", {**commit, **linked})
            return
        etag = sha256 if is_large(name) else blob
        self._send_bytes(path.read_bytes(), {**commit, "ETag": f'"{etag}"'})

    def _send_stored(self, path: str) -> None:
        file = (self.server.hub.root / unquote(path.removeprefix("/storage/"))).resolve()
        if not file.is_relative_to(self.server.hub.root.resolve()) or not file.is_file():
            raise RefusalError(404, message="No such key")
        self._send_bytes(file.read_bytes(), {"ETag": f'"{digests(file)[1]}"'})

    def _repository(self, kind: str, repo_id: str, revision: str, *, reads_files: bool = False) -> Repository:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        known = token in self.server.hub.tokens
        branches = self.server.hub.branches(kind, repo_id)
        meta = branches["main"].meta if branches else {}
        if token == "hf_invalid":
            raise RefusalError(401, message="Invalid credentials in Authorization header")
        if not branches or (meta.get("private") and not known):
            raise RefusalError(404 if token else 401, code="RepoNotFound", message="Repository not found")
        if meta.get("gated") and reads_files and not known:
            raise RefusalError(403 if token else 401, code="GatedRepo", message=f"Access to {repo_id} is restricted.")
        repository = self.server.hub.repository(kind, repo_id, revision)
        if repository is None:
            raise RefusalError(404, code="RevisionNotFound", message=f"Invalid rev id: {revision}")
        return repository

    def _send_page(self, entries: list[dict[str, Any]]) -> None:
        """One page of a list, with a Link to the next."""
        start = int(self._one("cursor") or 0)
        size = min(self.server.hub.page_size, int(self._one("limit") or self.server.hub.page_size))
        headers = {}
        if start + size < len(entries):
            query = {**{key: values[0] for key, values in self.query.items()}, "cursor": str(start + size)}
            address = f"{self.server.hub.endpoint}{urlsplit(self.path).path}?{urlencode(query)}"
            headers["Link"] = f'<{address}>; rel="next"'
        self._send_json(entries[start : start + size], headers)

    def _one(self, name: str) -> str:
        return self.query.get(name, [""])[0]

    def _send_json(self, value: object, headers: dict[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send_bytes(self, content: bytes, headers: dict[str, str]) -> None:
        """A file, or the part of it that a Range header asks for."""
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **headers}
        asked = _RANGE.fullmatch(self.headers.get("Range") or "")
        if asked is None:
            self._send(200, content, headers)
            return
        start, end = int(asked[1]), min(int(asked[2] or len(content) - 1), len(content) - 1)
        if start >= len(content):
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        self._send(206, content[start : end + 1], headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault is not None and self.fault.garble:
            body = bytes([body[0] ^ 0xFF]) + body[1:]
        cut = self.fault.truncate_at if self.fault is not None and status in {200, 206} else None
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None and cut < len(body):
            self._break_off()

    def _break_off(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        if self.fault is not None and self.fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
