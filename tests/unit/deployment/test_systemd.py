"""The unit and its socket: systemd itself reads them, where it is installed; and the numbers that must agree."""

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from router.config.schema import ServerSection

FOLDER = Path(__file__).parents[3] / "config" / "systemd"
EXPOSURE_MAX = 1.5  # of 10, by systemd's own count


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(FOLDER / f"inference-router.{name}")
    return parser


def analyze(tmp_path: Path, *arguments: str) -> str:
    if shutil.which("systemd-analyze") is None:
        assert "CI" not in os.environ, "systemd-analyze is missing"
        pytest.skip("needs systemd-analyze")
    for name in ("service", "socket"):
        text = (FOLDER / f"inference-router.{name}").read_text()
        # That the program is there is not for here to say.
        (tmp_path / f"inference-router.{name}").write_text(
            text.replace("/opt/inference-router/bin/inference-router", "/bin/true")
        )
    files = [str(tmp_path / f"inference-router.{name}") for name in ("service", "socket")]
    files = files[:1] if arguments[0] == "security" else files
    environ = {**os.environ, "SYSTEMD_COLORS": "0"}
    ended = subprocess.run(["systemd-analyze", *arguments, *files], capture_output=True, text=True, env=environ)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def test_systemd_has_nothing_to_say_against_them(tmp_path: Path) -> None:
    said = analyze(tmp_path, "verify", "--man=no", "--generators=no")

    assert "inference-router" not in said


def test_little_of_the_machine_is_open_to_it(tmp_path: Path) -> None:
    said = analyze(tmp_path, "security", "--offline=true", "--no-pager")

    exposure = float(said.rpartition("exposure level for ")[2].split(":")[1].split()[0])
    assert exposure <= EXPOSURE_MAX


def test_streams_are_not_cut_off_by_the_service_manager() -> None:
    service, default = unit("service")["Service"], ServerSection()

    assert int(service["TimeoutStopSec"]) > default.drain_s + default.drain_delay_s
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "all"  # the router that follows at an upgrade is no child of systemd's
    assert service["LimitCORE"] == "0"


def test_the_socket_is_taken_for_the_data_plane() -> None:
    section = unit("socket")["Socket"]

    assert section["FileDescriptorName"] != "admin"
    assert section["ListenStream"].endswith(":8080")
