"""The figures of `x-ratelimit-*`, as Azure and OpenAI write them."""

import re
from collections.abc import Mapping
from typing import Final

_UNIT_S: Final = {b"ms": 0.001, b"s": 1.0, b"m": 60.0, b"h": 3600.0}
_PART: Final = re.compile(rb"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h)")
_DURATION: Final = re.compile(rb"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h))+")
_DIGITS_MAX: Final = 15
ROUNDING_S: Final = 1.0


def figure(headers: Mapping[bytes, bytes], name: bytes) -> int | None:
    """A whole number of at least 0; None where the header is missing, or says -1 for "not tracked"."""
    value = headers.get(name)
    return int(value) if value is not None and value.isdigit() and len(value) <= _DIGITS_MAX else None


def latest_reset_s(headers: Mapping[bytes, bytes], name: bytes) -> float | None:
    """Seconds after which the counter has certainly started again; None where the header is missing, 0 or no time.

    A bare number (Azure) is whole seconds, and nobody says which way they are rounded: so one is added. A duration
    such as `6m0s` or `120ms` (OpenAI) is exact.
    """
    value = headers.get(name)
    if value is None:
        return None
    if value.isdigit() and len(value) <= _DIGITS_MAX:
        whole = int(value)
        return whole + ROUNDING_S if whole else None
    if _DURATION.fullmatch(value) is None:
        return None
    return sum(float(part[1]) * _UNIT_S[part[2]] for part in _PART.finditer(value)) or None
