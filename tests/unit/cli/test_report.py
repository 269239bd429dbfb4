"""The report of refusals, as people see it."""

import io

import pytest
from rich.console import Console

from router.cli.report.refusals import page

COLUMNS = (
    "cloud",
    "model",
    "hour",
    "requests",
    "offers",
    "accepted",
    "refused",
    "unhealthy",
    "throttled",
    "over_quota",
)
LINES = [
    ("azure", "gpt-4o", "2031-02-01T07:00Z", 1482, 2533, 1271, 1262, 279, 0, 983),
    ("coreweave", "gpt-4o", "2031-02-01T07:00Z", 211, 211, 93, 118, 0, 118, 0),
]


def shown(width: int, lines: list[tuple[str | int, ...]]) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(page(COLUMNS, lines, words=3, width=width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_wide_terminal_has_a_column_a_reason() -> None:
    head, _, azure, *_ = shown(120, [*LINES])

    assert head.split() == list(COLUMNS)
    assert azure.split() == [str(each) for each in LINES[0]]


def test_a_narrow_one_has_a_line_a_reason_and_breaks_no_word() -> None:
    lines = shown(80, [*LINES])

    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines if "Z" in line] == [
        ["azure", "gpt-4o", "2031-02-01T07:00Z", "1482", "2533", "1271", "1262"],
        ["coreweave", "gpt-4o", "2031-02-01T07:00Z", "211", "211", "93", "118"],
        ["azure", "gpt-4o", "2031-02-01T07:00Z", "unhealthy", "279"],
        ["azure", "gpt-4o", "2031-02-01T07:00Z", "over_quota", "983"],
        ["coreweave", "gpt-4o", "2031-02-01T07:00Z", "throttled", "118"],
    ]
    assert [line.split() for line in lines if line.startswith("all")] == [
        ["all", "2744", "1364", "1380"],
        ["all", "1380"],
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_no_offer_is_said(width: int) -> None:
    assert shown(width, [])[-1] == "No offer in that time."
