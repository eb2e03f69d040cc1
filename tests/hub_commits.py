"""The local hub, with the three requests that make a pull request: metadata check, upload modes, commit.

What is imitated was read from huggingface_hub 2.4 (hf_api.py: _validate_yaml; _commit_api.py: _fetch_upload_modes, _send_commit).
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.hub_server import HubServer, _Handler

_WRITE = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)/(?P<verb>preupload|commit)/main")
_FRONT = re.compile(r"\A---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A commit as it came."""

    repo_id: str
    is_pull_request: bool
    parent: str | None
    title: str
    files: dict[str, bytes]


class CommitHub(HubServer):
    """A hub that takes pull requests from the holder of a known token, and keeps them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.commits: list[Commit] = []
        self._server.RequestHandlerClass = _CommitHandler


class _CommitHandler(_Handler):
    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        match = _WRITE.fullmatch(path)
        if path != "/api/validate-yaml" and match is None:
            super().do_POST()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._record()
        self.fault = self.server.hub.take_fault(self.command, self.path)
        if self.fault is not None and self.fault.status is not None:
            self._send(self.fault.status, self.fault.body, {"Content-Type": "application/json", **self.fault.headers})
        elif match is None:
            self._validate(json.loads(body))
        elif (self.headers.get("Authorization") or "").removeprefix("Bearer ") not in self.server.hub.tokens:
            self._send(401, b'{"error": "Invalid username or password."}', {})
        elif match["verb"] == "preupload":
            self._preupload(match["id"], json.loads(body))
        else:
            self._commit(match["id"], [json.loads(line) for line in body.decode().splitlines()])

    def _validate(self, asked: dict[str, Any]) -> None:
        front = _FRONT.match(asked["content"])
        index = (yaml.safe_load(front[1]) if front else {}).get("model-index", [])
        wrong = [
            result
            for entry in index
            for result in entry["results"]
            if not {"task", "dataset", "metrics"} <= set(result)
        ]
        errors = [{"message": '"model-index[0].results" is not as expected'}] if wrong else []
        self._send(400 if wrong else 200, json.dumps({"errors": errors, "warnings": []}).encode(), {})

    def _preupload(self, repo_id: str, asked: dict[str, Any]) -> None:
        modes = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in asked["files"]]
        self._send_json({"files": modes, "commitOid": self.server.hub.commit("models", repo_id)})

    def _commit(self, repo_id: str, lines: list[dict[str, Any]]) -> None:
        hub = self.server.hub
        assert isinstance(hub, CommitHub)
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, hub.commit("models", repo_id)):
            self._send(412, b'{"error": "A commit has happened since. Please refresh and try again."}', {})
            return
        files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines[1:]}
        commit = Commit(
            repo_id=repo_id,
            is_pull_request=parse_qs(urlsplit(self.path).query).get("create_pr") == ["1"],
            parent=header.get("parentCommit"),
            title=header["summary"],
            files=files,
        )
        hub.commits.append(commit)
        address = f"{hub.endpoint}/{repo_id}"
        self._send_json(
            {
                "success": True,
                "commitOid": "c" * 40,
                "commitUrl": f"{address}/commit/{'c' * 40}",
                "pullRequestUrl": f"{address}/discussions/{len(hub.commits)}",
            }
        )
