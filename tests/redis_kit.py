"""A real Redis, Debian's, for tests that kill it, stop it and start it again.

with RedisServer() as server:
    server.url
    server.kill(); server.start()      # empty, unless it was told to `save`
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


class RedisServer:
    """Listens on a unix socket in a folder of its own, so that tests beside each other share no port."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            assert "CI" not in os.environ, "redis-server is missing"
            pytest.skip("redis-server is missing")
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RedisServer":
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._socket = self.folder / "s"
        self.url = f"unix://{self._socket}"
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Starts with what was saved; returns when it answers."""
        with contextlib.suppress(FileNotFoundError):
            self._socket.unlink()
        options = {
            "--port": "0",
            "--unixsocket": str(self._socket),
            "--dir": str(self.folder),
            "--save": "",
            "--appendonly": "no",
            "--daemonize": "no",
        }
        command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            self._program,
            *(word for pair in options.items() for word in pair),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def command(self, *words: str) -> bytes:
        """The first bytes of the answer to one command."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(5)
            line.connect(str(self._socket))
            line.sendall(b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)]))
            return line.recv(65536)

    def save(self) -> None:
        """Writes down what there is, so that the next start begins with it."""
        assert self.command("SAVE").startswith(b"+OK")

    def kill(self) -> None:
        """kill -9: its clients' connections end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """It hangs: connections stay open and nothing is answered."""
        self._send(signal.SIGSTOP)

    def go_on(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith(b"+PONG")
        except OSError:
            return False
