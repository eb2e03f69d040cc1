"""A private PostgreSQL for the tracking server: its data in one folder, reached through a unix socket only.

The socket lies in a folder that only its owner may enter, and the database listens on no network address, so it needs no password.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from tracking.errors import StoreError

DATABASE = "mlflow"
_OWNER = "postgres"
"""Who runs PostgreSQL where this process is root, which PostgreSQL refuses to be; Debian's package makes this account."""
_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/pgsql/bin")
_READY_S = 60.0


def find_binaries() -> Path:
    """Folder of the newest PostgreSQL server programs of this machine.

    Raises:
        StoreError: there are none.
    """
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    folders = [path for place in _PLACES for path in Path("/").glob(place.lstrip("/")) if (path / "initdb").exists()]
    if not folders:
        raise StoreError(
            "no PostgreSQL on this machine (looked for initdb in PATH and where packages put it); install it "
            "(Debian: apt-get install postgresql), or name a database that is up with tracking.server.database=postgresql://..."
        )
    return max(folders, key=lambda path: [int(part) for part in path.parent.name.split(".") if part.isdigit()])


class PrivatePostgres:
    """A PostgreSQL of one's own in ``folder``; ``start`` makes it where it is not there yet.

    Args:
        folder: where its data lives, kept from one start to the next.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.binaries = find_binaries()
        self.user = _account()
        self.sockets = Path(tempfile.mkdtemp(prefix="startline-pg-"))  # a socket's whole path may have 107 characters
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """SQLAlchemy URI of the database."""
        owner = self.user or pwd.getpwuid(os.getuid()).pw_name
        return f"postgresql+psycopg://{owner}@/{DATABASE}?host={quote(str(self.sockets))}"

    @property
    def pid(self) -> int | None:
        """Process id of the server, while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Bring it up and wait until it answers.

        Raises:
            StoreError: it cannot be made or started; its log is named.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, self.sockets):
            self._own(folder)
        if not (self.data / "PG_VERSION").exists():
            shutil.rmtree(self.data, ignore_errors=True)
            self._run(
                "initdb", "-D", str(self.data), "--auth-local=trust", "--auth-host=reject", "-E", "UTF8", "--locale=C"
            )
        self._end_orphan()
        log = self.folder / "postgres.log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [str(self.binaries / "postgres"), "-D", str(self.data), "-k", str(self.sockets), "-c", "listen_addresses="],
                stdout=file, stderr=file, start_new_session=True, cwd="/", user=self.user,
            )  # fmt: skip
        self._wait(log)

    def stop(self) -> None:
        """Shut it down: clients are sent away, the data is left whole."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self.sockets, ignore_errors=True)

    def _wait(self, log: Path) -> None:
        """Wait until it answers, and make the database where it is not there yet."""
        assert self._process is not None
        deadline = time.monotonic() + _READY_S
        while True:
            there = self._query(f"select count(*) from pg_database where datname = '{DATABASE}'")
            if there is not None:
                break
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise StoreError(f"PostgreSQL in {self.folder} did not start; {log} says why", log=str(log))
            time.sleep(0.1)
        if there == "0":
            self._run("createdb", "-h", str(self.sockets), DATABASE)

    def _query(self, text: str) -> str | None:
        """One value; None while it does not answer."""
        command = [str(self.binaries / "psql"), "-h", str(self.sockets), "-d", "postgres", "-Atc", text]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", user=self.user)
        return done.stdout.strip() if done.returncode == 0 else None

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", user=self.user)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise StoreError(
                f"PostgreSQL's {program} failed in {self.folder} ({lines[-1]}); check that the folder can be written by "
                f"{self.user or 'you'}, or choose another with OUT=dir",
                program=program,
            )

    def _end_orphan(self) -> None:
        """Stop a server on this data that an earlier owner, killed, left running."""
        with contextlib.suppress(StoreError):
            self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "immediate", "-t", "10")

    def _own(self, folder: Path) -> None:
        if self.user is not None:
            shutil.chown(folder, self.user)
        folder.chmod(0o700)


def _account() -> str | None:
    """Account to run under: None for this process's own.

    Raises:
        StoreError: this process is root and there is no other account for it.
    """
    if os.getuid() != 0:
        return None
    try:
        pwd.getpwnam(_OWNER)
    except KeyError as error:
        raise StoreError(
            f"PostgreSQL refuses to run as root and there is no account {_OWNER}; run this as another user"
        ) from error
    return _OWNER
