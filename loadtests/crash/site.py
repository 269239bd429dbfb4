"""The programs of a crash run: one fast cloud, and a router that can be killed in parts or as a whole."""

import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson

from loadtests.bench.processes import BenchError, accepts, answers_200
from loadtests.bench.procfs import tree, workers
from loadtests.drills.site import Program, quiet_port
from router.config.keys import digest

MODEL: Final = "gpt-4o"
SECRET: Final = "sk-ir-crash-run"
WORKERS: Final = 2
_BOOKKEEPER: Final = b"bookkeeper"
_ANSWERS: Final = ("--answer-bytes", "600", "--stream-events", "8")


class Site:
    """`ledger`: its section of the configuration, beside the folder."""

    def __init__(self, folder: Path, ledger: Mapping[str, Any]) -> None:
        self.folder, self.ledger = folder, folder / "ledger"
        self.port, self.admin_port, self._cloud_port = quiet_port(), quiet_port(), quiet_port()
        self._file, self._ledger_section = folder / "router.json", {"dir": str(self.ledger), **ledger}
        module = [sys.executable, "-m", "router"]
        self._router = Program("router", [*module, "serve", "--config", str(self._file)], folder)
        self._cloud = Program("cloud", [*module, "emulate", "--plain", str(self._cloud_port), *_ANSWERS], folder)
        self._group = 0

    async def start(self) -> None:
        self._cloud.start()
        await self._cloud.until(partial(accepts, self._cloud_port))

    async def start_router(self, workers: int) -> None:
        """Starts it where the one before has left everything, and returns when it serves."""
        self._file.write_bytes(orjson.dumps(self._config(workers)))
        self._router.start()
        self._group = self._router.pid or 0
        await self._router.until(lambda: answers_200(self.admin_port, "/readyz"))

    def kill_router(self) -> None:
        """All of its processes at once, the supervisor and the bookkeeper too."""
        os.killpg(self._group, signal.SIGKILL)
        self._router.kill()
        self._until_gone()

    def kill_worker(self, rng: random.Random) -> bool:
        """One of several; False where there is none at this moment."""
        return _kill(workers(self._first), rng)

    def kill_bookkeeper(self, rng: random.Random) -> bool:
        return _kill([pid for pid in tree(self._first) if _BOOKKEEPER in _command(pid)], rng)

    @property
    def pids(self) -> list[int]:
        """Of the router's first process, and of those that it has started."""
        first = self._router.pid
        return [] if first is None else tree(first)

    def end_router(self) -> None:
        self._router.end()

    def end(self) -> None:
        if self._router.pid is not None:
            self.kill_router()
        self._cloud.kill()

    @property
    def _first(self) -> int:
        pid = self._router.pid
        if pid is None:
            raise BenchError("the router has ended by itself")
        return pid

    def _until_gone(self) -> None:
        """A folder has one writer: the next router may start once the kernel has let go of the last."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                os.killpg(self._group, 0)
            except ProcessLookupError:
                return
            time.sleep(0.005)
        raise BenchError("the killed router's processes are still there")

    def _config(self, workers: int) -> dict[str, Any]:
        return {
            "server": {
                "listen": f"127.0.0.1:{self.port}",
                "admin": f"127.0.0.1:{self.admin_port}",
                "access_log": str(self.folder / "access.log"),
                "workers": workers,
                "drain_s": 5,
            },
            "ledger": self._ledger_section,
            "endpoints": {
                "azure": {
                    "cloud": "azure",
                    "provider": "azure_openai",
                    "base_url": f"http://127.0.0.1:{self._cloud_port}",
                    "auth": {"api_key": "emulated-crash"},
                    "emulated": True,
                    "deployments": [{"model": MODEL, "name": MODEL}],
                }
            },
            "workloads": {"api": {"placement": {"rule": "exclusive", "cloud": "azure"}}},
            "keys": [{"name": "crash", "workload": "api", "sha256": digest(SECRET).hex(), "models": ["*"]}],
        }


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def _kill(pids: list[int], rng: random.Random) -> bool:
    if not pids:
        return False
    os.kill(rng.choice(pids), signal.SIGKILL)
    return True
