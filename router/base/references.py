"""Values that a file names but does not hold: `${ENV}` and `file:` references."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_ENV: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class ReferenceMissingError(ValueError):
    """A referenced variable or file is not there, or is empty. The text names it and never its content."""


def resolve_reference(text: str, environ: Mapping[str, str], base: Path) -> str:
    """Replaces each `${NAME}` by the variable's value and `file:PATH` by the file's stripped content.

    `base`: the folder that a relative `file:` path starts from.
    Raises ReferenceMissingError when the variable or file is missing or empty.
    """
    if text.startswith("file:"):
        path = base / text.removeprefix("file:")
        try:
            content = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ReferenceMissingError(f"the file {path} cannot be read ({type(error).__name__})") from error
        if not content:
            raise ReferenceMissingError(f"the file {path} is empty")
        return content

    def value(match: re.Match[str]) -> str:
        found = environ.get(match[1], "")
        if not found:
            raise ReferenceMissingError(f"the environment variable {match[1]} is not set, or empty")
        return found

    return _ENV.sub(value, text)
