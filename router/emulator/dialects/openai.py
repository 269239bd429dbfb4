"""A server that speaks OpenAI's API."""

import math

from router.base.clock import Clock
from router.emulator.answer import Answer, Headers, RefusedError
from router.emulator.bodies import (
    About,
    error_body,
    invalid_openai_key,
    openai_error,
)
from router.emulator.credentials.check import Check, KeyCheck, Problem
from router.emulator.credentials.tokens import TokenIssuer
from router.emulator.dialects.shape import Target, model_list, operation_at
from router.emulator.quota import Verdict
from router.emulator.received import Request
from router.emulator.settings import Deployment, Endpoint


class OpenAIDialect:
    """A server that speaks OpenAI's API under `path`, with bearer keys."""

    azure = False

    def __init__(self, endpoint: Endpoint, _clock: Clock, _issuer: TokenIssuer | None) -> None:
        self.endpoint = endpoint
        self.credential: Check = KeyCheck(endpoint.key)

    def check(self, request: Request) -> None:
        problem = self.credential.problem(request)
        if problem is not None:
            raise self.refused(problem, request)

    def refused(self, problem: Problem, request: Request) -> RefusedError:  # noqa: ARG002  one answer for all here
        """What a request with such a credential gets."""
        return RefusedError(401, invalid_openai_key(About()))

    def target(self, request: Request) -> Target:
        path = request.path
        if path.startswith(self.endpoint.path + "/"):
            found = operation_at(request.method, path.removeprefix(self.endpoint.path), None, "v1")
            if found is not None:
                return found
        message = f"Invalid URL ({request.method} {path})"
        raise RefusedError(404, openai_error(message, "invalid_request_error", None))

    def check_fields(self, target: Target, fields: dict[str, object]) -> None:
        """Knows all fields."""

    def unknown_deployment(self, name: str) -> RefusedError:
        message = f"The model `{name}` does not exist or you do not have access to it."
        return RefusedError(404, openai_error(message, "invalid_request_error", "model_not_found", "model"))

    def unsupported(self, deployment: Deployment, operation: str) -> RefusedError:
        message = f"{deployment.name} does not support {operation}."
        return RefusedError(404, openai_error(message, "invalid_request_error", None, "model"))

    def throttled(self, verdict: Verdict, about: About) -> RefusedError:
        wait = ("retry-after", str(about.wait_s)), ("retry-after-ms", str(math.ceil(verdict.wait_s * 1000)))
        return RefusedError(429, error_body("openai_rate_limit", 429, about)[1], wait)

    def bad_request(self, message: str) -> RefusedError:
        return RefusedError(400, openai_error(message, "invalid_request_error", None))

    def headers(self, request_id: str, verdict: Verdict | None) -> Headers:
        own = ("x-request-id", f"req_{request_id}"), ("openai-processing-ms", "1")
        if verdict is None or verdict.limit_tokens is None:
            return own
        return (
            *own,
            ("x-ratelimit-limit-tokens", str(verdict.limit_tokens)),
            ("x-ratelimit-remaining-tokens", str(verdict.remaining_tokens)),
            ("x-ratelimit-reset-tokens", _duration(verdict.reset_tokens_s)),
        )

    def models(self, target: Target) -> Answer:
        missing = self.unknown_deployment(target.item or "").answer.body
        return model_list([deployment.name for deployment in self.endpoint.deployments], target, missing)


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 12ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:.3g}s"
