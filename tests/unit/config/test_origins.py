"""`server.cors_origins`: what a browser calls itself, and nothing that only looks like it."""

import pytest

from tests.unit.config.workbench import GOOD, Workbench


def with_origins(*origins: str) -> str:
    return GOOD.replace("  admin: 127.0.0.1:9090\n", f"  admin: 127.0.0.1:9090\n  cors_origins: {list(origins)}\n")


def test_no_origin_is_listed_unless_the_file_lists_it(bench: Workbench) -> None:
    assert bench.load().server.cors_origins == frozenset()


def test_origins_are_kept_as_browsers_write_them(bench: Workbench) -> None:
    written = (
        "https://Ops.Example.com",
        "https://a.example.com:443",
        "https://a.example.com:8443",
        "http://[::1]:3000",
    )
    assert bench.load(with_origins(*written)).server.cors_origins == {
        "https://ops.example.com",
        "https://a.example.com",
        "https://a.example.com:8443",
        "http://[::1]:3000",
    }


@pytest.mark.parametrize(
    ("origin", "message"),
    [
        ("*", "is no origin"),
        ("null", "is no origin"),
        ("https://*.example.com", "is no origin"),
        ("ops.example.com", "is no origin"),
        ("https://ops.example.com/", "is no origin"),
        ("https://ops.example.com/console", "is no origin"),
        ("https://user@ops.example.com", "is no origin"),
        ("http://ops.example.com", "must be https"),
    ],
)
def test_what_no_browser_sends_is_a_fault(bench: Workbench, origin: str, message: str) -> None:
    (fault,) = bench.faults(with_origins("https://good.example.com", origin))
    assert (fault.path, message in fault.message) == ("server.cors_origins[1]", True)
