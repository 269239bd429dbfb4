"""AWS Bedrock, where it is compatible with OpenAI."""

from typing import Final

from router.base.clock import Clock
from router.emulator.answer import Headers, RefusedError
from router.emulator.bodies import About
from router.emulator.cloud_errors import bedrock_error, usual_error
from router.emulator.credentials.check import Problem
from router.emulator.credentials.known import AwsKeys
from router.emulator.credentials.sigv4 import SigV4Check
from router.emulator.credentials.tokens import TokenIssuer
from router.emulator.dialects.openai import OpenAIDialect
from router.emulator.dialects.shape import MODELS, Target
from router.emulator.quota import Verdict
from router.emulator.received import Request
from router.emulator.settings import Deployment, Endpoint

OPERATIONS: Final = frozenset({"chat", "responses", MODELS})

_REFUSALS: Final = {
    Problem.MISSING: ("MissingAuthenticationTokenException", "Missing Authentication Token"),
    Problem.UNKNOWN: ("UnrecognizedClientException", "The security token included in the request is invalid."),
    Problem.SIGNATURE: (
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
        "Key and signing method. Consult the service documentation for details.",
    ),
    Problem.EXPIRED: ("InvalidSignatureException", "Signature expired: its date is not within 5 min. of now."),
    Problem.SCOPE: ("InvalidSignatureException", "Credential should be scoped to a valid region."),
}


class BedrockDialect(OpenAIDialect):
    """Bearer keys or SigV4; chat and responses; the error's name in a header."""

    def __init__(self, endpoint: Endpoint, clock: Clock, issuer: TokenIssuer | None) -> None:
        super().__init__(endpoint, clock, issuer)
        if isinstance(endpoint.known, AwsKeys):
            self.credential = SigV4Check(endpoint.known, clock)

    def refused(self, problem: Problem, request: Request) -> RefusedError:  # noqa: ARG002
        return _named(403, *_REFUSALS[problem])

    def target(self, request: Request) -> Target:
        try:
            found = super().target(request)
        except RefusedError:
            raise _named(404, "UnknownOperationException", "") from None
        if found.operation not in OPERATIONS:
            raise _named(404, "UnknownOperationException", "")
        return found

    def unknown_deployment(self, name: str) -> RefusedError:  # noqa: ARG002  it is not named
        return _named(400, "ValidationException", "The provided model identifier is invalid.")

    def unsupported(self, deployment: Deployment, operation: str) -> RefusedError:  # noqa: ARG002
        return _named(400, "ValidationException", f"The model {deployment.name} isn't supported on this route.")

    def throttled(self, verdict: Verdict, about: About) -> RefusedError:  # noqa: ARG002  no wait is told
        usual = usual_error(429, About(dialect="bedrock"))
        return RefusedError(429, usual.body, usual.headers)

    def bad_request(self, message: str) -> RefusedError:
        return _named(400, "ValidationException", message)

    def headers(self, request_id: str, verdict: Verdict | None) -> Headers:  # noqa: ARG002  no limits are told
        return (("x-amzn-requestid", request_id),)


def _named(status: int, name: str, message: str) -> RefusedError:
    error = bedrock_error(name, message)
    return RefusedError(status, error.body, error.headers)
