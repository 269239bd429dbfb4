"""Documents drift from the code unless something reads both."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import click
import msgspec
import pytest

from router.base import errors
from router.cli import main
from router.model.outcome import AttemptRecord, RequestRecord, Usage
from router.proxy import surface
from router.telemetry.names import METRICS
from scripts import metrics_doc

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "router"
OPERATIONS = ROOT / "docs" / "operations.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "loadtests").glob("*.md")])

# Defaults of classes that are never sent without a code of their own.
UNSENT = {(404, "not_found")}


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def section(text: str, heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Cells of all table lines, headings and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("|--")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_every_link_leads_somewhere(file: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_fences(file.read_text("utf-8"))):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        found = (file.parent / unquote(path)).resolve() if path else file
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        if found.is_dir():
            assert any(entry.is_file() for entry in found.rglob("*")), f"{target}: git keeps no empty folder"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_every_file_of_the_house_that_is_named_exists(file: Path) -> None:
    for named in re.findall(r"`((?:router|config|docs|tests|loadtests)/[\w./-]+)`", file.read_text("utf-8")):
        assert (ROOT / named).exists(), named
    for named in re.findall(r"`(\w+/\w+\.py)`", file.read_text("utf-8")):
        assert (PACKAGE / named).exists() or (file.parent / named).exists(), named


@pytest.mark.parametrize("file", DOCUMENTS, ids=name_of)
def test_every_command_that_is_shown_exists(file: Path) -> None:
    for target in re.findall(r"(?<![\w-])make ([a-z][a-z-]*)", "\n".join(code_in(file))):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE), target
    for line in code_in(file):
        for words in re.findall(r"inference-router((?: [^\s`#;&|]+)*)", line):
            check_command(words.split())


def code_in(file: Path) -> Iterator[str]:
    text = file.read_text("utf-8")
    for fence in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from fence.splitlines()
    for line in without_fences(text).splitlines():
        yield from re.findall(r"`([^`]+)`", line)


def check_command(words: list[str]) -> None:
    command: click.Command = main
    context = click.Context(main)
    while words and isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, words
        command = found
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options, words


def test_options_beside_a_command_of_the_table_are_its_own() -> None:
    table = rows(section((ROOT / "README.md").read_text("utf-8"), "Commands"))
    shown = {}
    for command, what in table[1:]:
        words = command.strip("`").split()
        check_command([*words[1:], *re.findall(r"`(--[a-z-]+)`", what)])
        shown[words[1]] = what
    assert shown.keys() == set(main.list_commands(click.Context(main)))


def test_the_page_of_metrics_is_made_from_the_code() -> None:
    """Where it fails: `python -m scripts.metrics_doc`."""
    assert metrics_doc.PAGE.read_text("utf-8") == metrics_doc.page()


def test_metrics_that_the_operator_is_sent_to_exist() -> None:
    named = set(re.findall(r"`(router_\w+)`", section(OPERATIONS.read_text("utf-8"), "Metrics")))
    assert len(named) > 10
    assert named <= {metric.name for metric in METRICS}


def test_the_fields_of_the_log_are_the_code_s() -> None:
    log = section(OPERATIONS.read_text("utf-8"), "Log")
    requests, attempts = log.split("| field of an attempt |")
    assert names_in_first_cells(requests) == set(RequestRecord.__struct_fields__)
    assert names_in_first_cells(attempts.split("| event |")[0]) == set(AttemptRecord.__struct_fields__)
    for name in Usage.__struct_fields__:
        assert f"`{name}`" in requests
    # Those that are always there: without a default, so never left out.
    always = [field.name for field in msgspec.structs.fields(RequestRecord) if field.required]
    assert [cell for row in rows(requests)[1:] for cell in re.findall(r"`(\w+)`", row[0])][: len(always)] == always
    assert len(always) == 5
    for record, part in ((RequestRecord, requests), (AttemptRecord, attempts)):
        outcomes = re.search(r"`outcome`: (.*)\Z", record.__doc__ or "", re.DOTALL)
        assert outcomes is not None
        for outcome in re.findall(r"`(\w+)`", outcomes[1]):
            assert f"`{outcome}`" in part, outcome


def names_in_first_cells(text: str) -> set[str]:
    return {name for row in rows(text) for name in re.findall(r"`(\w+)`", row[0])}


def test_the_events_of_the_log_are_the_code_s() -> None:
    events = section(OPERATIONS.read_text("utf-8"), "Log").split("| event |")[1]
    sent = {
        node.args[0].value
        for node in nodes()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("event", "_tell")
        if node.args and isinstance(node.args[0], ast.Constant)
    }
    sent |= {
        value.value
        for node in nodes()
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and key.value == "event" and isinstance(value, ast.Constant)
    }
    assert names_in_first_cells(events) == sent


def test_the_table_of_errors_is_the_code_s() -> None:
    table = rows(section(OPERATIONS.read_text("utf-8"), "Errors"))[1:]
    shown = [(int(status), code.strip("`")) for status, code, _ in table]
    assert len(set(shown)) == len(shown)
    assert shown == sorted(shown, key=lambda pair: pair[0])
    assert set(shown) == set(errors_of_the_code())


def nodes() -> Iterator[ast.AST]:
    """All of the data plane's code: neither the control plane's errors nor the emulator's."""
    for file in PACKAGE.rglob("*.py"):
        if file.relative_to(PACKAGE).parts[0] not in ("admin", "emulator", "config", "cli"):
            yield from ast.walk(ast.parse(file.read_text("utf-8")))


def subclasses(of: type[errors.RouterError]) -> Iterator[type[errors.RouterError]]:
    yield of
    for each in of.__subclasses__():
        yield from subclasses(each)


def errors_of_the_code() -> Iterator[tuple[int, str]]:
    """Status and code of each class, and of each place that gives its own."""
    assert surface.MethodNotAllowedError  # a room's own errors are known once the room is imported
    classes = {each.__name__: each for each in subclasses(errors.RouterError) if each.__module__.startswith("router.")}
    for each in classes.values():
        if (each.status, each.code) not in UNSENT:
            yield each.status, each.code
    for node in nodes():
        if isinstance(node, ast.Call):
            given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if "code" in given and name in classes:
                yield given.get("status", classes[name].status), given["code"]
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            targets = [target for target in node.targets if isinstance(target, ast.Tuple)]
            names = [each.attr for target in targets for each in target.elts if isinstance(each, ast.Attribute)]
            if names == ["status", "code"]:
                status, code = (each.value for each in node.value.elts if isinstance(each, ast.Constant))
                yield status, code


def test_the_changelog_knows_the_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert version is not None
    assert f"## [{version[1]}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text("utf-8")
    pages = sorted(file.name for file in folder.glob("0*.md"))
    assert re.findall(r"\((0[^)]+)\)", index) == pages
    for number, name in enumerate(pages, 1):
        text = (folder / name).read_text("utf-8")
        assert text.startswith(f"# {number}. ")
        for heading in ("Context", "Choice", "What it costs", "Dropped"):
            assert f"\n## {heading}\n" in text, name


def test_no_document_knows_the_machine_that_it_was_written_on() -> None:
    done = subprocess.run(
        ["grep", "-lE", r"(/home/|/root/|/tmp/|/Users/)", *map(str, DOCUMENTS)], capture_output=True, text=True
    )
    assert done.stdout == ""
