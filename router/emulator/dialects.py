"""How a cloud reads paths and credentials, and the shape of its refusals and headers: Azure's and OpenAI's."""

import math
import re
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import parse_qs, unquote

from router.emulator.answer import Answer, Headers, RefusedError, json_answer
from router.emulator.bodies import (
    About,
    azure_call_quota,
    azure_error,
    azure_token_quota,
    deployment_not_found,
    error_body,
    invalid_openai_key,
    openai_error,
    resource_not_found,
    unauthorized,
    unauthorized_token,
)
from router.emulator.quota import Verdict
from router.emulator.received import Request
from router.emulator.settings import Deployment, Endpoint

MODELS: Final = "models"

PATHS: Final = {
    "/chat/completions": "chat",
    "/completions": "completions",
    "/embeddings": "embeddings",
    "/responses": "responses",
    "/images/generations": "images_generations",
    "/images/edits": "images_edits",
    "/audio/speech": "speech",
    "/audio/transcriptions": "transcriptions",
    "/audio/translations": "translations",
    "/moderations": "moderations",
}
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


@dataclass(frozen=True, slots=True)
class Target:
    """What a path asks for. `deployment` None: the body's `model` names it. `item`: one of the models."""

    operation: str
    deployment: str | None = None
    api_version: str = "v1"
    item: str | None = None


class Dialect(Protocol):
    """One provider's manners; refusals are raised as RefusedError."""

    azure: bool

    def check_head(self, request: Request) -> None:
        """Refuses a wrong credential, and what else the head alone decides."""

    def target(self, request: Request) -> Target: ...

    def check_fields(self, target: Target, fields: dict[str, object]) -> None:
        """Refuses fields that this version does not know."""

    def unknown_deployment(self, name: str) -> RefusedError: ...

    def unsupported(self, deployment: Deployment, operation: str) -> RefusedError: ...

    def throttled(self, verdict: Verdict, about: About) -> RefusedError: ...

    def bad_request(self, message: str) -> RefusedError: ...

    def headers(self, request_id: str, verdict: Verdict | None) -> Headers:
        """What every answer carries."""

    def models(self, target: Target) -> Answer: ...


def dialect_of(endpoint: Endpoint) -> Dialect:
    return AzureDialect(endpoint) if endpoint.dialect == "azure_openai" else OpenAIDialect(endpoint)


def _credentials(request: Request) -> list[str]:
    found = [value for name, value in request.headers if name == "api-key"]
    bearer = request.header("authorization") or ""
    return [*found, bearer[7:]] if bearer[:7].lower() == "bearer " else found


class AzureDialect:
    """An Azure OpenAI resource, in the classic shape (api-version in the query) and in v1."""

    azure = True

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def check_head(self, request: Request) -> None:
        if sum(name not in _STANDARD_HEADERS for name, _ in request.headers) > _CUSTOM_HEADERS_MAX:
            raise RefusedError(431, error_body(None, 431, About())[1])
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
            found = _operation(request.method, path.removeprefix("/openai/v1"), None, "v1")
        else:
            found = self._classic_target(request.method, path, version)
        if found is None or found.operation == "moderations":
            raise RefusedError(404, resource_not_found(About()))
        return found

    def _classic_target(self, method: str, path: str, version: str) -> Target | None:
        found = None
        if path.startswith("/openai/deployments/"):
            name, slash, rest = path.removeprefix("/openai/deployments/").partition("/")
            found = _operation(method, slash + rest, unquote(name), version)
            found = None if found and found.operation in ("responses", MODELS) else found
        elif path.startswith("/openai/"):
            found = _operation(method, path.removeprefix("/openai"), None, version)
            found = found if found and found.operation in ("responses", MODELS) else None
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
        return _model_list(known, target, resource_not_found(About()))


class OpenAIDialect:
    """A server that speaks OpenAI's API under `path`, with bearer keys."""

    azure = False

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def check_head(self, request: Request) -> None:
        key = self._endpoint.key
        given = request.header("authorization") or ""
        if key is not None and given != f"Bearer {key}":
            raise RefusedError(401, invalid_openai_key(About()))

    def target(self, request: Request) -> Target:
        path = request.path
        if path.startswith(self._endpoint.path + "/"):
            found = _operation(request.method, path.removeprefix(self._endpoint.path), None, "v1")
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
        return _model_list([deployment.name for deployment in self._endpoint.deployments], target, missing)


def _operation(method: str, path: str, deployment: str | None, version: str) -> Target | None:
    if method == "POST" and path in PATHS:
        return Target(PATHS[path], deployment, version)
    if method == "GET" and path == "/models":
        return Target(MODELS, None, version)
    if method == "GET" and path.startswith("/models/"):
        return Target(MODELS, None, version, unquote(path.removeprefix("/models/")))
    return None


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


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 12ms, 1.5s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:.3g}s"


def _model_list(names: list[str], target: Target, missing: bytes) -> Answer:
    entries = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "system"} for name in names]
    if target.item is None:
        return json_answer({"object": "list", "data": entries})
    for entry in entries:
        if entry["id"] == target.item:
            return json_answer(entry)
    raise RefusedError(404, missing)
