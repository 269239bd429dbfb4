"""Azure OpenAI: the classic shape with a dated api-version, and the v1 shape."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Final

from router.model.fleet import AuthKind, Deployment, Endpoint
from router.model.operation import REALTIME, Operation
from router.providers.dialect import Judgement, Route
from router.providers.faults import judge_answer, judge_event
from router.providers.targets import encode_path, encode_segment

_DATED: Final = re.compile(r"(\d{4}-\d{2}-\d{2})(-preview)?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class ApiVersion:
    """A dated api-version. In order of date; a preview comes before the stable version of its date."""

    date: str
    stable: bool

    @classmethod
    def parse(cls, text: str) -> "ApiVersion | None":
        """Returns None for text that is no dated version."""
        match = _DATED.fullmatch(text)
        return cls(match[1], stable=match[2] is None) if match else None


@dataclass(frozen=True, slots=True)
class Surface:
    """Since when the classic shape has an operation, and what the v1 shape needs in its query to have it."""

    since: ApiVersion
    previews_only: bool = False  # no dated stable version has it, however late
    v1_query: bytes = b""


def _preview(date: str) -> ApiVersion:
    return ApiVersion(date, stable=False)


_PREVIEW_QUERY: Final = b"?api-version=preview"
_NEVER: Final = _preview("9999-12-31")  # the v1 shape alone has it

# Dates from Microsoft's lists of what each api-version added. No version of Azure has moderations.
SURFACES: Final[Mapping[str, Surface]] = MappingProxyType(
    {
        "chat": Surface(_preview("2023-03-15")),
        "completions": Surface(_preview("2022-03-01")),
        "embeddings": Surface(_preview("2022-03-01")),
        "responses": Surface(_preview("2025-03-01")),
        "images_generations": Surface(_preview("2023-12-01"), v1_query=_PREVIEW_QUERY),
        "images_edits": Surface(_preview("2025-04-01"), previews_only=True, v1_query=_PREVIEW_QUERY),
        "speech": Surface(_preview("2024-02-15"), previews_only=True, v1_query=_PREVIEW_QUERY),
        "transcriptions": Surface(_preview("2023-09-01"), v1_query=_PREVIEW_QUERY),
        "translations": Surface(_preview("2023-09-01"), v1_query=_PREVIEW_QUERY),
        "realtime": Surface(_preview("2024-10-01"), previews_only=True),
        "responses_websocket": Surface(_NEVER),
    }
)
USAGE_OPTION_SINCE: Final = _preview("2024-09-01")


class AzureOpenAI:
    """An endpoint is a resource; its `api_version` is `v1` or a dated one."""

    identities: ClassVar[frozenset[AuthKind]] = frozenset({AuthKind.API_KEY, AuthKind.BEARER, AuthKind.ENTRA})

    def route(self, deployment: Deployment, operation: Operation) -> Route | None:
        surface = SURFACES.get(operation.name)
        if surface is None:
            return None
        endpoint = deployment.endpoint
        prefix = _prefix(endpoint)
        path = operation.path.encode()
        name = encode_segment(deployment.name)
        if endpoint.api_version == "v1":
            if operation is REALTIME:  # has no body: the query names the deployment
                return Route(prefix + b"/v1" + path + b"?model=" + name, False, False, needs_done=False)
            return Route(prefix + b"/v1" + path + surface.v1_query, True, operation.asks_usage, needs_done=True)
        version = ApiVersion.parse(endpoint.api_version)
        if version is None or version < surface.since or (version.stable and surface.previews_only):
            return None
        query = b"?api-version=" + endpoint.api_version.encode()
        usage_option = operation.asks_usage and version >= USAGE_OPTION_SINCE
        if operation is REALTIME:
            return Route(prefix + path + query + b"&deployment=" + name, False, False, needs_done=False)
        if operation.deployment_scoped:
            path = b"/deployments/" + name + path
        return Route(prefix + path + query, not operation.deployment_scoped, usage_option, needs_done=True)

    def stored_under(self, endpoint: Endpoint) -> tuple[bytes, bytes]:
        if endpoint.api_version == "v1":
            return _prefix(endpoint) + b"/v1", b""
        return _prefix(endpoint), b"api-version=" + endpoint.api_version.encode()

    def judge(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Judgement:
        return judge_answer(status, headers, body)

    def judge_event(self, error: object) -> Judgement:
        return judge_event(error)


def _prefix(endpoint: Endpoint) -> bytes:
    # People paste the base URL of the SDKs too: it is the same resource.
    return encode_path(endpoint.base_url.path.removesuffix("/openai/v1").removesuffix("/openai")) + b"/openai"
