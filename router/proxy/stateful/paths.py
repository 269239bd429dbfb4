"""From a path to what it names of what is stored: a tree of the table's paths."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from router.model.stored import Route, routes

# All that the clouds' ids are made of, and nothing that could lead a path elsewhere.
_ID: Final = re.compile(r"[A-Za-z0-9_~:-][A-Za-z0-9_.~:-]{0,255}", re.ASCII)
_ANY_ID: Final = "{}"


@dataclass(frozen=True, slots=True)
class Stored:
    """One request for what is stored: its route, and the ids of its path in their order. The first one has the home."""

    route: Route
    ids: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """As an endpoint serves it, behind its own prefix."""
        return self.route.path.format(*self.ids)


class _Place:
    """One segment of the table's paths."""

    def __init__(self) -> None:
        self.below: dict[str, _Place] = {}
        self.routes: dict[str, Route] = {}  # by method


def _tree() -> _Place:
    root = _Place()
    for route in routes():
        place = root
        for segment in route.path[1:].split("/"):
            place = place.below.setdefault(segment, _Place())
        place.routes[route.method] = route
    return root


_ROOT: Final = _tree()


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def find_stored(path: bytes) -> Mapping[str, Stored]:
    """What a path (behind the family's prefix) stands for, by method; empty where the table has no such path."""
    place, ids = _ROOT, []
    for segment in path[1:].decode("latin-1").split("/"):
        inner = place.below.get(segment)
        if inner is None or segment == _ANY_ID:
            inner = place.below.get(_ANY_ID)
            if inner is None or not is_id(segment):
                return {}
            ids.append(segment)
        place = inner
    return {method: Stored(route, tuple(ids)) for method, route in place.routes.items()}
