"""Gateways of others, each as fast as its own documentation lets it be on one core, where they are installed.

`scripts/bench-peers.sh` installs them into environments of their own: nothing of them is in the project's lock.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
INSTALLED: Final = Path(os.environ.get("BENCH_PEERS") or FOLDER.parents[1] / ".bench" / "peers")
RUST: Final = {"TOKIO_WORKER_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Ports:
    """`spare`: of a second server that a gateway insists on."""

    own: int
    upstream: int
    spare: int


Options = Callable[[Ports, Path], Sequence[str]]  # what follows the program's name; the folder is for its files


@dataclass(frozen=True, slots=True)
class Peer:
    """How a gateway is found and started. `program`: in its own environment, or in the system's path."""

    name: str
    program: str
    options: Options
    install: str
    aware: bool  # of what an LLM's request is: it is no plain HTTP proxy
    environment: Mapping[str, str] = field(default_factory=dict)
    connections: int | None = None  # of the closed loop, where the usual 64 are too many: see LiteLLM
    health: str = ""  # a path that answers 200 once it serves; empty: it serves as soon as it listens

    @property
    def found(self) -> str | None:
        own = INSTALLED / self.name / "bin" / self.program
        return str(own) if own.exists() else shutil.which(self.program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")

    @property
    def missing(self) -> str:
        """Empty when it is installed; else what to do."""
        return "" if self.found else f"{self.name} is not installed: {self.install}"

    def command(self, ports: Ports, folder: Path) -> list[str]:
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        return ["env", *environment, self.found or self.program, *self.options(ports, folder)]


def _filled(template: str, ports: Ports, folder: Path) -> str:
    """Writes a configuration with its ports; returns its path."""
    text = (FOLDER / template).read_text(encoding="utf-8")
    text = text.replace("@PORT@", str(ports.own)).replace("@UPSTREAM_PORT@", str(ports.upstream))
    target = folder / template
    target.write_text(text, encoding="utf-8")
    return str(target)


def _rust_router(ports: Ports) -> list[str]:
    """What SGLang's and vLLM's routers have in common: the same ancestor, and the same ways to switch work off."""
    return [
        *("--host", "127.0.0.1", "--port", str(ports.own), "--worker-urls", f"http://127.0.0.1:{ports.upstream}"),
        *("--prometheus-port", str(ports.spare), "--log-level", "error"),
        *("--disable-retries", "--disable-circuit-breaker"),
    ]


PEERS: Final[tuple[Peer, ...]] = (
    Peer(
        "haproxy",
        "haproxy",
        lambda ports, folder: ["-db", "-f", _filled("haproxy.cfg", ports, folder)],
        "apt-get install haproxy",
        aware=False,
    ),
    Peer(
        "envoy",
        "envoy",
        lambda ports, folder: [
            *("-c", _filled("envoy.yaml", ports, folder)),
            *("--concurrency", "1", "--disable-hot-restart", "--log-level", "error"),
        ],
        "make bench-peers",
        aware=False,
    ),
    Peer(
        "sglang-router",
        "sglang-router",
        lambda ports, _: ["launch", *_rust_router(ports), "--policy", "round_robin", "--disable-health-check"],
        "make bench-peers",
        aware=True,
        environment=RUST,
        health="/health",
    ),
    Peer(
        "vllm-router",
        "vllm-router",
        lambda ports, _: [*_rust_router(ports), "--policy", "random"],
        "make bench-peers",
        aware=True,
        environment=RUST,
        health="/health",
    ),
    Peer(
        "litellm",
        "litellm",
        lambda ports, folder: [
            *("--config", _filled("litellm.yaml", ports, folder), "--host", "127.0.0.1", "--port", str(ports.own)),
            *("--num_workers", "1", "--telemetry", "False"),
        ],
        "make bench-peers",
        aware=True,
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
        health="/health/liveliness",
        # A request takes it 15 ms and more: what 64 of them have cost when the time is up would be half of all.
        connections=4,
    ),
)
