"""Google Vertex AI, where it is compatible with OpenAI."""

from typing import Final

import orjson

from router.base.clock import Clock
from router.emulator.answer import Answer, Headers, RefusedError
from router.emulator.bodies import About
from router.emulator.cloud_errors import google_error, usual_error
from router.emulator.credentials.check import Problem
from router.emulator.credentials.tokens import TokenIssuer
from router.emulator.dialects.openai import OpenAIDialect
from router.emulator.dialects.shape import Target
from router.emulator.quota import Verdict
from router.emulator.received import Request
from router.emulator.settings import Deployment, Endpoint

OPERATIONS: Final = frozenset({"chat"})


class VertexDialect(OpenAIDialect):
    """Tokens alone, chat alone; numeric codes, and an array around the errors of requests for streams."""

    def __init__(self, endpoint: Endpoint, clock: Clock, issuer: TokenIssuer | None) -> None:
        super().__init__(endpoint, clock, issuer)
        if issuer is not None:
            self.credential = issuer

    def refused(self, problem: Problem, request: Request) -> RefusedError:
        status = 403 if problem is Problem.SCOPE else 401
        return _refused(status, streamed=_asks_for_stream(request))

    def target(self, request: Request) -> Target:
        try:
            found = super().target(request)
        except RefusedError:
            raise _refused(404) from None
        if found.operation not in OPERATIONS:
            raise _refused(404)
        return found

    def check_fields(self, target: Target, fields: dict[str, object]) -> None:
        """What it does not know it ignores."""

    def unknown_deployment(self, name: str) -> RefusedError:
        if "/" not in name:
            message = f"Malformed publisher model (was: {name}). Expected: publisher/model."
            return RefusedError(400, google_error(400, "INVALID_ARGUMENT", message))
        message = f"Publisher Model `{name}` was not found or your project does not have access to it."
        return RefusedError(404, google_error(404, "NOT_FOUND", message))

    def unsupported(self, deployment: Deployment, operation: str) -> RefusedError:
        message = f"{deployment.name} does not support {operation}."
        return RefusedError(400, google_error(400, "FAILED_PRECONDITION", message))

    def throttled(self, verdict: Verdict, about: About) -> RefusedError:  # noqa: ARG002  no wait is told
        return _refused(429, streamed=about.streamed)

    def bad_request(self, message: str) -> RefusedError:
        return RefusedError(400, google_error(400, "INVALID_ARGUMENT", message))

    def headers(self, request_id: str, verdict: Verdict | None) -> Headers:  # noqa: ARG002  neither is told
        return ()

    def models(self, target: Target) -> Answer:  # noqa: ARG002
        raise _refused(404)


def _refused(status: int, *, streamed: bool = False) -> RefusedError:
    return RefusedError(status, usual_error(status, About(dialect="vertex", streamed=streamed)).body)


def _asks_for_stream(request: Request) -> bool:
    try:
        fields = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(fields, dict) and fields.get("stream") is True
