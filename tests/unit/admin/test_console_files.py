"""What the console is made of: only what lies in its folder, and the libraries as they were published."""

import hashlib
import re
from pathlib import Path

import pytest

from router.admin import console

FOLDER = Path(console.__file__).parent
OWN = [file for file in FOLDER.iterdir() if file.suffix in (".html", ".css", ".mjs", ".svg")]


def test_libraries_are_as_they_were_published() -> None:
    readme = (FOLDER / "vendor" / "README.md").read_text("utf-8")
    sums = dict(re.findall(r"^\| `([\w.]+)` \|.*\| `([0-9a-f]{64})` \|$", readme, re.MULTILINE))
    assert sums.keys() == {file.name for file in (FOLDER / "vendor").glob("*.mjs")}
    for name, digest in sums.items():
        assert hashlib.sha256((FOLDER / "vendor" / name).read_bytes()).hexdigest() == digest, name
        assert (FOLDER / "vendor" / f"{Path(name).stem}.LICENSE").stat().st_size > 500


@pytest.mark.parametrize("file", OWN, ids=lambda file: str(file.name))
def test_no_file_of_ours_names_another_host_or_writes_markup_from_values(file: Path) -> None:
    text = file.read_text("utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"(https?:)?//[a-z0-9-]+\.", text)
    assert "innerHTML" not in text
    assert "<script>" not in text
    assert not re.search(r"\son[a-z]+=\"", text)


def test_every_file_that_is_named_is_served_and_every_one_that_is_served_is_there() -> None:
    page = (FOLDER / "index.html").read_text("utf-8")
    named = {f"/{path}" for path in re.findall(r'(?:href|src)="([^"]+)"', page)}
    for module in FOLDER.glob("*.mjs"):
        named |= {f"/console/{path}" for path in re.findall(r'from "\./([^"]+)"', module.read_text("utf-8"))}
    assert named | {"/console"} == console.FILES.keys()
    assert all(file.is_file() for file in console.FILES.values())
