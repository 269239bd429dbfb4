"""Which bodies are let in, before a byte of them is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.base.errors import MalformedHttpError, RefusedError
from router.limits.admission import admit_body

sizes = st.integers(0, 200)


def test_a_body_beyond_its_own_bound_is_too_large() -> None:
    admit_body(100, 100, 0, 1000)
    with pytest.raises(MalformedHttpError) as raised:
        admit_body(101, 100, 0, 1000)
    assert (raised.value.status, raised.value.code, raised.value.close) == (413, "body_too_large", True)


def test_a_body_for_which_there_is_no_room_now_may_come_again() -> None:
    admit_body(100, 100, 900, 1000)
    with pytest.raises(RefusedError) as raised:
        admit_body(100, 100, 901, 1000)
    assert (raised.value.status, raised.value.code) == (503, "overloaded")
    assert raised.value.headers == {"retry-after": "1", "retry-after-ms": "1000"}


@given(sizes, sizes, sizes, sizes)
def test_what_is_let_in_fits(length: int, bytes_max: int, buffered: int, buffered_max: int) -> None:
    try:
        admit_body(length, bytes_max, buffered, buffered_max)
    except MalformedHttpError:
        assert length > bytes_max
    except RefusedError:
        assert length <= bytes_max
        assert buffered + length > buffered_max
    else:
        assert length <= bytes_max
        assert buffered + length <= buffered_max
