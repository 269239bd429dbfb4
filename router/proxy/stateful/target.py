"""An endpoint, asked for what it stores: a request of any method, whose path has ids in it."""

from collections.abc import Mapping
from dataclasses import replace

from router.model.operation import Ending, Operation
from router.providers.dialect import Dialect, Fault, Judgement, Route
from router.proxy.backend import Backend, Target


class StoredTarget(Target):
    """Without a model and without a price: what it costs is not in any answer."""

    __slots__ = ("method",)

    def __init__(
        self,
        backend: Backend,
        operation: Operation,
        speaks: Dialect,
        method: bytes = b"GET",
        path: bytes = b"",
        query: bytes = b"",
    ) -> None:
        prefix, own_query = speaks.stored_under(backend.deployment.endpoint)
        queries = b"&".join(filter(None, (own_query, query)))
        target = prefix + path + (b"?" + queries if queries else b"")
        super().__init__(backend, operation, Route(target, False, False, needs_done=False), speaks)
        self.method = method
        self.head = b"%b %b HTTP/1.1\r\n%b" % (method, target, self.lines)

    def asked(self, method: bytes, path: bytes, query: bytes, *, stream: bool) -> "StoredTarget":
        """For one request. `stream`: its answer is the stream of a response."""
        operation = replace(self.operation, ending=Ending.RESPONSES) if stream else self.operation
        return StoredTarget(self.backend, operation, self._dialect, method, path, query)

    def judge(self, status: int, fields: Mapping[bytes, bytes], body: bytes) -> Judgement:
        """What is not there is an answer to the client who named it, and no fault of the endpoint."""
        judged = super().judge(status, fields, body)
        return Judgement(Fault.ANSWER) if judged.kind is Fault.MISSING else judged
