"""How long an upstream asks us to wait, in seconds, wherever it says so.

Values are read, not judged: 86,400 s has been seen and is for others to clamp. What is no wait (negative, NaN, words)
is None, and the next source is asked.
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

_NUMBER: Final = re.compile(r"\d{1,15}(?:\.\d{0,9})?|\.\d{1,9}", re.ASCII)
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)
_DURATION: Final = re.compile(r"(?:\d{1,15}(?:\.\d{1,9})?(?:ms|s|m|h|d))+", re.ASCII)
_IN_TEXT: Final = re.compile(
    r"(?:retry|try again) (?:after|in) (?:(?P<number>\d{1,15}(?:\.\d{1,9})?) ?(?P<unit>milliseconds?|seconds?|minutes?)"
    r"|(?P<duration>(?:\d{1,15}(?:\.\d{1,9})?(?:ms|s|m|h|d))+))",
    re.IGNORECASE | re.ASCII,
)


def wait_in_headers(headers: Mapping[bytes, bytes]) -> float | None:
    """Reads `retry-after-ms`, else `retry-after` in seconds or as a date."""
    wait_ms = _seconds(headers.get(b"retry-after-ms"))
    if wait_ms is not None:
        return wait_ms / 1000.0
    value = headers.get(b"retry-after")
    wait_s = _seconds(value)
    return wait_s if wait_s is not None or value is None else _until(value, headers.get(b"date"))


def wait_in_text(message: str) -> float | None:
    """Reads "retry after 26 seconds", "try again in 1m3.5s" and the like."""
    match = _IN_TEXT.search(message)
    if match is None:
        return None
    if match["duration"] is not None:
        return _duration(match["duration"].lower())
    unit = match["unit"].lower()
    factor = 0.001 if unit.startswith("milli") else 60.0 if unit.startswith("minute") else 1.0
    return float(match["number"]) * factor


def wait_in_details(error: Mapping[str, Any] | None) -> float | None:
    """Reads the `retryDelay` of Google's RetryInfo, a duration in seconds such as `34.5s`, from an error object."""
    details = error.get("details") if error is not None else None
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and (wait_s := _duration(delay)) is not None:
            return wait_s
    return None


def wait_in_limits(headers: Mapping[bytes, bytes]) -> float | None:
    """Reads when the limits reset: bare seconds at Azure, durations such as `6m0s` at OpenAI.

    0 means "not tracked". Of several the longest, save those whose remainder says that they were not the one hit.
    """
    waits = []
    for reset, remaining in _LIMITS:
        wait_s = _reset(headers.get(reset))
        left = _seconds(headers.get(remaining))
        if wait_s and not left:
            waits.append(wait_s)
    return max(waits, default=None)


_LIMITS: Final = (
    (b"x-ratelimit-reset-requests", b"x-ratelimit-remaining-requests"),
    (b"x-ratelimit-reset-tokens", b"x-ratelimit-remaining-tokens"),
    (b"x-rate-limit-reset-tokens", b"x-ratelimit-remaining-tokens"),
)


def _seconds(value: bytes | None) -> float | None:
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _reset(value: bytes | None) -> float | None:
    wait_s = _seconds(value)
    return wait_s if wait_s is not None or value is None else _duration(value.decode("latin-1").strip())


def _duration(text: str) -> float | None:
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(part[1]) * _UNIT_S[part[2]] for part in _PART.finditer(text))


def _until(moment: bytes, now: bytes | None) -> float | None:
    """Measures from the answer's own `date`: both stand on the upstream's clock, whatever ours says."""
    if now is None:
        return None
    try:
        wait_s = _timestamp(moment) - _timestamp(now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None  # no dates: the standard library raises whatever its parsing stumbles over
    return max(0.0, wait_s)


def _timestamp(value: bytes) -> float:
    return parsedate_to_datetime(value.decode("latin-1")).timestamp()
