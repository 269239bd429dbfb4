"""What all clouds' manners have in common: the paths of OpenAI's API, and what a dialect must say."""

from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import unquote

from router.emulator.answer import Answer, Headers, RefusedError, json_answer
from router.emulator.bodies import About
from router.emulator.quota import Verdict
from router.emulator.received import Request
from router.emulator.settings import Deployment
from router.emulator.stored import Place, place_of

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


@dataclass(frozen=True, slots=True)
class Target:
    """What a path asks for. `deployment` None: the body's `model` names it. `item`: one of the models."""

    operation: str
    deployment: str | None = None
    api_version: str = "v1"
    item: str | None = None
    stored: Place | None = None


class Dialect(Protocol):
    """One provider's manners; refusals are raised as RefusedError."""

    azure: bool

    def check(self, request: Request) -> None:
        """Refuses a wrong credential, and what else is decided before anything is looked at."""

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


def operation_at(method: str, path: str, deployment: str | None, version: str) -> Target | None:
    if method == "POST" and path in PATHS:
        return Target(PATHS[path], deployment, version)
    if method == "GET" and path == "/models":
        return Target(MODELS, None, version)
    if method == "GET" and path.startswith("/models/"):
        return Target(MODELS, None, version, unquote(path.removeprefix("/models/")))
    if (place := place_of(path)) is not None and deployment is None:
        return Target(place.names[0].partition("/")[0], None, version, stored=place)
    return None


def model_list(names: list[str], target: Target, missing: bytes) -> Answer:
    entries = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "system"} for name in names]
    if target.item is None:
        return json_answer({"object": "list", "data": entries})
    for entry in entries:
        if entry["id"] == target.item:
            return json_answer(entry)
    raise RefusedError(404, missing)
