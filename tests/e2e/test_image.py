"""The Dockerfile's steps without a container engine: in a clean folder, and what they made run as nobody in particular.

What this cannot show is the base image itself.
"""

import asyncio
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.config.keys import digest

ROOT = Path(__file__).parents[2]
USER = 10001
FILE = """
server: {{listen: 127.0.0.1:0, admin: 127.0.0.1:0, access_log: "-"}}
ledger: {{dir: {state}/ledger}}
decision_log: {{dir: {state}/decisions}}
keys: [{{name: k, workload: w, sha256: {digest}, models: ["*"]}}]
workloads: {{w: {{placement: {{rule: exclusive, cloud: azure}}}}}}
endpoints:
  a:
    cloud: azure
    provider: azure_openai
    base_url: http://127.0.0.1:9
    auth: {{api_key: secret}}
    emulated: true
    probe: false
    deployments: [{{name: d, model: m}}]
"""

pytestmark = pytest.mark.slow


def steps() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile, with what they say."""
    lines = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines.splitlines() if line.strip()]


def told(instruction: str) -> list[str]:
    return [said for name, said in steps() if name == instruction]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """What the steps of the first stage make, below a folder that stands for `/`."""
    place = Path(tempfile.mkdtemp(prefix="image-"))
    place.chmod(0o755)  # others run what is there
    environ = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(place)}
    environ |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    source = place / "src"
    source.mkdir()
    for instruction, said in steps()[: [name for name, _ in steps()].index("FROM", 1)]:
        if instruction == "ARG":
            name, _, value = said.partition("=")
            environ[name] = value.strip('"')
        elif instruction == "COPY":
            for name in said.split()[:-1]:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, source / name)
        elif instruction == "RUN":
            command = said.replace("/opt/", f"{place}/opt/").replace("/src/", f"{source}/")
            ended = subprocess.run(["sh", "-ec", command], cwd=source, env=environ, capture_output=True, text=True)
            assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    shutil.rmtree(source)
    shutil.rmtree(place / "opt/build")
    yield place
    shutil.rmtree(place)


def test_what_the_build_needs_is_let_in() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    copied = {name for said in told("COPY") if "--from" not in said for name in said.split()[:-1]}

    assert copied == let_in


def test_the_image_is_nobody_s_and_says_how_it_ends() -> None:
    assert told("USER") == [f"{USER}:{USER}"]
    assert told("STOPSIGNAL") == ["SIGTERM"]


def test_nothing_is_left_that_only_built_it(place: Path) -> None:
    packages = place / "opt/inference-router/lib/python3.11/site-packages"
    names = {each.name for each in packages.iterdir()}

    assert {"router", "uvloop", "asyncpg"} <= names
    assert not names & {"pip", "setuptools", "pytest"}
    assert sum(each.stat().st_size for each in packages.rglob("*") if each.is_file()) < 150 << 20


async def test_it_serves_with_a_read_only_tree_as_another_user(place: Path) -> None:
    if os.geteuid():
        pytest.skip("to be another user it must be begun as root")
    state, file = place / "state", place / "router.yaml"
    state.mkdir(mode=0o700)
    os.chown(state, USER, USER)
    file.write_text(FILE.format(state=state, digest=digest("sk").hex()))
    (entry,), (default,) = told("ENTRYPOINT"), told("CMD")[-1:]
    assert default == '["serve", "--config", "/etc/inference-router/router.yaml"]'
    command = place / "opt/inference-router/bin" / shlex.split(entry.strip("[]"))[0]
    drop = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    process = await asyncio.create_subprocess_exec(
        *(*drop, str(command), "serve", "--config", str(file)),
        env={"PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            line = b""
            while not line.startswith(b"ready: "):
                line = await process.stderr.readline()
                assert line, "it ended"
            reader, writer = await asyncio.open_connection("127.0.0.1", int(line.rpartition(b":")[2]))
            writer.write(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()
            process.send_signal(signal.SIGTERM)
            _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    assert {each.name for each in state.iterdir()} == {"ledger", "decisions"}
    written = [each for each in place.rglob("*") if each.lstat().st_uid == USER and not each.is_relative_to(state)]
    assert written == []
