"""The suite runs on every case; a test may name a part of them by `@pytest.mark.parametrize("case", ...)`."""

import pytest

from tests.conformance.providers.kit import CASES


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    given = {name for mark in metafunc.definition.iter_markers("parametrize") for name in str(mark.args[0]).split(",")}
    if "case" in metafunc.fixturenames and "case" not in given:
        metafunc.parametrize("case", CASES.values(), ids=CASES.keys())
