"""The section `redis`: what stands in it, and what must not."""

import importlib.util

import certifi
import pytest

from router.config.faults import ConfigError
from router.config.load import load
from router.leasing.settings import RedisSettings
from router.model.fleet import Secret
from tests.unit.config.workbench import ENVIRON, GOOD, Workbench

URL = "redis://127.0.0.1:6379"
PASSWORD = "redis-canary-0123456789"


def with_section(section: str) -> str:
    return f"redis: {section}\n{GOOD}"


def test_without_the_section_limits_stay_on_this_machine(bench: Workbench) -> None:
    assert bench.load().redis is None


def test_a_url_is_all_that_it_needs(bench: Workbench) -> None:
    assert bench.load(with_section(f"{{url: '{URL}'}}")).redis == RedisSettings(
        Secret(URL), "inference-router", "share", 1, None
    )


def test_every_key_acts_and_the_url_is_never_shown(bench: Workbench) -> None:
    section = (
        "{url: 'rediss://router:${PASSWORD}@redis.example.com:6380/2', prefix: prod, on_loss: closed, routers: 4,"
        f" ca_file: '{certifi.where()}'}}"
    )
    snapshot = bench.load(with_section(section), {**ENVIRON, "PASSWORD": PASSWORD})
    url = Secret(f"rediss://router:{PASSWORD}@redis.example.com:6380/2")
    assert snapshot.redis == RedisSettings(url, "prod", "closed", 4, certifi.where())
    assert PASSWORD not in repr(snapshot)
    assert not [warning for warning in snapshot.warnings if "redis" in warning]


@pytest.mark.parametrize(
    ("section", "path", "message"),
    [
        ("{}", "url", "is missing"),
        ("{url: 6379}", "url", "must be text"),
        ("{url: '127.0.0.1:6379'}", "url", "begins with redis://"),
        ("{url: 'http://127.0.0.1:6379'}", "url", "begins with redis://"),
        ("{url: 'redis://127.0.0.1:x'}", "url", "is not a URL"),
        ("{url: 'redis://127.0.0.1:99999'}", "url", "is not a URL"),
        ("{url: 'redis://:6379'}", "url", "names no server"),
        ("{url: 'redis://127.0.0.1:0'}", "url", "names no server"),
        ("{url: 'redis://127.0.0.1/one'}", "url", "no number of a database"),
        ("{url: 'unix://'}", "url", "names no socket"),
        ("{url: 'unix://run/redis.sock'}", "url", "names no socket"),
        ("{url: 'redis://127.0.0.1?socket_timeout=60'}", "url", "options that are not supported"),
        ("{url: 'redis://127.0.0.1?db=one'}", "url", "options that are not supported"),
        ("{url: 'redis://127.0.0.1#x'}", "url", "options that are not supported"),
        ("{url: '${NOT_SET}'}", "url", "is not set"),
        ("{url: '%', prefix: 'a{b}'}", "prefix", "is no name"),
        ("{url: '%', on_loss: fail}", "on_loss", "share"),
        ("{url: '%', routers: 0}", "routers", "must be above 0"),
        ("{url: '%', router: 4}", "router", "did you mean 'routers'?"),
        ("{url: 'rediss://redis.example.com', ca_file: missing.pem}", "ca_file", "PEM certificates"),
        (f"{{url: '%', ca_file: '{certifi.where()}'}}", "ca_file", "rediss://"),
    ],
)
def test_each_fault_has_its_place(bench: Workbench, section: str, path: str, message: str) -> None:
    [fault] = bench.faults(with_section(section.replace("%", URL)))
    assert fault.path == f"redis.{path}"
    assert message in fault.message
    assert fault.line == 1


def test_a_fault_of_the_url_shows_no_password(bench: Workbench) -> None:
    section = "{url: 'redis://:${PASSWORD}@127.0.0.1:port'}"
    [fault] = bench.faults(with_section(section), {**ENVIRON, "PASSWORD": PASSWORD})
    assert PASSWORD not in str(fault)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1", []),
        ("unix:///run/redis.sock?db=1", []),
        ("rediss://redis.example.com", []),
        ("redis://redis.example.com", ["in the clear"]),
        (f"rediss://:{PASSWORD}@redis.example.com", ["the secret stands in the file"]),
    ],
)
def test_what_is_not_wrong_but_unwise_is_said(bench: Workbench, url: str, said: list[str]) -> None:
    warnings = [warning for warning in bench.load(with_section(f"{{url: '{url}'}}")).warnings if "redis" in warning]
    assert len(warnings) == len(said)
    assert all(words in warning for words, warning in zip(said, warnings, strict=True))
    assert not any(PASSWORD in warning for warning in warnings)


def test_the_package_must_be_there(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "redis" else found(name))
    [fault] = bench.faults(with_section(f"{{url: '{URL}'}}"))
    assert "'.[redis]'" in fault.message


def test_a_reload_changes_none_of_it(bench: Workbench) -> None:
    running = bench.load(with_section(f"{{url: '{URL}'}}"))
    bench.file.write_text(with_section(f"{{url: '{URL}', on_loss: open}}"))
    with pytest.raises(ConfigError) as caught:
        load(bench.file, ENVIRON, running=running)
    [fault] = caught.value.faults
    assert (fault.path, fault.line) == ("redis", 1)
