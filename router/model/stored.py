"""What endpoints store under ids of their own: files, responses, batches and the like, and the paths that lead there.

One table for all of them. An id lives at the endpoint that made it, its *home*, and belongs to the key that asked for
it. What stands below another id (a part, a run, an item) has that one's home.
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import msgspec

from router.model.operation import BodyKind, Ending, Operation

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Home(msgspec.Struct, frozen=True, tag_field="is", tag="home", omit_defaults=True):
    """Where one id lives, and whose it is. It is written down before the id reaches the client."""

    key: str  # the name, which outlives a rotation
    id: str
    kind: str
    endpoint: str  # empty: it has none any more, since it was deleted
    workload: str = ""
    at: float = 0.0  # wall seconds: when it was first seen


class OwnHomes(msgspec.Struct, frozen=True, array_like=True):
    """A question for a page of a key's own ids of one kind, in the order in which they were first seen."""

    key: str
    kind: str
    limit: int
    descending: bool = True
    after: str = ""  # an id: what comes behind it
    before: str = ""  # an id: the last ones before it


class HomePage(msgspec.Struct, frozen=True, array_like=True):
    """The answer. `known`: its cursor was one of the key's own."""

    homes: list[Home] = []
    known: bool = True


class Effect(enum.Enum):
    """What a request does to what is stored."""

    SHOW = "show"
    MAKE = "make"  # the answer's `id` is a new one
    CHANGE = "change"  # what it makes, if anything, stands below what it names
    END = "end"  # what it names is no more
    LIST = "list"  # the key's own


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """One collection of stored things. `name` stands in configuration, logs and metrics.

    `finds`: fields of its objects that hold ids of the key's own, and their kinds. `filters`: fields that a list may be
    narrowed by. `fleeting`: the endpoint itself forgets it after a while. `all_models`: it uses models that the router
    does not see.
    """

    name: str
    kind: str
    path: str
    finds: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    filters: tuple[str, ...] = ()
    fleeting: bool = False
    all_models: bool = False

    @property
    def operation(self) -> Operation:
        """As records and plans name it."""
        return Operation(self.name, self.path, BodyKind.JSON, Ending.FRAMING, deployment_scoped=False)


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One method on one path of a resource; `{}` in the path is an id."""

    resource: Resource
    method: str
    path: str
    effect: Effect

    @property
    def asks_body(self) -> bool:
        return self.method == "POST"


RESPONSES: Final = Resource("responses", "response", "/responses", fleeting=True)
CONVERSATIONS: Final = Resource("conversations", "conversation", "/conversations")
FILES: Final = Resource("files", "file", "/files", filters=("purpose",))
UPLOADS: Final = Resource("uploads", "upload", "/uploads", MappingProxyType({"file": "file"}), fleeting=True)
BATCHES: Final = Resource(
    *("batches", "batch", "/batches", MappingProxyType({"output_file_id": "file", "error_file_id": "file"})),
    all_models=True,
)
VECTOR_STORES: Final = Resource("vector_stores", "vector_store", "/vector_stores")
CONTAINERS: Final = Resource("containers", "container", "/containers", filters=("name",), fleeting=True)
EVALS: Final = Resource("evals", "eval", "/evals", all_models=True)
FINE_TUNING: Final = Resource(
    *("fine_tuning", "fine_tuning_job", "/fine_tuning/jobs", MappingProxyType({"result_files": "file"})),
    all_models=True,
)

RESOURCES: Final[Mapping[str, Resource]] = MappingProxyType(
    {
        resource.name: resource
        for resource in (
            RESPONSES,
            CONVERSATIONS,
            FILES,
            UPLOADS,
            BATCHES,
            VECTOR_STORES,
            CONTAINERS,
            EVALS,
            FINE_TUNING,
        )
    }
)
FLEETING_KINDS: Final = tuple(resource.kind for resource in RESOURCES.values() if resource.fleeting)

_MAKE, _LIST, _SHOW, _CHANGE, _END = Effect.MAKE, Effect.LIST, Effect.SHOW, Effect.CHANGE, Effect.END

# By resource: method, what follows the resource's own path, and what it does. To make a response is an operation of a
# model, and not here.
_ROUTES: Final[Mapping[Resource, tuple[tuple[str, str, Effect], ...]]] = MappingProxyType(
    {
        RESPONSES: (
            ("GET", "/{}", _SHOW),
            ("DELETE", "/{}", _END),
            ("POST", "/{}/cancel", _CHANGE),
            ("GET", "/{}/input_items", _SHOW),
        ),
        CONVERSATIONS: (
            ("POST", "", _MAKE),
            ("GET", "/{}", _SHOW),
            ("POST", "/{}", _CHANGE),
            ("DELETE", "/{}", _END),
            ("GET", "/{}/items", _SHOW),
            ("POST", "/{}/items", _CHANGE),
            ("GET", "/{}/items/{}", _SHOW),
            ("DELETE", "/{}/items/{}", _CHANGE),
        ),
        FILES: (
            ("POST", "", _MAKE),
            ("GET", "", _LIST),
            ("GET", "/{}", _SHOW),
            ("DELETE", "/{}", _END),
            ("GET", "/{}/content", _SHOW),
        ),
        UPLOADS: (
            ("POST", "", _MAKE),
            ("POST", "/{}/parts", _CHANGE),
            ("POST", "/{}/complete", _CHANGE),
            ("POST", "/{}/cancel", _CHANGE),
        ),
        BATCHES: (
            ("POST", "", _MAKE),
            ("GET", "", _LIST),
            ("GET", "/{}", _SHOW),
            ("POST", "/{}/cancel", _CHANGE),
        ),
        VECTOR_STORES: (
            ("POST", "", _MAKE),
            ("GET", "", _LIST),
            ("GET", "/{}", _SHOW),
            ("POST", "/{}", _CHANGE),
            ("DELETE", "/{}", _END),
            ("POST", "/{}/search", _SHOW),
            ("GET", "/{}/files", _SHOW),
            ("POST", "/{}/files", _CHANGE),
            ("GET", "/{}/files/{}", _SHOW),
            ("POST", "/{}/files/{}", _CHANGE),
            ("DELETE", "/{}/files/{}", _CHANGE),
            ("GET", "/{}/files/{}/content", _SHOW),
            ("POST", "/{}/file_batches", _CHANGE),
            ("GET", "/{}/file_batches/{}", _SHOW),
            ("POST", "/{}/file_batches/{}/cancel", _CHANGE),
            ("GET", "/{}/file_batches/{}/files", _SHOW),
        ),
        CONTAINERS: (
            ("POST", "", _MAKE),
            ("GET", "", _LIST),
            ("GET", "/{}", _SHOW),
            ("DELETE", "/{}", _END),
            ("GET", "/{}/files", _SHOW),
            ("POST", "/{}/files", _CHANGE),
            ("GET", "/{}/files/{}", _SHOW),
            ("DELETE", "/{}/files/{}", _CHANGE),
            ("GET", "/{}/files/{}/content", _SHOW),
        ),
        EVALS: (
            ("POST", "", _MAKE),
            ("GET", "", _LIST),
            ("GET", "/{}", _SHOW),
            ("POST", "/{}", _CHANGE),
            ("DELETE", "/{}", _END),
            ("GET", "/{}/runs", _SHOW),
            ("POST", "/{}/runs", _CHANGE),
            ("GET", "/{}/runs/{}", _SHOW),
            ("POST", "/{}/runs/{}", _CHANGE),
            ("DELETE", "/{}/runs/{}", _CHANGE),
            ("GET", "/{}/runs/{}/output_items", _SHOW),
            ("GET", "/{}/runs/{}/output_items/{}", _SHOW),
        ),
        FINE_TUNING: (
            ("POST", "", _MAKE),
            ("GET", "", _LIST),
            ("GET", "/{}", _SHOW),
            ("POST", "/{}/cancel", _CHANGE),
            ("POST", "/{}/pause", _CHANGE),
            ("POST", "/{}/resume", _CHANGE),
            ("GET", "/{}/events", _SHOW),
            ("GET", "/{}/checkpoints", _SHOW),
        ),
    }
)


def routes() -> Iterator[Route]:
    """All of them."""
    for resource, lines in _ROUTES.items():
        for method, rest, effect in lines:
            yield Route(resource, method, resource.path + rest, effect)
