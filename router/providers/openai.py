"""OpenAI's own dialect, and that of every server which is compatible with it."""

from collections.abc import Mapping
from typing import ClassVar

from router.model.fleet import AuthKind, Deployment, Endpoint
from router.model.operation import OPERATIONS, REALTIME, Operation
from router.providers.dialect import Judgement, Route
from router.providers.faults import judge_answer, judge_event
from router.providers.targets import encode_path, encode_segment


class OpenAI:
    """The base URL has the prefix (`/v1` and its variants); the body names the model; nothing else is assumed."""

    identities: ClassVar[frozenset[AuthKind]] = frozenset({AuthKind.BEARER, AuthKind.NONE})
    operations: ClassVar[frozenset[str]] = frozenset(OPERATIONS)

    def route(self, deployment: Deployment, operation: Operation) -> Route | None:
        if operation.name not in self.operations:
            return None
        target = encode_path(deployment.endpoint.base_url.path) + operation.path.encode()
        if operation is REALTIME:  # has no body: the query names the model
            return Route(target + b"?model=" + encode_segment(deployment.name), False, False, needs_done=False)
        # Some compatible servers never send `[DONE]`: the finish reasons have to do.
        return Route(target, model_in_body=True, usage_option=operation.asks_usage, needs_done=False)

    def stored_under(self, endpoint: Endpoint) -> tuple[bytes, bytes]:
        return encode_path(endpoint.base_url.path), b""

    def judge(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Judgement:
        return judge_answer(status, headers, body)

    def judge_event(self, error: object) -> Judgement:
        return judge_event(error)
