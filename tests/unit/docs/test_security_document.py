"""docs/security.md names a test for each threat; whoever renames one is told here."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "security.md").read_text("utf-8")
THREATS = re.findall(r"^\| (\d+) \|.*\| ([^|]*) \|$", TEXT, re.MULTILINE)
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


def test_threats_are_numbered_and_each_has_its_test() -> None:
    assert [int(number) for number, _ in THREATS] == list(range(1, len(THREATS) + 1))
    assert len(THREATS) >= 30
    assert [number for number, shown in THREATS if not re.search(r"`tests/[\w/]+\.py::\w+`", shown)] == []


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_every_test_that_is_named_exists(file: str, name: str) -> None:
    text = (ROOT / file).read_text("utf-8")
    assert re.search(rf"^\s*(?:async )?def {name}\(", text, re.MULTILINE), f"{file} has no {name}"
