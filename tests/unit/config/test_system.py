"""What a system lacks is said when the file is read."""

import os
import select
import socket
from pathlib import Path

import pytest

from router.config.faults import ConfigError
from router.config.load import load

FILE = """
server: {listen: 127.0.0.1:0, admin: 127.0.0.1:0, workers: WORKERS}
keys: [{name: k, workload: w, sha256: HASH, models: ["*"]}]
workloads: {w: {placement: {rule: exclusive, cloud: azure}}}
endpoints:
  a:
    cloud: azure
    provider: azure_openai
    base_url: https://a.openai.azure.com
    auth: {api_key: "${KEY}"}
    deployments: [{name: d, model: m}]
"""


def faults_of(tmp_path: Path, more: str = "", workers: str = "1") -> list[tuple[str, str]]:
    file = tmp_path / "router.yaml"
    file.write_text(FILE.replace("WORKERS", workers).replace("HASH", "6d" * 32) + more)
    try:
        load(file, {"KEY": "k"})
    except ConfigError as error:
        return [(fault.path, fault.message) for fault in error.faults]
    return []


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, names in ((os, "fork posix_fallocate"), (socket, "SO_REUSEPORT"), (select, "poll POLLRDHUP")):
        for name in names.split():
            monkeypatch.delattr(module, name)


def test_nothing_is_amiss_on_linux(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "ledger: {dir: l}\ndecision_log: {dir: d}", workers="2") == []


@pytest.mark.usefixtures("windows")
@pytest.mark.parametrize(
    ("more", "workers", "path", "words"),
    [
        ("", "2", "server.workers", "os.fork, socket.SO_REUSEPORT): use 1"),
        ("ledger: {dir: l}", "1", "ledger", "os.posix_fallocate): leave it out"),
        ("decision_log: {dir: d}", "1", "decision_log", "os.posix_fallocate): leave it out"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, more: str, workers: str, path: str, words: str) -> None:
    ((where, why),) = faults_of(tmp_path, more, workers)

    assert where == path
    assert why.endswith(words)


@pytest.mark.usefixtures("windows")
def test_sockets_that_are_looked_into_are_refused(tmp_path: Path) -> None:
    lines = "{listen: 127.0.0.1:0, proxy_protocol: true, trusted_proxies: [127.0.0.0/8], "
    file = tmp_path / "router.yaml"
    file.write_text(FILE.replace("{listen: 127.0.0.1:0, ", lines).replace("WORKERS", "1").replace("HASH", "6d" * 32))

    with pytest.raises(ConfigError) as caught:
        load(file, {"KEY": "k"})

    assert [fault.path for fault in caught.value.faults] == ["server.proxy_protocol"]


@pytest.mark.usefixtures("windows")
def test_as_many_workers_as_can_be_is_one(tmp_path: Path) -> None:
    assert faults_of(tmp_path, workers="auto") == []
