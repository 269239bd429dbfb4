"""Moments of a contract: dates as people write them, as wall seconds."""

import math
import re
from datetime import UTC, datetime
from typing import Final

from router.config.document import Document
from router.config.faults import Path

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_BEGINS: Final = re.compile(r"\d{4}-", re.ASCII)


def means_moment(text: str) -> bool:
    """Whether a text is meant as a date, be it a good one or not, and not as a name."""
    return _BEGINS.match(text) is not None


def read_moment(doc: Document, path: Path, text: str) -> float:
    """Reads `2031-02-01` (midnight UTC) or `2031-02-01T09:30:00+01:00`; NaN, with a fault, for anything else."""
    moment = parse_moment(text)
    if moment is None:
        doc.fault(path, f"{doc.shown(path)} is no date: write 2031-02-01 (midnight UTC) or 2031-02-01T09:30:00Z")
        return math.nan
    return moment


def parse_moment(text: str) -> float | None:
    """Wall seconds since 1970 of a date, or of a time with its offset; a time without one could mean two moments."""
    try:
        moment = datetime.fromisoformat(text)
        if _DATE.fullmatch(text):
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp() if moment.tzinfo is not None and means_moment(text) else None
    except (ValueError, OverflowError):
        return None
