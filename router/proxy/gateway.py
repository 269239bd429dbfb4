"""What the transport calls: a request begins, or bytes came that are none."""

import asyncio

from router.base.errors import MalformedHttpError, RefusedError
from router.config.snapshot import Snapshot
from router.model.outcome import RequestRecord
from router.proxy.lifecycle import serve
from router.proxy.replies import whole_error
from router.proxy.runtime import Runtime
from router.transport.inbound import Inbound
from router.transport.server import Server
from router.transport.tls import believes_all
from router.transport.wheel import Wheel


class Gateway:
    """The data plane of one process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wheel: Wheel, rt: Runtime) -> None:
        self._rt = rt
        self.server = Server(loop, wheel, self, rt.snapshot.server)
        self._authorities = _client_authorities(rt.snapshot)
        rt.on_adopt = self._adopted

    def _adopted(self, snapshot: Snapshot) -> None:
        self.server.bounds = snapshot.server
        before, self._authorities = self._authorities, _client_authorities(snapshot)
        if not believes_all(self._authorities, before):
            self.server.doubt_certificates()

    def request_begun(self, inbound: Inbound) -> None:
        inbound.run(serve(inbound, self._rt, self.server))

    def refused(self, error: MalformedHttpError) -> bytes:
        request_id = self._rt.new_request_id()
        self._rt.books.request(
            RequestRecord(
                id=request_id,
                at=self._rt.clock.wall(),
                outcome="client_error",
                status=error.status,
                total_ms=0.0,
                code=error.code,
            )
        )
        return whole_error(error, request_id)

    def crowded(self) -> bytes:
        error = RefusedError(
            "The router takes no more connections. Retry in a second.",
            headers={"retry-after": "1", "retry-after-ms": "1000"},
        )
        return whole_error(error, self._rt.new_request_id())


def _client_authorities(snapshot: Snapshot) -> str | None:
    tls = snapshot.server.tls
    return tls.authorities if tls is not None else None
