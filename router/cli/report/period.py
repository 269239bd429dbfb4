"""The period that a report is of, as people write it."""

import re
import time
from typing import Final

import click

from router.config.moments import parse_moment

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_LAST: Final = 9_999_999_999.0  # of 2286: hours around it can still be written as dates
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds_of(text: str) -> float | None:
    """Of `90m`, `24h` or `7d`; None for anything else."""
    match = _DURATION.fullmatch(text.strip())
    return float(match[1]) * _SECONDS[match[2]] if match is not None else None


class Moment(click.ParamType[float]):
    """Wall seconds: a date, a time with its offset, or so long ago."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value)
        ago_s = seconds_of(text)
        moment = parse_moment(text.strip()) if ago_s is None else time.time() - ago_s
        if moment is None:
            self.fail(f"{text!r} is no moment: write 24h, 7d, 2031-02-01 or 2031-02-01T09:30:00Z", param, ctx)
        return min(max(moment, 0.0), _LAST)


def check(since: float, until: float | None) -> None:
    """Raises UsageError where there is no time between the two."""
    if since >= (until if until is not None else time.time()):
        raise click.UsageError("--since is not before --until")


since = click.option(
    "--since", type=Moment(), default="24h", show_default=True, help="Begin: 90m, 24h or 7d ago, or a date (UTC)."
)
until = click.option("--until", type=Moment(), help="End, which is no more of it. Default: now.")
