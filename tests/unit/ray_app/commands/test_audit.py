"""`make audit`: holes are listed; where nothing could be checked it says so and never that all is well."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ray_app.commands.audit import main, read_report
from tracking.errors import InfrastructureError


def stub(monkeypatch: pytest.MonkeyPatch, *, out: str = "", err: str = "") -> None:
    """pip-audit that prints this."""
    done = subprocess.CompletedProcess([], 1, stdout=out, stderr=err)
    monkeypatch.setattr("ray_app.commands.audit.subprocess.run", lambda *_, **__: done)


SOUND = {"name": "a", "version": "1", "vulns": []}
HOLED = {
    "name": "b",
    "version": "2",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["3", "2.1"]}, {"id": "X", "fix_versions": []}],
}
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


def test_holes_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stub(monkeypatch, out=json.dumps({"dependencies": [SOUND, HOLED, UNKNOWN]}))
    assert main([]) == 1
    out = capsys.readouterr().out
    assert "b 2: PYSEC-1, fixed in 3, 2.1" in out and "b 2: X, fixed in no version yet" in out
    assert "2 packages looked up, 2 known holes; not known to the service: c" in out


def test_no_hole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stub(monkeypatch, out=json.dumps({"dependencies": [SOUND]}))
    assert main([]) == 0
    assert capsys.readouterr().out == "1 packages looked up, 0 known holes\n"


@pytest.mark.parametrize(
    ("out", "err", "reason"),
    [
        ("", "Traceback\nProxyError: unreachable\n", "ProxyError: unreachable"),
        ("", "", "it said nothing"),
        (json.dumps({"dependencies": [UNKNOWN, UNKNOWN]}), "", "it answers for none of 2 packages"),
        ("<html>", "", "its report cannot be read"),
        ('{"dependencies": [{"name": "a"}]}', "", "its report cannot be read"),
    ],
)
def test_where_nothing_was_checked_it_is_one_sentence(
    out: str, err: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub(monkeypatch, out=out, err=err)
    assert main([]) == 3
    said = capsys.readouterr()
    assert not said.out and said.err.count("\n") == 1 and reason in said.err and "nothing was audited" in said.err


def test_files_and_packages_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--pins", str(tmp_path / "none")]) == 2
    stub(monkeypatch, err="/bin/python: No module named pip_audit\n")
    assert main([]) == 2
    said = capsys.readouterr().err
    assert "is no file" in said and "make setup" in said


def test_a_report_that_is_none() -> None:
    with pytest.raises(InfrastructureError):
        read_report("[]")
