"""Where an event ends, whatever ends its lines, and what it says."""

import pytest

from router.accounting.events import last_event_end, read_events, read_plain, split_events


@pytest.mark.parametrize(
    ("buffer", "end"),
    [
        (b"", 0),
        (b"data: a", 0),
        (b"data: a\n", 0),
        (b"data: a\n\n", 9),
        (b"data: a\n\ndata: b", 9),
        (b"data: a\n\ndata: b\n\n", 18),
        (b"data: a\r\n\r\n", 11),
        (b"data: a\r\n\r\nda", 11),
        (b"data: a\r\n\r", 0),  # the LF of the second CRLF is still under way
        (b"data: a\r\r", 0),
        (b"data: a\r\rd", 9),
        (b"data: a\r\r\n", 10),
        (b"data: a\n\r", 0),
        (b"data: a\n\r\n", 10),
        (b"data: a\n\rd", 9),
        (b"data: a\n\n\r", 9),
        (b"data: a\r\n", 0),
        (b"\n", 1),
        (b"\r", 0),
        (b"\r\n", 2),
        (b"\rd", 1),
        (b": ping\n\ndata", 8),
    ],
)
def test_an_event_ends_at_its_blank_line(buffer: bytes, end: int) -> None:
    assert last_event_end(buffer) == end
    assert last_event_end(bytearray(buffer)) == end


def test_events_are_cut_without_changing_a_byte() -> None:
    assert split_events(b"data: a\n\n: c\n\ndata: b\n\nrest") == [b"data: a\n\n", b": c\n\n", b"data: b\n\n", b"rest"]
    assert split_events(b"data: a\r\n\r\ndata: b\r\rdata: c\n\r\n") == [
        b"data: a\r\n\r\n",
        b"data: b\r\r",
        b"data: c\n\r\n",
    ]


@pytest.mark.parametrize(
    ("payload", "events"),
    [
        (b"data: a\n\n", [(b"", b"a")]),
        (b"data:a\n\n", [(b"", b"a")]),
        (b"data:  a\n\n", [(b"", b" a")]),  # one leading space goes, not two
        (b"event: e\ndata: a\n\n", [(b"e", b"a")]),
        (b"data: a\nevent:e\n\ndata: b\n\n", [(b"e", b"a"), (b"", b"b")]),
        (b"data: a\ndata: b\ndata\n\n", [(b"", b"a\nb\n")]),
        (b": ping\nid: 1\nretry: 5\ndata: a\n\n", [(b"", b"a")]),
        (b"event: lost\n\ndata: a\n\n", [(b"", b"a")]),  # a name without data goes with its event
        (b": ping\n\n", []),
        (b"data: cut", []),
        (b"data: cut\n", []),
        (b"event: e\r\ndata: a\r\n\r\ndata: b\r\r", [(b"e", b"a"), (b"", b"b")]),
    ],
)
def test_an_event_says_its_name_and_its_data(payload: bytes, events: list[tuple[bytes, bytes]]) -> None:
    assert read_events(payload) == events


@pytest.mark.parametrize(
    ("payload", "plain"),
    [
        (b"data: a\n\n", (b"", b"a")),
        (b"event: e\ndata: a\n\n", (b"e", b"a")),
        (b"data: a\n\ndata: b\n\n", None),
        (b"data: a\r\rdata: b\n\n", None),
        (b"event: e\rdata: a\ndata: b\n\n", None),
        (b"event: e\n\ndata: b\n\n", None),
        (b"event: e\n\n", None),
        (b"event: e", None),
        (b"data: a\r\n\r\n", None),
        (b"data: a\n", None),
        (b"data:a\n\n", None),
        (b": ping\n\n", None),
    ],
)
def test_only_the_usual_form_takes_the_short_way(payload: bytes, plain: tuple[bytes, bytes] | None) -> None:
    assert read_plain(payload) == plain
    if plain is not None:
        assert read_events(payload) == [plain]
