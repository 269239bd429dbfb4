"""The floors of the house: imports go down only, and what a room may not contain.

The table below is the whole rule: a room may import those of the floors before its own, never one beside it or after.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = Path(__file__).parents[2] / "router"

FLOORS: Final[tuple[tuple[str, ...], ...]] = (
    ("base",),
    ("model",),
    ("placement", "balancing", "health", "resilience", "limits", "accounting"),
    ("transport", "providers", "telemetry"),
    ("ledger", "leasing"),
    ("config",),
    ("proxy",),
    ("jobs", "admin"),
    ("assembly",),
    ("worker",),
    ("supervisor",),
    ("cli",),
)
ABOVE_THE_ROOMS: Final = {"assembly", "worker", "cli", "__main__"}

BROAD_EXCEPT_ALLOWED: Final[dict[str, str]] = {
    "proxy/lifecycle.py": "the end of a request: our bug, whatever it was, still gets its client an answer",
    "transport/pool.py": "a dial that ends without a word would hold its request for as long as a request may take",
    "jobs/loops.py": "a job that ends for a surprise would be missed much later, when tokens lapse, say; it is told of",
    "transport/fiber.py": "what ends one branch of a fiber, whatever it is, is raised by the one who runs the branches",
    "transport/wheel.py": "one entry's bug must not cost the others of its slot their deadlines; the loop reports it",
    "transport/channel.py": "a verb that fails for whatever reason owes the other process an answer; it waits for one",
    "admin/app.py": "the edge of the control plane: above it is only the library, which can show callers a trace",
}
"""File below router/ → why it may catch everything. A line here is a decision, so it carries its reason."""

FUNCTION_LINES_MAX: Final = 60
CLI_MODULES_MAX: Final = 400
"""`inference-router --help` loads about 250 modules, most of them click's and the standard library's."""


def allowed_imports() -> dict[str, frozenset[str]]:
    """Room → the rooms that it may import, itself included."""
    allowed: dict[str, frozenset[str]] = {}
    below: frozenset[str] = frozenset()
    for floor in FLOORS:
        for room in floor:
            allowed[room] = below | {room}
        below |= set(floor)
    allowed["emulator"] = frozenset({"base", "emulator"})  # it must not share the bugs of what it tests
    allowed["cli"] |= {"emulator"}
    allowed["__main__"] = frozenset({"cli"})
    allowed["__init__"] = frozenset()
    return allowed


ALLOWED: Final = allowed_imports()


def room_of(path: Path, package: Path) -> str:
    """The room that a file belongs to: its folder directly below the package, or its own name."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.Module, package_of_file: str) -> Iterator[tuple[int, str]]:
    """Yields the line and the room of each import of ours, also of those inside functions and TYPE_CHECKING."""
    for node in ast.walk(tree):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package_of_file.split(".")[: 1 - node.level or None]
                base = ".".join([*parents, base] if base else parents)
            modules = [f"{base}.{alias.name}" for alias in node.names] if base == "router" else [base]
        for module in modules:
            parts = module.split(".")
            if parts[0] == "router":
                yield node.lineno, parts[1] if len(parts) > 1 else "__init__"


def violations(path: Path, package: Path) -> list[str]:
    """Says `file:line: A may not import B` for each import that does not go down."""
    room = room_of(path, package)
    name = path.relative_to(package.parent)
    dotted = ".".join(name.parent.parts)
    return [
        f"{name}:{line}: {room} may not import {target}"
        for line, target in imported_rooms(ast.parse(path.read_text(encoding="utf-8")), dotted)
        if target not in ALLOWED.get(room, frozenset())
    ]


def functions_too_long(tree: ast.Module) -> list[str]:
    return [
        f"{node.lineno}: {node.name} has {lines} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]


def broad_excepts(tree: ast.Module) -> list[str]:
    """Lines of `except:`, `except Exception` and `except BaseException`, alone or in a tuple.

    One that ends in a bare `raise` tidies up and swallows nothing.
    """
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        last = node.body[-1]
        if isinstance(last, ast.Raise) and last.exc is None:
            continue
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if any(kind is None or getattr(kind, "id", "") in {"Exception", "BaseException"} for kind in kinds):
            lines.append(f"{node.lineno}: catches everything")
    return lines


def prints(tree: ast.Module) -> list[str]:
    return [
        f"{node.lineno}: print()"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]


FILES: Final = sorted(PACKAGE.rglob("*.py"))
ROOM_FILES: Final = [path for path in FILES if room_of(path, PACKAGE) not in ABOVE_THE_ROOMS]


def of_package(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", FILES, ids=of_package)
def test_imports_go_down(path: Path) -> None:
    assert violations(path, PACKAGE) == []


def test_every_room_is_in_the_table() -> None:
    rooms = {room_of(path, PACKAGE) for path in FILES}
    assert rooms - set(ALLOWED) == set()


@pytest.mark.parametrize("path", FILES, ids=of_package)
def test_module_says_what_it_decides(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{of_package(path)} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=of_package)
def test_functions_can_be_read_at_once(path: Path) -> None:
    assert functions_too_long(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", ROOM_FILES, ids=of_package)
def test_rooms_do_not_print(path: Path) -> None:
    assert prints(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", ROOM_FILES, ids=of_package)
def test_rooms_catch_what_they_know(path: Path) -> None:
    if of_package(path) in BROAD_EXCEPT_ALLOWED:
        return
    assert broad_excepts(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_allow_list_has_no_dead_lines() -> None:
    """A file that no longer catches everything loses its permission to."""
    for name in BROAD_EXCEPT_ALLOWED:
        assert broad_excepts(ast.parse((PACKAGE / name).read_text(encoding="utf-8"))), f"{name} needs no exception"


def test_commands_start_without_the_heavy_libraries() -> None:
    """`--help` and `keys new` answer at once: aiohttp and pydantic are loaded by those commands that need them.

    Counts modules instead of milliseconds: the same on every machine.
    """
    code = "import sys, router.cli; print(len(sys.modules), *{m.split('.')[0] for m in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    count, *names = run.stdout.split()

    assert {"aiohttp", "pydantic", "prometheus_client", "ruamel", "rich"} & set(names) == set()
    assert int(count) < CLI_MODULES_MAX


class TestTheChecker:
    """The checks above must be able to fail."""

    @pytest.mark.parametrize(
        ("room", "source", "complaint"),
        [
            ("base", "from router.model.plan import Plan", "base may not import model"),
            ("balancing", "import router.health.verdict", "balancing may not import health"),
            ("limits", "def f():\n    from router.proxy import lifecycle", "limits may not import proxy"),
            ("emulator", "from router.transport.http import X", "emulator may not import transport"),
            ("proxy", "from router import assembly", "proxy may not import assembly"),
            ("proxy", "from ..worker import run", "proxy may not import worker"),
            ("proxy", "from .. import cli", "proxy may not import cli"),
            ("transport", "from ..providers.azure import A", "transport may not import providers"),
            ("attic", "import router.base.clock", "attic may not import base"),
        ],
    )
    def test_names_file_line_and_both_rooms(self, tmp_path: Path, room: str, source: str, complaint: str) -> None:
        path = tmp_path / "router" / room / "here.py"
        path.parent.mkdir(parents=True)
        path.write_text(f'"""A room."""\n{source}\n', encoding="utf-8")

        [found] = violations(path, tmp_path / "router")

        line = 1 + len(source.splitlines())
        assert found == f"router/{room}/here.py:{line}: {complaint}"

    @pytest.mark.parametrize(
        ("room", "source"),
        [
            ("model", "from router.base.clock import Clock"),
            ("model", "from .fleet import Deployment"),
            ("config", "from router.providers.azure import check"),
            ("emulator", "from router.base.clock import Clock"),
            ("cli", "from router.emulator.server import serve"),
            ("proxy", "import routerish.proxy"),
        ],
    )
    def test_lets_imports_go_down(self, tmp_path: Path, room: str, source: str) -> None:
        path = tmp_path / "router" / room / "here.py"
        path.parent.mkdir(parents=True)
        path.write_text(source, encoding="utf-8")

        assert violations(path, tmp_path / "router") == []

    @pytest.mark.parametrize("handler", ["except:", "except Exception:", "except (ValueError, BaseException) as e:"])
    def test_sees_broad_excepts(self, handler: str) -> None:
        assert broad_excepts(ast.parse(f"try:\n    f()\n{handler}\n    pass")) == ["3: catches everything"]

    def test_lets_broad_excepts_tidy_up_and_raise_again(self) -> None:
        assert broad_excepts(ast.parse("try:\n    f()\nexcept BaseException:\n    g()\n    raise")) == []

    def test_sees_long_functions_and_prints(self) -> None:
        long = "async def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX
        assert functions_too_long(ast.parse(long)) == [f"1: f has {FUNCTION_LINES_MAX + 1} lines"]
        assert functions_too_long(ast.parse(long.replace("    x = 1\n", "", 1))) == []
        assert prints(ast.parse("print('x')")) == ["1: print()"]
