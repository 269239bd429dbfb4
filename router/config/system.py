"""What an operating system may lack, and which settings need it: said when the file is read, not by a failing start."""

import mmap
import os
import select
import signal
import socket
from types import ModuleType
from typing import Final

from router.config.document import Document
from router.config.faults import Path
from router.config.schema import File

Parts = tuple[tuple[ModuleType, str], ...]

# Processes that are copies, that pass open sockets on, that wait for each other's end.
WORKERS: Final[Parts] = (
    (os, "fork"),
    (os, "pidfd_open"),
    (signal, "pthread_sigmask"),
    (socket, "SO_REUSEPORT"),
    (socket, "send_fds"),
)
SEGMENTS: Final[Parts] = ((os, "posix_fallocate"), (os, "pwrite"), (os, "fdatasync"), (mmap, "MADV_DONTNEED"))
ARRIVALS: Final[Parts] = ((select, "poll"), (select, "POLLRDHUP"), (socket, "MSG_DONTWAIT"))
_NONE: Final = "which this system has none of"


def can_share_port() -> bool:
    return not _lacking(WORKERS)


def check_system(doc: Document, file: File, workers: int) -> None:
    """Faults for what cannot work here."""
    if workers > 1:
        _check(doc, ("server", "workers"), WORKERS, "of more than one needs processes that share a port", "use 1")
    if file.decision_log is not None:
        _check(doc, ("decision_log",), SEGMENTS, "needs files that are written through memory", "leave it out")
    if file.ledger is not None:
        _check(doc, ("ledger",), SEGMENTS, "needs files that are written through memory", "leave it out")
    instead = "end it in front of the router"
    if file.server.tls is not None:
        _check(doc, ("server", "tls"), ARRIVALS, "needs sockets that can be looked into", instead)
    if file.server.proxy_protocol:
        _check(doc, ("server", "proxy_protocol"), ARRIVALS, "needs sockets that can be looked into", instead)


def _check(doc: Document, path: Path, parts: Parts, needs: str, instead: str) -> None:
    if missing := _lacking(parts):
        doc.fault(path, f"{needs}, {_NONE} ({', '.join(missing)}): {instead}")


def _lacking(parts: Parts) -> list[str]:
    return [f"{module.__name__}.{name}" for module, name in parts if not hasattr(module, name)]
