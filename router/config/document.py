"""A YAML file as a plain tree, with the line of every key, and its references resolved.

Reads nodes instead of loading objects: only so can all duplicate keys be named at once, dates stay the text that
they are as an api-version, and each value keep the form in which it was written.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Final, TypeAlias, cast

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from router.base.references import ReferenceMissingError, resolve_reference
from router.config.faults import Fault, Path, dotted
from router.config.snapshot import Source

Tree: TypeAlias = "dict[str, Tree] | list[Tree] | str | int | float | bool | None"

_TAG: Final = "tag:yaml.org,2002:"
_TEXT_TAGS: Final = (f"{_TAG}str", f"{_TAG}timestamp")
_PLAIN_TAGS: Final = (f"{_TAG}int", f"{_TAG}float", f"{_TAG}bool")
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SHOWN_MAX: Final = 80


class Document:
    """One configuration file while it is being checked: its tree, and the faults found so far."""

    def __init__(
        self, file: str, environ: Mapping[str, str], source: Source | None = None, cores: int | None = None
    ) -> None:
        """`source`: is read instead of the file, and neither the environment nor another file is asked anything.

        `cores`: that count; left out, those that this process may run on.
        """
        self.file = file
        self.cores = source.cores if source is not None else cores or _usable_cores()
        self.faults: list[Fault] = []
        self.tree: Tree = None
        self._environ, self._given = environ, source
        self._text = ""
        self._references: dict[str, str] = {}
        self._files: dict[str, str] = {}
        self._base = FilePath(file).parent
        self._lines: dict[Path, int] = {}
        self._written: dict[Path, str] = {}
        self._yaml = YAML(typ="safe", pure=True)
        self._unresolved: set[Path] = set()  # have their fault: what else is wrong with them is only its echo
        self._open: set[int] = set()  # nodes being walked: an alias to one of them has no end

    def read(self) -> None:
        """Reads the file into `tree`; what stands in the way becomes a fault."""
        if self._given is not None and self._given.form:
            return self._take_form(self._given)
        try:
            text = self._text = self._given.text if self._given is not None else _read(self.file)
        except OSError as error:
            return self.fault((), f"cannot be read ({error.strerror})")
        except UnicodeDecodeError:
            return self.fault((), "is not UTF-8 text")
        try:
            self._parse(text)
        finally:
            vars(self._yaml).clear()  # its parts hold each other, and the collector may not come for hours
        return None

    def _parse(self, text: str) -> None:
        try:
            root = self._yaml.compose(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark is not None else 0
            self.faults.append(Fault(self.file, line, "", f"is not valid YAML: {error.problem or error.context}"))
        except YAMLError as error:
            line = text.count("\n", 0, getattr(error, "position", 0)) + 1
            self.faults.append(Fault(self.file, line, "", "is not valid YAML: a character that is not allowed"))
        except RecursionError:
            self.faults.append(Fault(self.file, 0, "", "is nested too deeply"))
        else:
            self._lines[()] = 1
            if root is None:
                self.fault((), "is empty")
                return
            self.tree = self._walk(root, ())
            if not isinstance(self.tree, dict):
                self.fault((), "must be a mapping at its top: `server:`, `endpoints:`, `workloads:` …")

    def source(self) -> Source:
        """What was read, references and files included."""
        return Source(self._text, self._references, self.cores, self._files, self._form())

    def _form(self) -> bytes:
        """Reading YAML is most of the work of a load, and whoever is handed this need not do it again."""
        if self.faults:
            return b""  # it is handed to nobody
        return msgspec.msgpack.encode((self.tree, list(self._lines.items()), list(self._written.items())))

    def _take_form(self, given: Source) -> None:
        self.tree, lines, written = msgspec.msgpack.decode(given.form)
        self._text, self._references = given.text, dict(given.references)
        self._lines = {tuple(path): line for path, line in lines}
        self._written = {tuple(path): text for path, text in written}

    def read_file(self, path: Path, written: str) -> str | None:
        """What another file holds that is named at `path`, relative to this one; None, with a fault, where it cannot
        be read. It goes on in `source`: whoever is handed that sees the same, whatever becomes of the file.
        """
        if self._given is not None and written in self._given.files:
            text = self._given.files[written]
        else:
            try:
                text = _read(str(self._base / written))
            except OSError as error:
                self.fault(path, f"is a file that cannot be read ({error.strerror})")
                return None
            except UnicodeDecodeError:
                self.fault(path, "is a file that is not text")
                return None
        self._files[written] = text
        return text

    def take(self, tree: Tree, path: Path) -> None:
        """Values that stand in no file, so that messages may show them as if they did."""
        if isinstance(tree, dict):
            for key, value in tree.items():
                self.take(value, (*path, key))
        elif isinstance(tree, list):
            for index, value in enumerate(tree):
                self.take(value, (*path, index))
        else:
            self._written[path] = str(tree)

    def fault(self, path: Path, message: str) -> None:
        """Records a fault at `path`, or at the nearest place above it that the file has."""
        if path in self._unresolved:
            return
        known = path
        while known and known not in self._lines:
            known = known[:-1]
        self.faults.append(Fault(self.file, self._lines.get(known, 0), dotted(path), message))

    def has_fault(self, path: Path) -> bool:
        """Whether the value at `path`, or a part of it, has a fault already, so that what is left of it says little."""
        here = dotted(path)
        return any(fault.path == here or fault.path.startswith((f"{here}.", f"{here}[")) for fault in self.faults)

    def shown(self, path: Path) -> str:
        """A value as it stands in the file, for a message: references unresolved, so it shows no secret of theirs."""
        text = self._written.get(path, "")
        return repr(text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…")

    def literal(self, path: Path) -> bool:
        """Whether the value at `path` holds no reference, so that parts of it may be shown too."""
        text = self._written.get(path, "")
        return not (_REFERENCE.search(text) or text.startswith("file:"))

    def _walk(self, node: Node, path: Path) -> Tree:
        if id(node) in self._open:
            self.fault(path, "refers to itself")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path)
            if isinstance(node, SequenceNode):
                return [self._item(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._scalar(cast(ScalarNode, node), path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode, path: Path) -> Tree:
        values: dict[str, Tree] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode) or key_node.tag not in _TEXT_TAGS:
                self._lines.setdefault(path, line)
                merge = isinstance(key_node, ScalarNode) and key_node.value == "<<"
                message = "merge keys (`<<`) are not supported: write the keys out" if merge else "a key must be text"
                self.faults.append(Fault(self.file, line, dotted(path), message))
                continue
            here = (*path, key_node.value)
            if key_node.value in values:
                first = self._lines[here]
                self.faults.append(Fault(self.file, line, dotted(here), f"stands here twice (first in line {first})"))
                continue
            self._lines[here] = line
            value = self._walk(value_node, here)
            if value is not None:
                values[key_node.value] = value
        return values

    def _item(self, node: Node, path: Path) -> Tree:
        self._lines[path] = node.start_mark.line + 1
        return self._walk(node, path)

    def _scalar(self, node: ScalarNode, path: Path) -> Tree:
        self._written[path] = node.value
        if node.tag == f"{_TAG}null":
            self.fault(path, "is empty: give it a value, or leave it out")
            return None
        if node.tag in _PLAIN_TAGS:
            value: Tree = self._yaml.constructor.construct_object(node)
            return value
        if node.tag not in _TEXT_TAGS:
            self.fault(path, "has a YAML tag, which is not supported")
            return None
        return self._resolved(node.value, path)

    def _resolved(self, text: str, path: Path) -> str:
        if not text.startswith("file:") and "${" in _REFERENCE.sub("", text):
            self.fault(path, "has a `${` that is no reference: write ${NAME}, of letters, digits and underscores")
            self._unresolved.add(path)
            return text
        try:
            if self._given is not None:
                meant = self._given.references.get(text, text)
            else:
                meant = resolve_reference(text, self._environ, self._base)
            if meant != text:
                self._references[text] = meant
            return meant
        except ReferenceMissingError as error:
            self.fault(path, str(error))
            self._unresolved.add(path)
            return text


def _usable_cores() -> int:
    """Those that this process may run on, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read(file: str) -> str:
    return FilePath(file).read_text(encoding="utf-8")
