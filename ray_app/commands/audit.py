"""`make audit`: the pinned dependencies against the published advisories, by pip-audit."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracking.errors import InfrastructureError, InputError, StartlineError
from tracking.secrets import redact

PINS = Path(__file__).resolve().parent.parent.parent / "constraints.txt"
_TIMEOUT_S = 900


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What the advisories say of the pinned versions."""

    checked: int
    """Packages that were looked up."""
    unknown: tuple[str, ...]
    """Packages that the service does not know."""
    holes: tuple[tuple[str, str, str, str], ...]
    """(package, version, advisory, first versions without it)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Look every pinned package up; returns 0 (no known hole), 1 (some), 2 (no such file), 3 (the service is away)."""
    parser = argparse.ArgumentParser(
        prog="python -m ray_app.commands.audit", description="Known holes of dependencies."
    )
    parser.add_argument("--pins", type=Path, default=PINS, help="file of pinned versions")
    options = parser.parse_args(arguments)
    try:
        audit = read_report(_report(options.pins))
    except StartlineError as error:
        sys.stderr.write(f"error: {redact(error.message)}\n")
        return error.exit_code
    for package, version, advisory, fixed in audit.holes:
        sys.stdout.write(f"{package} {version}: {advisory}, fixed in {fixed or 'no version yet'}\n")
    left = f"; not known to the service: {', '.join(audit.unknown)}" if audit.unknown else ""
    sys.stdout.write(f"{audit.checked} packages looked up, {len(audit.holes)} known holes{left}\n")
    return 1 if audit.holes else 0


def _report(pins: Path) -> str:
    """What pip-audit prints, as JSON.

    Raises:
        InputError: there is no such file, or pip-audit is not installed.
        InfrastructureError: the advisories could not be had.
    """
    if not pins.is_file():
        raise InputError(f"{pins} is no file, expected pinned versions, one a line (package==1.2.3)", path=str(pins))
    options = ["-r", str(pins), "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise _away(f"no answer within {_TIMEOUT_S} s") from error
    if "No module named pip_audit" in done.stderr:
        raise InputError("pip-audit is not installed; make setup installs it with the other packages for development")
    if not done.stdout.strip():
        raise _away((done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200])
    return done.stdout


def read_report(text: str) -> Audit:
    """pip-audit's JSON.

    Raises:
        InfrastructureError: it is none, or the service knew not one package: then nothing was checked.
    """
    try:
        packages = json.loads(text)["dependencies"]
        known = [package for package in packages if "skip_reason" not in package]
        holes = tuple(
            (package["name"], package["version"], hole["id"], ", ".join(hole["fix_versions"]))
            for package in known
            for hole in package["vulns"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _away(f"its report cannot be read: {error}") from error
    if not known:
        raise _away(f"it answers for none of {len(packages)} packages")
    unknown = tuple(package["name"] for package in packages if "skip_reason" in package)
    return Audit(checked=len(known), unknown=unknown, holes=holes)


def _away(reason: str) -> InfrastructureError:
    return InfrastructureError(
        f"the advisories could not be had ({reason}), so nothing was audited; connect to the network and run make audit again"
    )


if __name__ == "__main__":
    sys.exit(main())
