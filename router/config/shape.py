"""Holds a document's tree against the schema: every fault of shape, and whatever is sound for the checks after it.

pydantic's own messages may quote the input, which may be a secret: messages are made here from the kind of the
error and its place alone.
"""

import copy
import typing
from typing import Any, Final, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from router.config.document import Document, Tree
from router.config.faults import Path, listed, suggest
from router.config.schema import File, Section

S = TypeVar("S", bound=Section)

_MUST_BE: Final = {
    "string_type": "must be text: put it in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "list_type": "must be a list",
    "string_too_short": "is empty",
    "too_short": "lists nothing",
    "finite_number": "must be a finite number",
    "missing": "is missing",
}
_ROUNDS_MAX: Final = 20  # each one prunes at least one level of the tree: six, and one more for each rule in a rule
_OWN_WORDS: Final = frozenset(
    {"auth", "distribution", "tiers", "after_ms", "shadow", "digests"}
)  # kinds that the schema names itself


def check_shape(doc: Document) -> tuple[File | None, set[str]]:
    """Names the faults of shape in `doc`. Returns what is sound of the file, and the sections that lost something."""
    if not isinstance(doc.tree, dict):
        return None, set()
    tree = copy.deepcopy(doc.tree)
    # Optional in the schema, so that the rest of a file without them is checked too.
    lost = {"endpoints", "workloads"}.difference(tree)
    for needed in sorted(lost):
        doc.fault((needed,), "is missing")
    for number in range(_ROUNDS_MAX):
        try:
            return File.model_validate(tree), lost
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False, include_context=True)
        for detail in errors:
            if number == 0:  # what later rounds find was caused by the pruning
                doc.fault(detail["loc"], _message(doc, detail))
            lost.add(str(detail["loc"][0]))
            _prune(tree, detail["loc"], missing=detail["type"] == "missing")
    return None, lost


def check_section(doc: Document, kind: type[S], tree: Tree, path: Path) -> S | None:
    """One section that does not stand in the file: sound, or None with its faults, as they would be named there."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False, include_context=True):
            detail["loc"] = (*path, *detail["loc"])
            doc.fault(detail["loc"], _message(doc, detail))
    return None


def _message(doc: Document, detail: ErrorDetails) -> str:
    kind, context, path = detail["type"], detail.get("ctx", {}), detail["loc"]
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind in _MUST_BE:
        return _MUST_BE[kind]
    if kind == "literal_error":
        allowed = [str(word) for word in _literals(path)]
        return f"{doc.shown(path)} is not {listed(allowed)}"
    if kind in {"greater_than", "greater_than_equal"}:
        return f"must be {'above' if kind == 'greater_than' else 'at least'} {context.get('gt', context.get('ge'))}"
    if kind == "less_than_equal":
        return f"must be at most {context['le']:g}"
    if kind == "size":
        return f"{doc.shown(path)} {detail['msg']}"
    if kind in _OWN_WORDS:
        return detail["msg"]
    return "is not what belongs here"


def _unknown_key(path: Path) -> str:
    section = _schema_at(path[:-1])
    if not (isinstance(section, type) and issubclass(section, Section)):
        return "is not a known key"
    if path[-1] in section.later:
        return "is not in this version yet: it would not act, so the file is refused"
    return f"is not a known key{suggest(str(path[-1]), keys_of(section))}"


def keys_of(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of a section as they stand in the file, which may be words that Python keeps for itself."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _literals(path: Path) -> tuple[object, ...]:
    return typing.get_args(_schema_at(path))


def _schema_at(path: Path) -> Any:
    """The type that the schema has at a path."""
    here: Any = File
    for part in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            here = keys_of(here)[str(part)].annotation
        else:
            here = typing.get_args(here)[-1]  # of a dict its values, of a list its items
        while typing.get_origin(here) is typing.Annotated or type(None) in typing.get_args(here):
            here = typing.get_args(here)[0]
    return here


def _prune(tree: Tree, path: Path, *, missing: bool) -> None:
    """Takes out what is unsound, so that the rest can still be checked. Items of lists keep their index."""
    if missing:
        path = path[:-1]
    holder: Any = tree
    for depth, part in enumerate(path):
        try:
            child = holder[part]
        except (KeyError, IndexError, TypeError):
            return  # went with an earlier fault
        last = depth == len(path) - 1
        if not last and isinstance(child, list) and not isinstance(child[cast(int, path[depth + 1])], dict):
            last = True  # of a list of words nothing is kept
        if last:
            if isinstance(part, int):
                holder[part] = None
            else:
                del holder[part]
            return
        holder = child
