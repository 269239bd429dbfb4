"""TLS by the real programs: the router's own command with two workers, curl and openssl, and a reload by SIGHUP."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.e2e.workers import until, workers
from tests.router_kit import API_KEY, Cloud
from tests.tls_kit import Authority

CHAT = '{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}'
missing = [name for name in ("curl", "openssl") if shutil.which(name) is None and "CI" not in os.environ]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"{missing} are not installed")


async def run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode is not None
    return process.returncode, out.decode()


async def curl(port: int, authority: Authority, *more: str) -> tuple[int, str]:
    """Exit status, and the answer's status behind its body."""
    key = () if "--cert" in more else ("-H", f"Authorization: Bearer {API_KEY}")
    url = f"https://localhost:{port}/v1/chat/completions"
    return await run(
        *("curl", "-sS", "-w", " %{http_code} %{http_version}", "--cacert", str(authority.file), "-d", CHAT),
        *("-H", "Content-Type: application/json", *key, *more, url),
    )


async def test_workers_serve_curl_take_new_certificates_at_sighup_and_come_back_with_the_old_ones(
    tmp_path: Path,
) -> None:
    """A worker that is killed while the files are half replaced starts with what was checked."""
    ours, clients = Authority(tmp_path), Authority(tmp_path, "clients")
    own, shown = ours.issue("server"), clients.issue("shown", "client.example")
    tls = {"certificate": str(own.certificate), "key": str(own.key), "client_ca": str(clients.file)}
    keys = [
        {"name": "curl", "workload": "api", "certificates": [shown.fingerprint], "models": ["*"]},
        {"name": "api", "workload": "api", "sha256": _digest(), "models": ["*"]},
    ]
    async with workers(tmp_path, Cloud("azure"), server={"tls": tls}, keys=keys) as r:
        for more in (
            (),
            ("--cert", str(shown.certificate), "--key", str(shown.key)),
            ("--http2",),
            ("--tls-max", "1.2"),
        ):
            status, out = await curl(r.port, ours, *more)
            assert (status, out[-8:]) == (0, " 200 1.1"), out
        status, out = await run(
            *("openssl", "s_client", "-connect", f"localhost:{r.port}", "-CAfile", str(ours.file)),
            *("-servername", "localhost", "-verify_return_error", "-alpn", "h2,http/1.1"),
        )
        assert "ALPN protocol: http/1.1" in out
        assert "Verification: OK" in out

        new = Authority(tmp_path, "new")
        own.certificate.write_text("-----BEGIN CERTIFICATE-----\nhalf of one")
        os.kill(r.pids[0], signal.SIGKILL)
        await until(lambda: r.metric_is("router_worker_restarts_total", 1))
        await until(lambda: r.metric_is("router_worker_up", 2))
        for _ in range(8):
            assert (await curl(r.port, ours))[0] == 0, "both have the certificate that was checked"

        r.process.send_signal(signal.SIGHUP)
        await until(lambda: r.events("reload_refused"))
        assert "server.tls.certificate" in str(r.events("reload_refused"))

        new.issue("server")
        r.process.send_signal(signal.SIGHUP)
        await until(lambda: r.events("reloaded"))
        for _ in range(8):
            assert (await curl(r.port, new))[0] == 0
        status, out = await curl(r.port, ours)
        assert (status, "certificate" in out) == (60, True), out
        assert await r.metric("router_tls_handshakes_total", result="ok") >= 12


def _digest() -> str:
    from router.config.keys import digest

    return digest(API_KEY).hex()
