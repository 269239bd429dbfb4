"""Makes of this process what Windows would, as far as Python shows it, then does what it is asked.

`bare_system.py import` imports each module of the router and prints how many there are; anything else is a command line
of the router's own.

Python's own library and those of others know Windows: they are loaded before, and keep what they have taken hold of.
"""

import asyncio
import mmap
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Final

# What the libraries need to stay as it is, loaded while there is still a Linux.
LOADED_BEFORE: Final = (
    "aiohttp.web",
    "alembic",
    "click",
    "concurrent.futures",
    "cryptography.x509",
    "h11",
    "httptools",
    "importlib.metadata",
    "logging.handlers",
    "multiprocessing",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk.trace.export",
    "prometheus_client",
    "pydantic",
    "pydantic.root_model",
    "pydantic_settings",
    "rich.console",
    "rich.live",
    "rich.progress",
    "rich.prompt",
    "rich.table",
    "ruamel.yaml",
    "sqlalchemy.ext.asyncio",
    "sqlite3",
    "tempfile",
    "zoneinfo",
)
MODULES: Final = ("uvloop", "winloop", "fcntl", "termios", "resource", "pwd", "grp", "pty", "syslog")
NAMES: Final[dict[ModuleType, str]] = {
    asyncio: "start_unix_server open_unix_connection",
    mmap: "MADV_DONTNEED MAP_SHARED",
    os: """fork posix_fallocate fdatasync pread pwrite nice getuid geteuid getgid pidfd_open memfd_create O_CLOEXEC
        O_NONBLOCK O_DIRECTORY sched_getaffinity waitstatus_to_exitcode fchmod fchown wait3 wait4""",
    select: "poll epoll POLLIN POLLOUT POLLHUP POLLERR POLLRDHUP",
    signal: "SIGHUP SIGUSR1 SIGUSR2 SIGKILL SIGCHLD SIGPIPE pthread_sigmask pidfd_send_signal",
    socket: """AF_UNIX SO_REUSEPORT SO_PEERCRED SOCK_SEQPACKET SOCK_CLOEXEC MSG_DONTWAIT TCP_USER_TIMEOUT send_fds
        recv_fds CMSG_LEN SCM_RIGHTS""",
}


class BareLoop(asyncio.SelectorEventLoop):
    """Of Windows' usual loop: it hears no signals, and watches no descriptors."""

    def __init__(self) -> None:
        # The library's own selector: it needs the calls that are taken away for the others.
        super().__init__(SELECTOR())

    def add_signal_handler(self, *_: Any) -> None:
        raise NotImplementedError

    def add_reader(self, *_: Any) -> None:
        raise NotImplementedError

    add_writer = add_reader


def strip() -> None:
    for name in LOADED_BEFORE:
        try:
            import_module(name)
        except ImportError:
            continue
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    socket.socketpair = partial(socket.socketpair, socket.AF_UNIX)  # the loop's own: Windows makes one in another way
    for module, names in NAMES.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    asyncio.new_event_loop = BareLoop  # type: ignore[assignment]
    sys.platform = "win32"


def import_all() -> int:
    import router

    names = [found.name for found in pkgutil.walk_packages(router.__path__, "router.")]
    # Alembic runs `migrations` with a context of its own; and a `__main__` does its work as it is imported.
    wanted = [name for name in names if "migrations" not in name and not name.endswith("__main__")]
    for name in wanted:
        import_module(name)
    return len(wanted)


if __name__ == "__main__":
    import selectors

    SELECTOR: Final = selectors.SelectSelector
    subprocess.Popen  # noqa: B018 - it chooses its system at import, which has been
    strip()
    if sys.argv[1:] == ["import"]:
        print(import_all())
    else:
        import_module("router.cli").main()
