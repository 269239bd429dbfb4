"""Strict readers for values from YAML and from the control path: each takes a value and says what it had to be."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

_MUST: Final = "must be {}, not {!r}"


class EmulatorConfigError(ValueError):
    """A setting, fault or file that cannot be used; the text says where and why."""


def boolean(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise EmulatorConfigError(_MUST.format("true or false", raw))
    return raw


def whole(raw: object) -> int:
    """A whole number of zero or more."""
    if not isinstance(raw, int) or isinstance(raw, bool) or raw < 0:
        raise EmulatorConfigError(_MUST.format("a whole number of zero or more", raw))
    return raw


def signed(raw: object) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool):
        raise EmulatorConfigError(_MUST.format("a whole number", raw))
    return raw


def number(raw: object) -> float:
    """A finite number of zero or more."""
    if not isinstance(raw, int | float) or isinstance(raw, bool) or not math.isfinite(raw) or raw < 0:
        raise EmulatorConfigError(_MUST.format("a number of zero or more", raw))
    return float(raw)


def share(raw: object) -> float:
    value = number(raw)
    if value > 1:
        raise EmulatorConfigError(_MUST.format("a share from 0 to 1", raw))
    return value


def text(raw: object) -> str:
    if not isinstance(raw, str):
        raise EmulatorConfigError(_MUST.format("a text", raw))
    return raw


def texts(raw: object) -> tuple[tuple[str, str], ...]:
    """A mapping of names to texts, as pairs."""
    if not isinstance(raw, Mapping) or not all(isinstance(v, str) for v in raw.values()):
        raise EmulatorConfigError(_MUST.format("a mapping of names to texts", raw))
    return tuple((str(name), value) for name, value in raw.items())


def one_of(*allowed: str) -> Callable[[object], str]:
    def read(raw: object) -> str:
        if not isinstance(raw, str) or raw not in allowed:
            raise EmulatorConfigError(_MUST.format("one of " + ", ".join(allowed), raw))
        return raw

    return read


def optional(read: Callable[[object], Any]) -> Callable[[object], Any]:
    return lambda raw: None if raw is None else read(raw)


def fields(raw: object, where: str, readers: Mapping[str, Callable[[object], Any]]) -> dict[str, Any]:
    """Reads a mapping whose keys are all in `readers`; keys left out stay out, so that defaults stand in one place.

    Raises EmulatorConfigError, its text beginning with `where`.
    """
    if not isinstance(raw, Mapping):
        raise EmulatorConfigError(f"{where}: {_MUST.format('a mapping', raw)}")
    unknown = sorted(str(key) for key in raw if key not in readers)
    if unknown:
        raise EmulatorConfigError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(readers))}")
    found: dict[str, Any] = {}
    for key, value in raw.items():
        try:
            found[key] = readers[key](value)
        except EmulatorConfigError as error:
            raise EmulatorConfigError(f"{where}.{key}: {error}") from error
    return found
