"""Single rules of placement, from their section: which keys each one takes, and which clouds it may name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from router.config.clouds import Hosts
from router.config.document import Document
from router.config.faults import Path, suggest
from router.config.schema import PlacementSection
from router.config.words import check_choice
from router.model.policy import Policy, Prefer
from router.placement import Exclusive, FirstRefusal, Rule, Spread

_PREFERENCES: Final = tuple(prefer.value for prefer in Prefer)
_TAKES: Final[Mapping[str, tuple[str, ...]]] = {
    "exclusive": ("cloud",),
    "first_refusal": ("holder", "then", "holder_attempts"),
    "spread": ("clouds",),
}
_OF_RULES: Final = tuple(key for keys in _TAKES.values() for key in keys)


def kinds_in(section: PlacementSection) -> set[str]:
    """The rules of a section, with those that hold outside of its window."""
    return {section.rule} | (kinds_in(section.then_rule) if section.then_rule is not None else set())


def read_rule(doc: Document, path: Path, section: PlacementSection, hosts: Hosts) -> Rule | None:
    """The rule of a section, its window left aside; None where it cannot be told."""
    if not check_choice(doc, (*path, "rule"), section.rule, tuple(_TAKES)):
        return None
    takes = _TAKES[section.rule]
    for key in _OF_RULES:
        if key not in takes and getattr(section, key) is not None:
            wanted = " and ".join(f"`{each}`" for each in takes[:2])
            doc.fault((*path, key), f"says nothing to the rule {section.rule}, which takes {wanted}")
    prefer = Prefer.BALANCED
    if section.prefer is not None and check_choice(doc, (*path, "prefer"), section.prefer, _PREFERENCES):
        prefer = Prefer(section.prefer)
    return _RULES[section.rule](doc, path, section, hosts, prefer)


def _exclusive(doc: Document, path: Path, section: PlacementSection, hosts: Hosts, prefer: Prefer) -> Rule | None:
    if section.cloud is None:
        _missing(doc, path, "cloud", "the one that exclusive means")
        return None
    return Exclusive(section.cloud, prefer) if _known(doc, (*path, "cloud"), section.cloud, hosts) else None


def _spread(doc: Document, path: Path, section: PlacementSection, hosts: Hosts, prefer: Prefer) -> Rule | None:
    if section.clouds is None:
        _missing(doc, path, "clouds", "those that spread means")
        return None
    if len(set(section.clouds)) != len(section.clouds):
        doc.fault((*path, "clouds"), "names a cloud twice")
    known = [_known(doc, (*path, "clouds", index), cloud, hosts) for index, cloud in enumerate(section.clouds)]
    return Spread(tuple(section.clouds), prefer) if all(known) else None


def _first_refusal(doc: Document, path: Path, section: PlacementSection, hosts: Hosts, prefer: Prefer) -> Rule | None:
    if section.holder is None:
        _missing(doc, path, "holder", "the cloud that each request is offered to first")
    if section.then is None:
        _missing(doc, path, "then", "the clouds that serve what the holder refuses")
    if section.holder is None or section.then is None:
        return None
    named = dict(_named((*path, "then"), section.then))
    if section.holder in named.values():
        doc.fault((*path, "then"), f"names {section.holder}, which is the holder and comes first")
    elif len(set(named.values())) != len(named):
        doc.fault((*path, "then"), "names a cloud twice")
    known = [_known(doc, (*path, "holder"), section.holder, hosts)]
    known += [_known(doc, place, cloud, hosts) for place, cloud in named.items()]
    if not all(known):
        return None
    then = tuple((entry,) if isinstance(entry, str) else tuple(entry) for entry in section.then)
    attempts = section.holder_attempts if section.holder_attempts is not None else Policy().holder_attempts
    return FirstRefusal(section.holder, then, attempts, prefer)


_RULES: Final[Mapping[str, Callable[[Document, Path, PlacementSection, Hosts, Prefer], Rule | None]]] = {
    "exclusive": _exclusive,
    "first_refusal": _first_refusal,
    "spread": _spread,
}


def _named(path: Path, then: Sequence[str | list[str]]) -> Iterator[tuple[Path, str]]:
    """Each cloud of `then` with its place in the file."""
    for index, entry in enumerate(then):
        if isinstance(entry, str):
            yield (*path, index), entry
        else:
            yield from (((*path, index, place), cloud) for place, cloud in enumerate(entry))


def _missing(doc: Document, path: Path, key: str, what: str) -> None:
    if not doc.has_fault((*path, key)):
        doc.fault(path, f"needs `{key}`: {what}")


def _known(doc: Document, path: Path, cloud: str, hosts: Hosts) -> bool:
    if cloud in hosts:
        return True
    hint = suggest(cloud, hosts) if doc.literal(path) else ""
    doc.fault(path, f"{doc.shown(path)} is no cloud of this file{hint}")
    return False
