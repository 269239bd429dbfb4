"""What an installed router has beside its modules: each file that the code reads."""

import tomllib
from pathlib import Path, PurePath
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "router"


def test_every_file_below_the_package_is_installed_with_it() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["router"]
    files = [f.relative_to(PACKAGE) for f in PACKAGE.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    others = [f for f in files if f.suffix != ".py"]

    assert [f for f in others if not _installed(f, patterns)] == []
    assert all(any(_installed(f, [pattern]) for f in others) for pattern in patterns), "a pattern that finds nothing"


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {module.parent for module in PACKAGE.rglob("*.py")}

    assert [f for f in folders if not (f / "__init__.py").exists()] == []


def _installed(file: PurePath, patterns: list[str]) -> bool:
    """As setuptools reads them: `*` does not go into folders."""
    return any(len(file.parts) == len(PurePath(pattern).parts) and file.match(pattern) for pattern in patterns)
