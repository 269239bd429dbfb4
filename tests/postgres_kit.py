"""A real PostgreSQL, Debian's, for tests that kill it, stop it and start it again.

with PostgresServer() as server:
    server.url
    server.kill(); server.start()      # with what was committed
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class PostgresServer:
    """Listens on a unix socket in a folder of its own. Runs as `postgres` where the tests run as root: it insists."""

    def __init__(self) -> None:
        if not _PROGRAMS:
            assert "CI" not in os.environ, "postgresql is missing"
            pytest.skip("postgresql is missing")
        self._process: subprocess.Popen[bytes] | None = None
        self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []

    def __enter__(self) -> "PostgresServer":
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.url = f"postgresql://postgres@/postgres?host={self.folder}"
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
        options = ["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C"]
        self._run("initdb", *options, "-D", str(self.folder / "data"))
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Returns when it answers."""
        for left in ("data/postmaster.pid", ".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            with contextlib.suppress(FileNotFoundError):
                (self.folder / left).unlink()
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "shared_buffers": "64MB",
            "max_wal_size": "1GB",
            "autovacuum": "off",
        }
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "INT", *self._as[1:], str(_PROGRAMS[-1] / "postgres")),
                *("-D", str(self.folder / "data")),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None, "postgres ended"
            assert time.monotonic() < deadline, "postgres does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        """All of its processes at once, as a machine that loses its power would end them."""
        if self._process is not None:
            self._signal_all(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """It keeps its connections, and answers nothing any more."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def psql(self, statement: str) -> str:
        """What it prints, unaligned and without headings."""
        return self._run("psql", "-h", str(self.folder), "-U", "postgres", "-AtXqc", statement)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        pids = [self._process.pid]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == self._process.pid:
                    pids.append(int(stat.parent.name))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as line, contextlib.suppress(OSError):
            line.connect(str(self.folder / ".s.PGSQL.5432"))
            ready = [str(_PROGRAMS[-1] / "pg_isready"), "-q", "-h", str(self.folder)]
            return subprocess.run(ready, check=False).returncode == 0
        return False

    def _run(self, program: str, *words: str) -> str:
        command = [*self._as, str(_PROGRAMS[-1] / program), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=self.folder).stdout.strip()
