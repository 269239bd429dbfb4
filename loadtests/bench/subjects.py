"""What is measured and what it is measured against: how each program is started, and how one knows that it serves."""

import contextlib
import sys
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import trustme
from ruamel.yaml import YAML

from loadtests.baselines.peers import PEERS, Peer, Ports
from loadtests.bench.processes import BenchError, Cores, accepts, answers_200, find_program, free_port, running

ROOT: Final = Path(__file__).parents[2]
NGINX_TEMPLATE: Final = ROOT / "loadtests" / "baselines" / "nginx.conf"
ROUTER_CONFIG: Final = ROOT / "config" / "bench.yaml"

CLIENT_PATH: Final = "/v1/chat/completions"
UPSTREAM_PATH: Final = "/openai/v1/chat/completions"  # Azure's v1 shape; a plain proxy passes the path on as it is

ANSWER_BYTES: Final = 600
STREAM_EVENTS: Final = 50


@dataclass(frozen=True, slots=True)
class Site:
    """What a proxy needs to know to be started."""

    folder: Path
    cores: Cores
    upstream_port: int = 0
    ca_file: Path | None = None  # set: the upstream speaks TLS
    front: tuple[Path, Path] | None = None  # certificate and key: clients speak TLS, too
    streaming: bool = False

    @property
    def upstream(self) -> str:
        return f"{'https' if self.ca_file else 'http'}://127.0.0.1:{self.upstream_port}"


@dataclass(frozen=True, slots=True)
class Launch:
    """A program that is ready to be started."""

    command: Sequence[str]
    port: int
    ready: Callable[[], bool]
    connections: int | None = None  # fewer than usual in the closed loop


@dataclass(frozen=True, slots=True)
class Target:
    """Something that serves: where to send to, and whose CPU to count."""

    name: str
    port: int
    path: str
    pid: int
    connections: int | None = None
    tls: bool = False  # with those who ask it


class Subject(Protocol):
    """A proxy that can be measured."""

    name: str
    path: str

    def launch(self, site: Site) -> Launch: ...


class Nginx:
    """nginx at its cheapest for the mode: buffered where the answer is small and whole, unbuffered for streams."""

    name, path = "nginx", UPSTREAM_PATH

    def launch(self, site: Site) -> Launch:
        prefix = site.folder / "nginx"
        prefix.mkdir()
        port = free_port()
        text = NGINX_TEMPLATE.read_text(encoding="utf-8")
        values = {
            "PORT": str(port),
            "UPSTREAM_PORT": str(site.upstream_port),
            "SCHEME": "https" if site.ca_file else "http",
            "BUFFERING": "off" if site.streaming else "on",
            "FRONT": "" if site.front is None else " ssl",
            "CERTIFICATE": "" if site.front is None else _nginx_certificate(*site.front),
        }
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        (prefix / "nginx.conf").write_text(text, encoding="utf-8")
        command = [find_program("nginx"), "-e", "stderr", "-p", str(prefix), "-c", "nginx.conf"]
        return Launch(command, port, lambda: accepts(port))


def _nginx_certificate(certificate: Path, key: Path) -> str:
    return f"ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;"


class NaiveAiohttp:
    """The gauge of the benchmark itself."""

    name, path = "naive", UPSTREAM_PATH

    def launch(self, site: Site) -> Launch:
        port = free_port()
        module = "loadtests.baselines.naive_aiohttp"
        command = [sys.executable, "-m", module, "--port", str(port), "--upstream", site.upstream]
        return Launch(command, port, lambda: accepts(port))


Change = Callable[[MutableMapping[str, Any]], None]  # of the router's document


class Router:
    """The router as committed, with `config/bench.yaml` moved to free ports.

    `change`: another way to run it, for telling what a part of it costs, and for nothing else.
    """

    path = CLIENT_PATH

    def __init__(
        self, name: str = "router", change: Change = lambda _: None, module: Sequence[str] = ("router", "serve")
    ) -> None:
        self.name = name
        self._change, self._module = change, module

    def launch(self, site: Site) -> Launch:
        port, admin = free_port(), free_port()
        config = site.folder / f"{self.name}.yaml"
        derive_config(ROUTER_CONFIG, config, site, port, admin, self.name, self._change)
        command = [sys.executable, "-m", *self._module, "--config", str(config)]
        return Launch(command, port, lambda: answers_200(admin, "/readyz"))


class Gateway:
    """Another gateway, where it is installed."""

    path = CLIENT_PATH

    def __init__(self, peer: Peer) -> None:
        self.name, self._peer = peer.name, peer

    def launch(self, site: Site) -> Launch:
        """Raises BenchError where it is not installed."""
        if self._peer.missing:
            raise BenchError(self._peer.missing)
        ports = Ports(free_port(), site.upstream_port, free_port())
        health = self._peer.health
        return Launch(
            self._peer.command(ports, site.folder),
            ports.own,
            lambda: answers_200(ports.own, health) if health else accepts(ports.own),
            self._peer.connections,
        )


def without_accounts(document: MutableMapping[str, Any]) -> None:
    """Neither limits nor a ledger."""
    document.pop("ledger", None)
    for key in document["keys"]:
        key.pop("limits", None)


def without_decisions(document: MutableMapping[str, Any]) -> None:
    del document["decision_log"]


def two_workers(document: MutableMapping[str, Any]) -> None:
    document["server"]["workers"] = 2


ALL: Final[tuple[Subject, ...]] = (
    Nginx(),
    NaiveAiohttp(),
    Router(),
    Router("router-no-decisions", without_decisions),
    Router("router-no-accounts", without_accounts),
    Router("router-2-workers", two_workers),
    Router("router-on-off", module=("loadtests.bench.on_off",)),
    *map(Gateway, PEERS),
)
SUBJECTS: Final[dict[str, Subject]] = {subject.name: subject for subject in ALL}


def derive_config(
    source: Path, target: Path, site: Site, port: int, admin: int, name: str, change: Change = lambda _: None
) -> None:
    """Writes the router's configuration with other ports, and with TLS to the upstream where the site has it."""
    if not source.exists():
        raise BenchError(f"{source.name} is missing")
    yaml = YAML()
    document = yaml.load(source)
    document["server"]["listen"] = f"127.0.0.1:{port}"
    document["server"]["admin"] = f"127.0.0.1:{admin}"
    document["server"]["access_log"] = str(site.folder / f"{name}.log")  # on, and to a file, as in production
    if "decision_log" in document:
        document["decision_log"]["dir"] = str(site.folder / f"{name}-decisions")
    if "ledger" in document:
        document["ledger"]["dir"] = str(site.folder / f"{name}-ledger")
    if site.front is not None:
        document["server"]["tls"] = dict(zip(("certificate", "key"), map(str, site.front), strict=True))
    for endpoint in document["endpoints"].values():
        endpoint["base_url"] = site.upstream
        if site.ca_file is not None:
            endpoint["ca_file"] = str(site.ca_file)
    change(document)
    yaml.dump(document, target)


@dataclass(frozen=True, slots=True)
class Stand:
    """A mode's set of running programs."""

    site: Site
    direct: Target  # the upstream itself
    targets: dict[str, Target]


@contextlib.contextmanager
def stand(
    site: Site,
    subjects: Sequence[Subject],
    gap_ms: float,
    tls: bool = False,
    *,
    first_at_once: bool = False,
    tls_clients: bool = False,
) -> Iterator[Stand]:
    """Starts the upstream and the subjects in a folder of their own; ends all of them.

    `first_at_once`: a paced stream's first event does not wait for the pace, so that its time is that of the way.
    `tls_clients`: with `tls`, on the other side as well.
    """
    with contextlib.ExitStack() as stack:
        site = replace(site, upstream_port=free_port(), ca_file=None)
        command = [
            *(sys.executable, "-m", "router", "emulate", "--plain", str(site.upstream_port)),
            *("--answer-bytes", str(ANSWER_BYTES), "--stream-events", str(STREAM_EVENTS), "--gap-ms", f"{gap_ms:g}"),
        ]
        if first_at_once:
            command.append("--first-at-once")
        if tls:
            certificate, key, ca_file = make_certificate(site.folder)
            site = replace(site, ca_file=ca_file, front=(certificate, key) if tls_clients else None)
            command += ["--tls-cert", str(certificate), "--tls-key", str(key)]
        upstream_port = site.upstream_port
        pid = stack.enter_context(
            running("upstream", command, site.cores.load, site.folder, lambda: accepts(upstream_port))
        )
        targets = {subject.name: stack.enter_context(started(subject, site)) for subject in subjects}
        yield Stand(site, Target("direct", upstream_port, UPSTREAM_PATH, pid, tls=tls), targets)


@contextlib.contextmanager
def started(subject: Subject, site: Site, poll_s: float = 0.02) -> Iterator[Target]:
    launch = subject.launch(site)
    with running(subject.name, launch.command, site.cores.proxy, site.folder, launch.ready, poll_s) as pid:
        yield Target(subject.name, launch.port, subject.path, pid, launch.connections, tls=site.front is not None)


def make_certificate(folder: Path) -> tuple[Path, Path, Path]:
    """Makes an authority and a certificate for 127.0.0.1; returns the paths of certificate, key and authority."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate, key, ca_file = folder / "upstream.pem", folder / "upstream.key", folder / "authority.pem"
    for blob in issued.cert_chain_pems:
        blob.write_to_path(certificate, append=certificate.exists())
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(ca_file)
    return certificate, key, ca_file
