"""Where one router cannot follow another, it says so and goes on."""

import os
import sys
from typing import Any
from unittest import mock

import pytest

from router.jobs.inheritance import Inheritance
from router.jobs.succession import UpgradeError
from router.jobs.tenure import Tenure


@pytest.mark.parametrize(
    ("module", "name", "value", "why"),
    [(os, "getpid", lambda: 1, "the container would end"), (sys, "platform", "win32", "only Linux")],
    ids=["container", "windows"],
)
async def test_an_upgrade_that_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, value: Any, why: str
) -> None:
    ruler = mock.Mock()
    tenure = Tenure(ruler, Inheritance(), {})
    monkeypatch.setattr(module, name, value)

    with pytest.raises(UpgradeError, match=why):
        await tenure.upgrade()

    assert not ruler.estate.called
    assert not tenure.over
