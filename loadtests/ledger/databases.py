"""A PostgreSQL of one's own: Debian's, in a folder for temporary files, reached by a unix socket alone.

with PostgresServer() as server:
    server.url
    server.kill(); server.start()      # with what was committed
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

PROGRAMS: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
START_S: Final = 30.0


class PostgresServer:
    """`settings`: of `postgresql.conf`, beside those that it needs here.

    It runs as the user `postgres` where it is started by root, as whom it refuses to.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """Raises FileNotFoundError where there is none on this machine."""
        if not PROGRAMS:
            raise FileNotFoundError("there is no PostgreSQL here: apt-get install postgresql")
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._as = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []

    def __enter__(self) -> Self:
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

    @property
    def pids(self) -> list[int]:
        """Of its processes, itself first."""
        if self._process is None:
            return []
        found = [self._process.pid]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[1]) == self._process.pid:
                    found.append(int(stat.parent.name))
        return found

    def start(self) -> None:
        """Returns when it answers."""
        for left in ("data/postmaster.pid", ".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (self.folder / left).unlink(missing_ok=True)
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder), **self._settings}
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "INT", *self._as, str(PROGRAMS[-1] / "postgres")),
                *("-D", str(self.folder / "data")),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        ready = [str(PROGRAMS[-1] / "pg_isready"), "-q", "-h", str(self.folder)]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError("PostgreSQL does not answer")
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
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _run(self, program: str, *words: str) -> str:
        command = [*(["setpriv", *self._as] if self._as else []), str(PROGRAMS[-1] / program), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=self.folder).stdout.strip()
