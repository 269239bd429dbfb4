"""What a drill runs against, as data: the endpoints, the workloads and the router's configuration made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from router.config.keys import digest

CREDENTIAL: Final = "emulated-drill"
REGIONS: Final = ("azure-a", "azure-b", "azure-c")
# Long enough to stand out from what a small machine adds, short enough for many requests in a short drill.
PACE: Final[Mapping[str, Any]] = {
    "head_ms": {"median": 60, "sigma": 0.2},
    "first_token_ms": {"median": 30, "sigma": 0.2},
    "token_gap_ms": 2,
    "tokens": 5,
}
API: Final[Mapping[str, Any]] = {"placement": {"rule": "exclusive", "cloud": "azure"}}


def key_of(workload: str) -> str:
    """The secret of the workload's only key, for drills only."""
    return f"sk-ir-drill-{workload}"


@dataclass(frozen=True)
class Endpoint:
    """One emulated endpoint. `deployment`, `extra`: more keys of its only deployment, and of itself."""

    cloud: str = "azure"
    tier: int = 0
    model: str = "gpt-4o"
    emulator: Mapping[str, Any] = field(default_factory=lambda: dict(PACE))
    deployment: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def section(self, port: int) -> dict[str, Any]:
        azure = self.cloud == "azure"
        return {
            "cloud": self.cloud,
            "provider": "azure_openai" if azure else "openai",
            "base_url": f"http://127.0.0.1:{port}{'' if azure else '/v1'}",
            "auth": {"api_key" if azure else "bearer": CREDENTIAL},
            "emulated": True,
            "emulator": dict(self.emulator),
            "deployments": [{"model": self.model, "name": self.model, "tier": self.tier, **self.deployment}],
            **self.extra,
        }


@dataclass(frozen=True)
class Fleet:
    """All that one drill needs to know. `more`: further top-level sections of the configuration; `server`: of that one.

    `groups`: endpoints that share a process; empty: each has its own. `recorded`: with a decision log.
    """

    endpoints: Mapping[str, Endpoint | Sequence[Endpoint]]
    workloads: Mapping[str, Any] = field(default_factory=lambda: {"api": API})
    more: Mapping[str, Any] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    groups: Sequence[Sequence[str]] = ()
    recorded: bool = False

    def config(self, folder: Path, ports: Mapping[str, int], port: int, admin_port: int) -> dict[str, Any]:
        sections = {name: _section(one, ports[name]) for name, one in self.endpoints.items()}
        log = {"dir": str(folder / "decisions"), **_anchored(folder)} if self.recorded else None
        return {
            "server": {
                "listen": f"127.0.0.1:{port}",
                "admin": f"127.0.0.1:{admin_port}",
                "access_log": str(folder / "access.log"),
                "drain_s": 3,
                **self.server,
            },
            **({"decision_log": log} if log else {}),
            **({"clouds": {"softbank": {"hosts": ["inference.softbank.example"]}}} if self._has("softbank") else {}),
            "endpoints": sections,
            "workloads": dict(self.workloads),
            "keys": [
                {"name": name, "workload": name, "sha256": digest(key_of(name)).hex(), "models": ["*"]}
                for name in self.workloads
            ],
            **self.more,
        }

    def _has(self, cloud: str) -> bool:
        return any(section.cloud == cloud for one in self.endpoints.values() for section in _several(one))


def signing_key(folder: Path) -> Path:
    return folder / "signing-key.pem"


def anchors(folder: Path) -> Path:
    return folder / "anchors.jsonl"


def _anchored(folder: Path) -> dict[str, Any]:
    return {"signing_key": str(signing_key(folder)), "anchors": str(anchors(folder)), "anchor_every_s": 1}


def _several(one: Endpoint | Sequence[Endpoint]) -> Sequence[Endpoint]:
    return [one] if isinstance(one, Endpoint) else one


def _section(one: Endpoint | Sequence[Endpoint], port: int) -> dict[str, Any]:
    """Several of one name are its deployments, and the first says the rest."""
    parts = [each.section(port) for each in _several(one)]
    return {**parts[0], "deployments": [part["deployments"][0] for part in parts]}


def regions(tier: int = 0, **deployment: Any) -> dict[str, Endpoint | Sequence[Endpoint]]:
    """Three Azure regions that are alike."""
    return {name: Endpoint(tier=tier, deployment=deployment) for name in REGIONS}
