"""Oracle's Generative AI service, where it is compatible with OpenAI."""

from typing import Final

from router.base.clock import Clock
from router.emulator.answer import Answer, Headers, RefusedError
from router.emulator.bodies import About
from router.emulator.cloud_errors import oci_error, usual_error
from router.emulator.credentials.check import Problem
from router.emulator.credentials.known import OciKey
from router.emulator.credentials.oci_signature import OciSignatureCheck
from router.emulator.credentials.tokens import TokenIssuer
from router.emulator.dialects.openai import OpenAIDialect
from router.emulator.dialects.shape import Target
from router.emulator.quota import Verdict
from router.emulator.received import Request
from router.emulator.settings import Deployment, Endpoint

OPERATIONS: Final = frozenset({"chat", "responses"})


class OciDialect(OpenAIDialect):
    """Bearer keys or signed requests; chat and responses; errors without an `error` object around them."""

    def __init__(self, endpoint: Endpoint, clock: Clock, issuer: TokenIssuer | None) -> None:
        super().__init__(endpoint, clock, issuer)
        if isinstance(endpoint.known, OciKey):
            self.credential = OciSignatureCheck(endpoint.known, clock)

    def refused(self, problem: Problem, request: Request) -> RefusedError:  # noqa: ARG002
        # What a caller may not see is not there for it.
        return _refused(404 if problem is Problem.SCOPE else 401)

    def target(self, request: Request) -> Target:
        try:
            found = super().target(request)
        except RefusedError:
            raise _refused(404) from None
        if found.operation not in OPERATIONS:
            raise _refused(404)
        return found

    def unknown_deployment(self, name: str) -> RefusedError:
        return RefusedError(404, oci_error("404", f"Entity with key {name} not found"))

    def unsupported(self, deployment: Deployment, operation: str) -> RefusedError:
        return RefusedError(400, oci_error("InvalidParameter", f"{deployment.name} does not support {operation}"))

    def throttled(self, verdict: Verdict, about: About) -> RefusedError:  # noqa: ARG002  no wait is told
        return _refused(429)

    def bad_request(self, message: str) -> RefusedError:
        return RefusedError(400, oci_error("InvalidParameter", message))

    def headers(self, request_id: str, verdict: Verdict | None) -> Headers:  # noqa: ARG002  no limits are told
        return (("opc-request-id", request_id.upper().replace("-", "")),)

    def models(self, target: Target) -> Answer:  # noqa: ARG002
        raise _refused(404)


def _refused(status: int) -> RefusedError:
    return RefusedError(status, usual_error(status, About(dialect="oci")).body)
