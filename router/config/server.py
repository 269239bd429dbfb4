"""The process's own settings, and how several processes share what is meant for all of them."""

from typing import Final

from router.config.document import Document
from router.config.hosts import is_loopback
from router.config.origins import read_origins
from router.config.schema import ServerSection
from router.config.snapshot import Address, ServerSettings
from router.config.system import can_share_port
from router.config.tls import read_front
from router.config.words import check_secret, read_address
from router.model.fleet import Secret

WORKERS_MAX: Final = 256
_UNREADABLE: Final = Address("", 0)  # has its fault


def share(total: int, workers: int) -> int:
    """What one of so many workers has of a bound for all of them: rounded up, so that none is left with nothing."""
    return -(-total // workers)


def _share_of_some(total: int | None, workers: int) -> int | None:
    return share(total, workers) if total is not None else None


def read_workers(doc: Document, section: ServerSection) -> int:
    """How many processes share the port. `auto`: one for each core."""
    workers = section.workers
    if workers == "auto":
        return min(doc.cores, WORKERS_MAX) if can_share_port() else 1
    if isinstance(workers, int) and not isinstance(workers, bool) and 0 < workers <= WORKERS_MAX:
        return workers
    doc.fault(("server", "workers"), f"must be a whole number from 1 to {WORKERS_MAX}, or auto")
    return 1


def read_server(doc: Document, section: ServerSection, workers: int, parts: int) -> ServerSettings:
    """`parts`: into so many what is meant for all workers is divided."""
    listen = read_address(doc, ("server", "listen"), section.listen)
    admin = read_address(doc, ("server", "admin"), section.admin)
    front = read_front(doc, section)
    if section.admin_token is not None:
        check_secret(doc, ("server", "admin_token"), section.admin_token)
    if section.body_bytes_max > share(section.buffered_bytes_max, workers):
        whose = "buffered_bytes_max" if workers == 1 else f"a worker's share of buffered_bytes_max (1/{workers})"
        doc.fault(("server", "body_bytes_max"), f"is above {whose}, so the largest body could never be read")
    if listen is not None and listen == admin and listen.port:
        doc.fault(("server", "admin"), "is the address of `listen`: the control plane has its own")
    if admin is not None and not is_loopback(admin.host) and section.admin_token is None:
        doc.fault(("server", "admin"), "is not a loopback address: that needs `admin_token`")
    return ServerSettings(
        listen=listen or _UNREADABLE,
        admin=admin or _UNREADABLE,
        workers=workers,
        body_bytes_max=section.body_bytes_max,
        buffered_bytes_max=share(section.buffered_bytes_max, parts),
        connections_max=share(section.connections_max, parts),
        connections_per_address_max=_share_of_some(section.connections_per_address_max, parts),
        head_bytes_max=section.head_bytes_max,
        pipelined_bytes_max=section.pipelined_bytes_max,
        waiting_bytes_max=share(section.waiting_bytes_max, parts),
        handshake_timeout_s=section.handshake_timeout_s,
        head_timeout_s=section.head_timeout_s,
        body_timeout_s=section.body_timeout_s,
        keepalive_timeout_s=section.keepalive_timeout_s,
        drain_s=section.drain_s,
        drain_delay_s=section.drain_delay_s,
        loop_lag_max_s=section.loop_lag_max_s,
        upstream_idle_s=section.upstream_idle_s,
        admin_token=Secret(section.admin_token) if section.admin_token is not None else None,
        access_log=section.access_log,
        watch=section.watch,
        cors_origins=read_origins(doc, ("server", "cors_origins"), section.cors_origins),
        log_clients=section.log_clients,
        tls=front.tls,
        proxy_protocol=front.proxy_protocol,
        trusted_proxies=front.trusted_proxies,
    )
