"""The process's own settings."""

from router.config.document import Document
from router.config.hosts import is_loopback
from router.config.schema import ServerSection
from router.config.snapshot import ServerSettings
from router.config.words import check_secret, read_address
from router.model.fleet import Secret


def read_server(doc: Document, section: ServerSection) -> ServerSettings | None:
    """None where an address cannot be read."""
    listen = read_address(doc, ("server", "listen"), section.listen)
    admin = read_address(doc, ("server", "admin"), section.admin)
    _check_workers(doc, section.workers)
    if section.admin_token is not None:
        check_secret(doc, ("server", "admin_token"), section.admin_token)
    if section.body_bytes_max > section.buffered_bytes_max:
        doc.fault(("server", "body_bytes_max"), "is above buffered_bytes_max, so the largest body could never be read")
    if listen is None or admin is None:
        return None
    if listen == admin and listen.port:
        doc.fault(("server", "admin"), "is the address of `listen`: the control plane has its own")
    if not is_loopback(admin.host) and section.admin_token is None:
        doc.fault(("server", "admin"), "is not a loopback address: that needs `admin_token`")
    return ServerSettings(
        listen=listen,
        admin=admin,
        workers=1,
        body_bytes_max=section.body_bytes_max,
        buffered_bytes_max=section.buffered_bytes_max,
        connections_max=section.connections_max,
        head_timeout_s=section.head_timeout_s,
        body_timeout_s=section.body_timeout_s,
        keepalive_timeout_s=section.keepalive_timeout_s,
        drain_s=section.drain_s,
        upstream_idle_s=section.upstream_idle_s,
        admin_token=Secret(section.admin_token) if section.admin_token is not None else None,
        access_log=section.access_log,
    )


def _check_workers(doc: Document, workers: object) -> None:
    path = ("server", "workers")
    if isinstance(workers, int) and not isinstance(workers, bool) and workers > 0:
        if workers > 1:
            doc.fault(path, "is not in this version yet above 1")
    elif workers == "auto":
        doc.fault(path, "'auto' is not in this version yet; there is 1")
    else:
        doc.fault(path, "must be a whole number above 0, or auto")
