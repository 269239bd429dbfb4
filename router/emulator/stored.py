"""What a fake cloud stores: files, responses, batches and the like, under ids that only it knows.

One dictionary of objects, and verbs by path. Whatever another cloud made is not found here.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from router.emulator.answer import Answer, RefusedError, json_answer
from router.emulator.bodies import openai_error

Fields = Mapping[str, Any]

# By the collection's path: the prefix of its ids, and what its objects are called.
_COLLECTIONS: Final = {
    "conversations": ("conv_", "conversation"),
    "files": ("file-", "file"),
    "uploads": ("upload_", "upload"),
    "batches": ("batch_", "batch"),
    "vector_stores": ("vs_", "vector_store"),
    "containers": ("cntr_", "container"),
    "evals": ("eval_", "eval"),
    "fine_tuning/jobs": ("ftjob-", "fine_tuning.job"),
    "responses": ("resp_", "response"),
    "vector_stores/files": ("", "vector_store.file"),
    "vector_stores/file_batches": ("vsfb_", "vector_store.files_batch"),
    "containers/files": ("cfile_", "container.file"),
    "conversations/items": ("msg_", "message"),
    "uploads/parts": ("part_", "upload.part"),
    "evals/runs": ("evalrun_", "eval.run"),
}
_ACTIONS: Final = frozenset(
    {
        *("content", "cancel", "complete", "search", "pause", "resume", "input_items", "output_items", "events"),
        "checkpoints",
    }
)
_NOT_MADE: Final = frozenset({"responses"})  # by a POST to the collection: a model makes them
OPERATIONS: Final = frozenset({*(name.partition("/")[0] for name in _COLLECTIONS)})


@dataclass(slots=True)
class Thing:
    """One stored object, and what hangs on it."""

    value: dict[str, Any]
    content: bytes = b""
    below: dict[str, dict[str, "Thing"]] = field(default_factory=dict)  # by collection and id


@dataclass(frozen=True, slots=True)
class Place:
    """A path, taken apart: collections and ids in turn, and what is to be done with the last."""

    names: tuple[str, ...]
    ids: tuple[str, ...]
    action: str = ""

    @property
    def kind(self) -> str:
        return "/".join(self.names)


def place_of(path: str) -> Place | None:
    """`path`: behind the cloud's prefix. None for what is nobody's."""
    segments = path.strip("/").split("/")
    if segments[:2] == ["fine_tuning", "jobs"]:
        segments[:2] = ["fine_tuning/jobs"]
    names: list[str] = []
    ids: list[str] = []
    action = ""
    while segments:
        head = segments.pop(0)
        if head in _ACTIONS and len(names) == len(ids) > 0 and not (head == "output_items" and segments):
            action = head
            break
        if len(names) == len(ids):
            names.append(head)
        else:
            ids.append(head)
    place = Place(tuple(names), tuple(ids), action)
    return place if place.kind in _COLLECTIONS and not segments else None


class Store:
    """All that one cloud stores."""

    def __init__(self, rng: random.Random, wall: Callable[[], float]) -> None:
        self._rng, self._wall = rng, wall
        self._things: dict[str, dict[str, Thing]] = {}

    def knows(self, name: str) -> bool:
        return any(name in things for things in self._things.values())

    def check(self, fields: Fields) -> None:
        """Refuses a body that names what is not stored here, as the real ones do."""
        previous = fields.get("previous_response_id")
        if isinstance(previous, str) and previous not in self._of("responses"):
            message = f"Previous response with id '{previous}' not found."
            raise RefusedError(
                400,
                openai_error(message, "invalid_request_error", "previous_response_not_found", "previous_response_id"),
            )
        conversation = fields.get("conversation")
        if isinstance(conversation, dict):
            conversation = conversation.get("id")
        if isinstance(conversation, str):
            self._thing("conversations", conversation)
        for name in _files_in(fields):
            self._thing("files", name)
        for name in _named(fields, "vector_store_ids"):
            self._thing("vector_stores", name)

    def keep_response(self, value: dict[str, Any], given: object) -> None:
        items = given if isinstance(given, list) else [{"type": "message", "role": "user", "content": given}]
        thing = Thing(value)
        self._of("responses")[value["id"]] = thing
        for item in items:
            name = self._id("msg_")
            thing.below.setdefault("input_items", {})[name] = Thing({**item, "id": name})

    def answer(self, method: str, place: Place, query: str, fields: Fields, files: Mapping[str, bytes]) -> Answer:
        """Raises RefusedError."""
        said = dict(parse_qsl(query))
        things, parent = self._collection(place)
        if len(place.ids) < len(place.names):
            if method == "GET":
                return _listed(things, said)
            if method == "POST" and place.kind not in _NOT_MADE:
                return json_answer(self._make(place, parent, fields, files))
            raise _not_allowed(method)
        thing = self._thing_in(things, place.ids[-1], _COLLECTIONS[place.kind][1])
        if place.action:
            return self._act(method, place, thing, fields, said)
        match method:
            case "GET":
                self._age(place, thing)
                return json_answer(thing.value)
            case "DELETE":
                del things[place.ids[-1]]
                name = _COLLECTIONS[place.kind][1]
                called = f"{name}.deleted" if name not in ("file", "response") else name
                return json_answer({"id": place.ids[-1], "object": called, "deleted": True})
            case "POST":
                thing.value |= {name: value for name, value in fields.items() if name in ("name", "metadata")}
                return json_answer(thing.value)
        raise _not_allowed(method)

    def _collection(self, place: Place) -> tuple[dict[str, Thing], Thing | None]:
        things, parent = self._of(place.names[0]), None
        for index, name in enumerate(place.names[1:]):
            parent = self._thing_in(things, place.ids[index], _COLLECTIONS["/".join(place.names[: index + 1])][1])
            things = parent.below.setdefault(name, {})
        return things, parent

    def _make(self, place: Place, parent: Thing | None, fields: Fields, files: Mapping[str, bytes]) -> dict[str, Any]:
        self.check(fields)
        for name in ("input_file_id", "training_file", "validation_file", "file_id"):
            if isinstance(fields.get(name), str):
                self._thing("files", fields[name])
        prefix, called = _COLLECTIONS[place.kind]
        content = next(iter(files.values()), b"")
        name = self._id(prefix) if prefix else str(fields.get("file_id"))
        value: dict[str, Any] = {"id": name, "object": called, "created_at": int(self._wall())}
        value |= {key: inner for key, inner in fields.items() if key not in value}
        value |= self._more(place.kind, value, fields, content)
        thing = Thing(value, content)
        (parent.below.setdefault(place.names[-1], {}) if parent else self._of(place.names[0]))[name] = thing
        if place.kind == "vector_stores":
            for each in fields.get("file_ids") or ():
                thing.below.setdefault("files", {})[each] = Thing(
                    {"id": each, "object": "vector_store.file", "vector_store_id": name, "status": "completed"}
                )
        elif place.kind == "vector_stores/file_batches" and parent is not None:
            for each in fields.get("file_ids") or ():
                in_store = Thing(
                    {
                        "id": each,
                        "object": "vector_store.file",
                        "vector_store_id": parent.value["id"],
                        "status": "completed",
                    }
                )
                parent.below.setdefault("files", {})[each] = thing.below.setdefault("files", {})[each] = in_store
        elif place.kind == "conversations/items":
            made = [self._item(parent, item) for item in fields.get("items") or ()]
            return {"object": "list", "data": made, "has_more": False}
        return value

    def _more(self, kind: str, value: dict[str, Any], fields: Fields, content: bytes) -> dict[str, Any]:
        match kind:
            case "files":
                return {"bytes": len(content), "filename": "file", "status": "processed"}
            case "uploads":
                return {"status": "pending", "expires_at": value["created_at"] + 3600}
            case "batches":
                return {"status": "validating", "output_file_id": None, "error_file_id": None}
            case "vector_stores":
                counts = {"in_progress": 0, "completed": len(fields.get("file_ids") or ()), "failed": 0}
                return {"status": "completed", "usage_bytes": 0, "file_counts": counts}
            case "fine_tuning/jobs":
                return {"status": "queued", "result_files": [], "fine_tuned_model": None}
            case "vector_stores/files" | "vector_stores/file_batches" | "evals/runs":
                return {"status": "completed"}
        return {}

    def _item(self, parent: Thing | None, item: Any) -> dict[str, Any]:
        assert parent is not None
        name = self._id("msg_")
        value = {**item, "id": name, "status": "completed"}
        parent.below.setdefault("items", {})[name] = Thing(value)
        return value

    def _age(self, place: Place, thing: Thing) -> None:
        """Each look finds a batch a step further; at its end it has written a file."""
        if place.kind != "batches":
            return
        value = thing.value
        steps = {"validating": "in_progress", "in_progress": "completed", "cancelling": "cancelled"}
        value["status"] = steps.get(value["status"], value["status"])
        if value["status"] == "completed" and value["output_file_id"] is None:
            lines = self._thing("files", value["input_file_id"]).content.splitlines()
            answers = [
                orjson.dumps({"custom_id": orjson.loads(line).get("custom_id"), "response": {"status_code": 200}})
                for line in lines
                if line.strip()
            ]
            value["output_file_id"] = self._write(b"\n".join(answers), "batch_output")

    def _act(self, method: str, place: Place, thing: Thing, fields: Fields, said: Mapping[str, str]) -> Answer:
        value = thing.value
        match place.action:
            case "content" if method == "GET":
                return Answer(200, "application/octet-stream", thing.content)
            case "cancel" if method == "POST":
                value["status"] = "cancelling" if place.kind == "batches" else "cancelled"
                return json_answer(value)
            case "pause" | "resume" if method == "POST":
                value["status"] = "paused" if place.action == "pause" else "running"
                return json_answer(value)
            case "complete" if method == "POST":
                parts = thing.below.get("parts", {})
                data = b"".join(self._thing_in(parts, name, "part").content for name in fields.get("part_ids") or ())
                value |= {"status": "completed"}
                made = self._write(data, str(value.get("purpose", "assistants")))
                return json_answer({**value, "file": self._thing("files", made).value})
            case "search" if method == "POST":
                found = [
                    {"file_id": name, "filename": "file", "score": 1.0, "attributes": {}, "content": []}
                    for name in thing.below.get("files", {})
                ]
                page = {"object": "vector_store.search_results.page", "search_query": [fields.get("query")]}
                return json_answer({**page, "data": found, "has_more": False, "next_page": None})
            case "input_items" | "output_items" | "events" | "checkpoints" if method == "GET":
                return _listed(thing.below.get(place.action, {}), said)
        raise _not_allowed(method)

    def _write(self, content: bytes, purpose: str) -> str:
        name = self._id("file-")
        value = {
            "id": name,
            "object": "file",
            "created_at": int(self._wall()),
            "filename": "file",
            "status": "processed",
        }
        self._of("files")[name] = Thing({**value, "bytes": len(content), "purpose": purpose}, content)
        return name

    def _of(self, collection: str) -> dict[str, Thing]:
        return self._things.setdefault(collection, {})

    def _thing(self, collection: str, name: str) -> Thing:
        return self._thing_in(self._of(collection), name, _COLLECTIONS[collection][1])

    def _thing_in(self, things: Mapping[str, Thing], name: str, called: str) -> Thing:
        if name not in things:
            message = f"No such {called} object: {name}"
            raise RefusedError(404, openai_error(message, "invalid_request_error", None, "id"))
        return things[name]

    def _id(self, prefix: str) -> str:
        return f"{prefix}{self._rng.getrandbits(96):024x}"


def _listed(things: Mapping[str, Thing], said: Mapping[str, str]) -> Answer:
    values = [thing.value for thing in things.values()]
    if said.get("order", "desc") == "desc":
        values.reverse()
    if "purpose" in said:
        values = [value for value in values if value.get("purpose") == said["purpose"]]
    names = [value["id"] for value in values]
    start = names.index(said["after"]) + 1 if said.get("after") in names else 0
    limit = int(said.get("limit", "20"))
    page = values[start : start + limit]
    return json_answer(
        {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": start + limit < len(values),
        }
    )


def _files_in(value: object) -> list[str]:
    return [*_named(value, "file_id"), *_named(value, "file_ids")]


def _named(value: object, name: str) -> list[str]:
    """The texts under a name, at any depth."""
    if isinstance(value, list):
        return [text for inner in value for text in _named(inner, name)]
    if not isinstance(value, dict):
        return []
    own = value.get(name)
    texts = own if isinstance(own, list) else [own]
    found = [text for text in texts if isinstance(text, str)]
    return found + [text for key, inner in value.items() if key != "metadata" for text in _named(inner, name)]


def _not_allowed(method: str) -> RefusedError:
    return RefusedError(405, openai_error(f"Not allowed method: {method}", "invalid_request_error", None))
