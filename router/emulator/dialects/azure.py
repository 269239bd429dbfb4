"""An Azure OpenAI resource: the classic shape with its dated api-versions, and v1."""

import math
import re
from typing import Final
from urllib.parse import parse_qs, unquote

from router.base.clock import Clock
from router.emulator.answer import Answer, Headers, RefusedError
from router.emulator.bodies import (
    About,
    azure_call_quota,
    azure_error,
    azure_token_quota,
    deployment_not_found,
    error_body,
    openai_error,
    resource_not_found,
    unauthorized,
    unauthorized_token,
)
from router.emulator.credentials.tokens import TokenIssuer
from router.emulator.dialects.shape import MODELS, Target, model_list, operation_at
from router.emulator.quota import Verdict
from router.emulator.received import Request
from router.emulator.settings import Deployment, Endpoint

_DATED: Final = re.compile(r"(\d{4}-\d{2}-\d{2})(-preview)?")
_OLDEST: Final = "2022-12-01"
_PREVIEW_ONLY: Final = ("speech", "images_edits")
_RESPONSES_SINCE: Final = "2025-03-01"
_STREAM_OPTIONS_SINCE: Final = "2024-09-01"
_CUSTOM_HEADERS_MAX: Final = 10
_STANDARD_HEADERS: Final = frozenset(
    {
        *("host", "connection", "keep-alive", "te", "transfer-encoding", "content-length", "content-type", "expect"),
        *("accept", "accept-encoding", "accept-language", "user-agent", "cache-control", "cookie", "date", "origin"),
        *("referer", "authorization", "api-key", "traceparent", "tracestate", "openai-beta"),
        *("openai-organization", "openai-project"),
    }
)


def _credentials(request: Request) -> list[str]:
    found = [value for name, value in request.headers if name == "api-key"]
    bearer = request.header("authorization") or ""
    return [*found, bearer[7:]] if bearer[:7].lower() == "bearer " else found


class AzureDialect:
    """An Azure OpenAI resource, in the classic shape (api-version in the query) and in v1."""

    azure = True

    def __init__(self, endpoint: Endpoint, _clock: Clock, issuer: TokenIssuer | None) -> None:
        self._endpoint, self._issuer = endpoint, issuer

    def check(self, request: Request) -> None:
        if sum(name not in _STANDARD_HEADERS for name, _ in request.headers) > _CUSTOM_HEADERS_MAX:
            raise RefusedError(431, error_body(None, 431, About())[1])
        if self._issuer is not None and request.header("api-key") is None:
            if self._issuer.problem(request) is not None:
                raise RefusedError(401, unauthorized_token(About()))
            return
        given = _credentials(request)
        if not given or any(not one or self._endpoint.key not in (None, one) for one in given):
            token = given and request.header("api-key") is None and given[0].count(".") == 2  # it looks like a JWT
            raise RefusedError(401, (unauthorized_token if token else unauthorized)(About()))

    def target(self, request: Request) -> Target:
        path, _, query = request.target.partition("?")
        version = parse_qs(query).get("api-version", [""])[-1]
        path = path.removeprefix(self._endpoint.path)
        if path.startswith("/openai/v1/"):
            if version not in ("", "v1", "preview"):
                raise RefusedError(400, azure_error("BadRequest", "API version not supported"))
            found = operation_at(request.method, path.removeprefix("/openai/v1"), None, "v1")
        else:
            found = self._classic_target(request.method, path, version)
        if found is None or found.operation == "moderations":
            raise RefusedError(404, resource_not_found(About()))
        return found

    def _classic_target(self, method: str, path: str, version: str) -> Target | None:
        found = None
        if path.startswith("/openai/deployments/"):
            name, slash, rest = path.removeprefix("/openai/deployments/").partition("/")
            found = operation_at(method, slash + rest, unquote(name), version)
            found = None if found and found.operation in ("responses", MODELS) else found
        elif path.startswith("/openai/"):
            found = operation_at(method, path.removeprefix("/openai"), None, version)
            found = found if found and (found.stored or found.operation in ("responses", MODELS)) else None
        return found if found and _in_version(found) else None

    def check_fields(self, target: Target, fields: dict[str, object]) -> None:
        if target.api_version != "v1" and target.api_version < _STREAM_OPTIONS_SINCE and "stream_options" in fields:
            message = "Unrecognized request argument supplied: stream_options"
            raise RefusedError(400, openai_error(message, "invalid_request_error", None))

    def unknown_deployment(self, name: str) -> RefusedError:  # noqa: ARG002  Azure's text does not name it
        return RefusedError(404, deployment_not_found(About()))

    def unsupported(self, deployment: Deployment, operation: str) -> RefusedError:
        if operation == "responses":
            return RefusedError(400, azure_error("BadRequest", "Model not supported"))
        message = f"The {operation} operation does not work with the specified model, {deployment.model}."
        return RefusedError(400, azure_error("OperationNotSupported", message))

    def throttled(self, verdict: Verdict, about: About) -> RefusedError:
        body = azure_token_quota if verdict.rule == "Token" else azure_call_quota
        wait = ("retry-after", str(about.wait_s)), ("retry-after-ms", str(math.ceil(verdict.wait_s * 1000)))
        return RefusedError(429, body(about), (*wait, ("policy-id", f"DeploymentRatelimit-{verdict.rule}")))

    def bad_request(self, message: str) -> RefusedError:
        return RefusedError(400, azure_error("BadRequest", message))

    def headers(self, request_id: str, verdict: Verdict | None) -> Headers:
        own = ("apim-request-id", request_id), ("x-request-id", request_id), ("x-ms-region", self._endpoint.region)
        if verdict is None:
            return own
        # Resets are plain seconds here; -1 and 0 stand for what is not tracked, as Azure has been seen to write it.
        return (
            *own,
            ("x-ratelimit-limit-requests", str(_or_unknown(verdict.limit_requests))),
            ("x-ratelimit-remaining-requests", str(verdict.remaining_requests)),
            ("x-ratelimit-reset-requests", str(math.ceil(verdict.reset_requests_s))),
            ("x-ratelimit-limit-tokens", str(_or_unknown(verdict.limit_tokens))),
            ("x-ratelimit-remaining-tokens", str(verdict.remaining_tokens)),
            ("x-ratelimit-reset-tokens", str(math.ceil(verdict.reset_tokens_s))),
        )

    def models(self, target: Target) -> Answer:
        """The models that the resource may deploy, not its deployments."""
        known = sorted({deployment.model for deployment in self._endpoint.deployments})
        return model_list(known, target, resource_not_found(About()))


def _in_version(target: Target) -> bool:
    """Whether this is a dated api-version, and one that has the operation."""
    dated = _DATED.fullmatch(target.api_version)
    if dated is None or dated[1] < _OLDEST:
        return False
    if target.operation in _PREVIEW_ONLY and not dated[2]:
        return False
    return target.operation != "responses" or dated[1] >= _RESPONSES_SINCE


def _or_unknown(limit: int | None) -> int:
    return -1 if limit is None else limit
