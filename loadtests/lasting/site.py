"""A router of several workers in front of emulated clouds, and who of its processes has which connection."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from loadtests.drills.fleet import PACE, Endpoint, Fleet
from loadtests.drills.site import Site

WORKERS: Final = 4
SLOW: Final = "slow"  # a model whose streams take two seconds
SLOW_PACE: Final[Mapping[str, Any]] = {**PACE, "token_gap_ms": 50, "tokens": 40}
_PROC: Final = Path("/proc")


def fleet_of(workers: int = WORKERS, *, more: Mapping[str, Any] | None = None, **server: Any) -> Fleet:
    """Two emulated Azure regions behind so many workers: one answers `gpt-4o` in 100 ms, one `slow` in seconds.

    `more`: sections of the configuration; `server`: of that one.
    """
    endpoints = {"azure-a": Endpoint(emulator=PACE), "azure-slow": Endpoint(model=SLOW, emulator=SLOW_PACE)}
    return Fleet(endpoints, groups=[list(endpoints)], server={"workers": workers, **server}, more=more or {})


async def workers_of(running: Site) -> dict[int, int]:
    """The process of each worker that serves now, by its number."""
    workers = (await running.status())["workers"]
    return {worker["worker"]: worker["pid"] for worker in workers if worker["up"]}


def events(running: Site, name: str) -> list[dict[str, Any]]:
    """What the router's log tells of itself; it is written ten times a second."""
    lines = (running.folder / "access.log").read_bytes().rpartition(b"\n")[0].splitlines()
    return [found for line in lines if b'"event"' in line and (found := orjson.loads(line))["event"] == name]


def client_ports(pid: int, port: int) -> set[int]:
    """The clients' ends of the connections to `port` that a process has accepted, as the kernel has them now."""
    mine = {os.stat(each).st_ino for each in _sockets(pid)}
    found = set()
    for line in (_PROC / str(pid) / "net" / "tcp").read_text().splitlines()[1:]:
        fields = line.split()
        inode = int(fields[9])
        if inode in mine and _port(fields[1]) == port:
            found.add(_port(fields[2]))
    return found


def _sockets(pid: int) -> list[Path]:
    found = []
    for each in (_PROC / str(pid) / "fd").iterdir():
        try:
            if os.readlink(each).startswith("socket:"):
                found.append(each)
        except FileNotFoundError:
            continue
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
