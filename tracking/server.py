"""An MLflow tracking server on PostgreSQL, watched over: what dies is started again.

The tables are made once, under a lock of the database, before any process of the server looks at them: several that find an
empty database at the same time would all try to make them, and all but one fail.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tracking.errors import StoreError
from tracking.postgres import PrivatePostgres
from tracking.secrets import redact

logger = logging.getLogger(__name__)

_LOCK = 0x57A27
"""Key of the advisory lock under which tables are made; any number that all versions of this file agree on."""
_READY_S = 120.0
_UVICORN = "--no-access-log --timeout-worker-healthcheck 60"
"""On a busy machine a process may take longer to answer than the 5 s after which uvicorn kills it."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(kw_only=True)
class ServerConfig:
    """The tracking server of `make tracking-up`."""

    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback lets others in, who need no password."""
    port: int = 5000
    """Port to listen on."""
    allowed_hosts: list[str] = field(default_factory=list)
    """Host headers that are answered besides loopback's (against DNS rebinding): tracking.example.org:5000."""
    database: str | None = None
    """postgresql:// URI of a database that is up; None: one of its own under <out>/tracking, on a unix socket."""
    artifacts: str | None = None
    """Folder or s3:// address for artifacts; None: <out>/tracking/artifacts."""
    workers: int = 4
    """Processes of the server."""

    def faults(self) -> list[str]:
        """Everything wrong with these settings."""
        found = []
        if not 1 <= self.port <= 65535:
            found.append(f"port: {self.port}; it must lie between 1 and 65535")
        if self.workers < 1:
            found.append(f"workers: {self.workers}; it must be 1 or more")
        if self.host not in _LOOPBACK and not self.allowed_hosts:
            found.append(
                f"allowed_hosts: empty, and host {self.host!r} is not loopback; name the hosts by which the server is reached, "
                "as in tracking.server.allowed_hosts=[tracking.example.org:5000]"
            )
        return found + _database_faults(self.database)

    def hosts(self) -> str:
        """Value of MLflow's --allowed-hosts."""
        own = [f"{name}{port}" for name in ("localhost", "127.0.0.1", "[::1]") for port in ("", f":{self.port}")]
        return ",".join([*own, *self.allowed_hosts])


def _database_faults(uri: str | None) -> list[str]:
    if uri is None:
        return []
    if not uri.startswith(("postgresql://", "postgresql+psycopg://")):
        return [f"database: {redact(uri)!r} is no PostgreSQL; write postgresql://user@host:5432/name"]
    try:
        password = urlsplit(uri).password
    except ValueError as error:
        return [f"database: not an address ({error}); write postgresql://user@host:5432/name"]
    if password is not None:
        return [
            f"database: {redact(uri)!r} holds a password, which configurations show; put it into PGPASSWORD or ~/.pgpass"
        ]
    return []


def make_schema(database: str) -> None:
    """Make MLflow's tables in a PostgreSQL database where they are not there yet; safe to call from many at once.

    Raises:
        StoreError: the database is away, or its tables are of another MLflow version.
    """
    try:
        import psycopg
    except ImportError as error:
        raise StoreError(
            "PostgreSQL needs the package psycopg, which is not installed; pip install 'psycopg[binary]'"
        ) from error
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    uri = database.replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        with psycopg.connect(uri, connect_timeout=10, autocommit=True) as connection:
            connection.execute("select pg_advisory_lock(%s)", [_LOCK])  # released when the connection closes
            _open_store(database)
    except (psycopg.Error, MlflowException, SQLAlchemyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise StoreError(
            f"the database {redact(database)} cannot be prepared for MLflow ({reason}); check that it is up, or bring its tables "
            "up to date with `mlflow db upgrade` after a backup",
            uri=redact(database),
        ) from error


def _open_store(database: str) -> None:
    """Open MLflow's store once, which makes its tables where they are not there yet."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(with_driver(database), "mlflow-artifacts:/")
    store.engine.dispose()


def with_driver(database: str) -> str:
    """The URI with psycopg named as its driver."""
    return database.replace("postgresql://", "postgresql+psycopg://", 1)


class TrackingService:
    """PostgreSQL (unless one is up already) and an MLflow server on it.

    Args:
        config: where to listen, and what to use.
        folder: database, artifacts and logs.
    """

    def __init__(self, config: ServerConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder.absolute()
        self.postgres = PrivatePostgres(self.folder / "postgres") if config.database is None else None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where clients of this machine find it."""
        host = self.config.host if self.config.host not in ("0.0.0.0", "::") else "127.0.0.1"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.config.port}"

    @property
    def database(self) -> str:
        """URI of the database."""
        if self.postgres is not None:
            return self.postgres.uri
        assert self.config.database is not None
        return with_driver(self.config.database)

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "server.log"

    @property
    def server_pid(self) -> int | None:
        """Process group of the server, while it runs."""
        return self._server.pid if self._server is not None and self._server.poll() is None else None

    def start(self) -> None:
        """Bring everything up and wait until the server answers.

        Raises:
            StoreError: the port is taken, or something does not start; its log is named.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._end_orphan()
        self._check_port()
        if self.postgres is not None:
            self.postgres.start()
        make_schema(self.database)
        self._start_server()
        self._wait()

    def watch(self) -> list[str]:
        """Start again what has died; returns what that was."""
        died = []
        if self.postgres is not None and self.postgres.pid is None:
            died.append("PostgreSQL")
            self.postgres.start()
        if self.server_pid is None:
            died.append("MLflow")
            self._end_orphan()
            self._start_server()
        return died

    def stop(self) -> None:
        """Shut everything down."""
        if self._server is not None:
            _end_group(self._server.pid)
            self._server.wait()
            self._pid_file.unlink(missing_ok=True)
        if self.postgres is not None:
            self.postgres.stop()

    @property
    def _pid_file(self) -> Path:
        return self.folder / "server.pid"

    def _start_server(self) -> None:
        config = self.config
        artifacts = config.artifacts or str(self.folder / "artifacts")
        environment = {
            **os.environ,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_BACKEND_STORE_URI": self.database,  # not on the command line, which everybody can read
        }
        command = [sys.executable, "-m", "mlflow", "server", "--artifacts-destination", artifacts, "--host", config.host,
                   "--port", str(config.port), "--workers", str(config.workers), "--allowed-hosts", config.hosts(),
                   "--uvicorn-opts", _UVICORN]  # fmt: skip
        with self.log.open("ab") as file:
            self._server = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True, env=environment)
        self._pid_file.write_text(str(self._server.pid))

    def _wait(self) -> None:
        deadline = time.monotonic() + _READY_S
        while not answers(self.address):
            if self.server_pid is None or time.monotonic() > deadline:
                raise StoreError(f"the MLflow server did not start; {self.log} says why", log=str(self.log))
            time.sleep(0.2)

    def _check_port(self) -> None:
        family = socket.AF_INET6 if ":" in self.config.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.config.host, self.config.port))
            except OSError as error:
                raise StoreError(
                    f"{self.config.host}:{self.config.port} cannot be listened on ({error.strerror}); end what uses it, or choose "
                    "another with tracking.server.port=5001",
                    port=self.config.port,
                ) from error

    def _end_orphan(self) -> None:
        """End what is left of a server of this folder whose parent was killed."""
        import psutil

        with contextlib.suppress(OSError, ValueError):
            group = int(self._pid_file.read_text())
            mine = [
                p
                for p in psutil.process_iter(["cmdline"])
                if _group_of(p.pid) == group and _is_server(p.info["cmdline"])
            ]
            if mine:
                _end_group(group)
                psutil.wait_procs(mine, timeout=20)


def answers(address: str) -> bool:
    """Whether a tracking server at this address is well."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _is_server(command: list[str] | None) -> bool:
    return any(name in part for part in command or () for name in ("mlflow", "multiprocessing"))


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _end_group(group: int) -> None:
    """SIGTERM to a process group, and SIGKILL to what is left of it after 10 s."""
    deadline = time.monotonic() + 10
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-group, os.WNOHANG)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
