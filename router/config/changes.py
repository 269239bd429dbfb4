"""What of a configuration is set up once, at the start, so that a router that runs cannot take over another."""

from collections.abc import Iterator
from typing import Final

from router.config.document import Document
from router.config.snapshot import ServerSettings, Snapshot
from router.leasing.settings import RedisSettings
from router.ledger.settings import LedgerSettings
from router.telemetry.decision_log import DecisionLogSettings
from router.telemetry.tracing import TracingSettings

RESTART: Final = "cannot change in a reload; restart the router for it"
OF_THE_PROCESS: Final = ("listen", "admin", "workers", "access_log", "admin_token", "cors_origins", "proxy_protocol")

Fixed = dict[str, object]
"""By its path in the file."""


def fixed(
    server: ServerSettings,
    decision_log: DecisionLogSettings | None,
    ledger: LedgerSettings | None,
    redis: RedisSettings | None,
    tracing: TracingSettings | None,
) -> Fixed:
    """All of it."""
    exporter = (tracing.endpoint, tracing.headers, tracing.ca_file, tracing.service_name) if tracing else None
    return {
        **{f"server.{name}": getattr(server, name) for name in OF_THE_PROCESS},
        "server.tls": server.tls is not None,  # which certificates may change
        "decision_log": decision_log,
        "redis": redis,
        "ledger": ledger,
        "tracing": exporter,  # what is sampled may change
    }


def fixed_in(snapshot: Snapshot) -> Fixed:
    """As `fixed`, of a whole configuration."""
    return fixed(snapshot.server, snapshot.decision_log, snapshot.ledger, snapshot.redis, snapshot.tracing)


def differing(old: Fixed, new: Fixed) -> Iterator[str]:
    """The paths of what needs a restart."""
    return (path for path in new if old[path] != new[path])


def check_fixed(doc: Document, running: Snapshot | None, found: Fixed) -> None:
    """A fault for whatever cannot change while that runs. What has a fault of its own says nothing."""
    for dotted in differing(fixed_in(running), found) if running is not None else ():
        path = tuple(dotted.split("."))
        if not doc.has_fault(path):
            doc.fault(path, RESTART)
