"""Which names and addresses mean this machine, and what is refused before anything listens."""

import pytest

from router.admin.guard import guard, is_loopback
from router.model.fleet import Secret


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "::", "", "10.0.0.1", "192.168.1.1", "169.254.169.254", "example.com", "localhost.evil.test"),
        *("127.0.0.1.evil.test", "127.1", "0x7f.0.0.1", "2130706433", "[::1]", "localhost:80", " localhost"),
    ],
)
def test_anything_else(host: str) -> None:
    assert not is_loopback(host)


def test_an_empty_token_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        guard(Secret(""))
