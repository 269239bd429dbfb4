"""Several workers: what each has of the bounds for all, and how they all understand one text alike."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from ruamel.yaml import YAML

from router.config.changes import differing, fixed_in
from router.config.faults import ConfigError
from router.config.load import load
from router.config.server import share
from router.config.snapshot import Source

FILE: Final = """
server: {{listen: 127.0.0.1:0, workers: {workers}, connections_max: 1001, buffered_bytes_max: 1GiB}}
limits: {{concurrency_start: 100, concurrency_min: 4, waiting_max: 7}}
endpoints:
  a:
    cloud: azure
    provider: azure_openai
    base_url: https://a.openai.azure.com
    api_version: v1
    auth: {{api_key: "${{KEY}}"}}
    deployments: [{{model: gpt-4o, name: d, tpm: 1000, rpm: 60, connections_max: 9, concurrent: 1}}]
  b:
    cloud: azure
    provider: azure_openai
    base_url: https://b.openai.azure.com
    api_version: v1
    auth: {{api_key: "file:secret"}}
    deployments: [{{model: gpt-4o, name: d}}]
workloads: {{api: {{placement: {{rule: exclusive, cloud: azure}}}}}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("from-a-file")
    file = tmp_path / "router.yaml"
    file.write_text(FILE.format(workers=3))
    return file


def test_each_worker_has_a_share_of_what_is_for_all_rounded_up(file: Path) -> None:
    snapshot = load(file, {"KEY": "k"})
    deployment = snapshot.deployments["a/d"]

    assert (snapshot.server.workers, snapshot.server.connections_max) == (3, 334)
    assert snapshot.server.buffered_bytes_max == -(-(1 << 30) // 3)
    assert (deployment.connections_max, deployment.concurrent_max) == (3, 1)
    limits = snapshot.limits
    assert (limits.concurrency_start, limits.concurrency_min, limits.waiting_max) == (34, 2, 3)
    assert (deployment.tpm, deployment.rpm) == (1000, 60), "what is spent of these is told to each other"
    assert snapshot.deployments["b/d"].concurrent_max is None


def test_auto_is_one_for_each_core_that_may_be_used(file: Path) -> None:
    file.write_text(FILE.format(workers="auto"))
    assert load(file, {"KEY": "k"}).server.workers == len(os.sched_getaffinity(0))


def test_auto_means_what_it_meant_at_the_start(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cores of a running process change: by `taskset`, by a container's neighbours. Its workers do not."""
    file.write_text(FILE.format(workers="auto"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    started = load(file, {"KEY": "k"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})

    for later in (load(file, {"KEY": "k"}, running=started), load(file, {}, source=started.source)):
        assert later.server == started.server
    assert [*differing(fixed_in(started), fixed_in(load(file, {"KEY": "k"})))] == ["server.workers"]


def test_auto_is_no_more_than_may_be_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(FILE.format(workers="auto").replace("1GiB", "64GiB"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(1000)))
    assert load(file, {"KEY": "k"}).server.workers == 256


@pytest.mark.parametrize(("total", "workers", "each"), [(10, 1, 10), (10, 3, 4), (1, 8, 1), (9, 3, 3)])
def test_a_share_is_never_nothing(total: int, workers: int, each: int) -> None:
    assert share(total, workers) == each


def test_whoever_is_handed_the_source_understands_the_same(file: Path) -> None:
    """Whatever file, environment and secrets have become since."""
    first = load(file, {"KEY": "k"})
    file.write_text("not even a configuration")
    (file.parent / "secret").unlink()

    again = load(file, {}, source=first.source)

    assert again == first
    assert again.source.references == {"${KEY}": "k", "file:secret": "from-a-file"}


def test_the_source_shows_no_secret(file: Path) -> None:
    source = load(file, {"KEY": "k-canary"}).source
    assert "canary" not in repr(replace(source))
    assert isinstance(source, Source)


def test_whoever_is_handed_the_source_reads_no_yaml(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is most of the work of a load, which each worker would do once more; lines and words are as they were read."""
    first = load(file, {"KEY": "k"})
    monkeypatch.setattr(YAML, "compose", None)

    again = load(file, {}, source=first.source)

    assert (again, again.warnings) == (first, first.warnings)
    with pytest.raises(ConfigError) as caught:
        load(file, {}, source=first.source, running=replace(first, server=replace(first.server, workers=2)))
    assert [(fault.path, fault.line) for fault in caught.value.faults] == [("server.workers", 2)]
