"""`inference-router top`: what it prints, and what it says when there is nothing to print."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from router.cli.top import page, top

SPREAD = {"p50_ms": 40.0, "p99_ms": 1500.0}
NAME = "east/[/b]<script>"


def picture(**more: Any) -> dict[str, Any]:
    standing = {"state": "ejected", "reason": "server_error", "for_s": 12.4}
    stand = {"id": NAME, "cloud": "azure", "model": "gpt-4o", "standing": standing}
    placing = {"name": "internal", "rule": "first_refusal:azure"}
    proof = {"placement_violations": 0, "decision_log": True, "signed": True, "records": 1234, "dropped": 0,
             "anchor_failures": 0}  # fmt: skip
    return {
        "over_s": 5.0,
        "config_version": "c0ffee",
        "client_connections": 3,
        "proof": proof,
        "workers": [{"worker": "0", "up": True}, {"worker": "1", "up": False}],
        "workloads": [
            {
                "placing": placing,
                "in_flight": 2,
                "outcomes": {"ok": 20.0, "refused": 1.5},
                "first_byte": SPREAD,
                "prompt_tokens": 2000.0,
                "completion_tokens": 100.0,
                "usd_per_h": 7.5,
            }
        ],
        "flows": [{"workload": "internal", "cloud": "oracle", "requests": 20.0}],
        "deployments": [
            {
                "stand": stand,
                "in_flight": 1,
                "in_flight_max": 8,
                "outcomes": {"served": 3.0},
                "first_byte": {"p50_ms": None, "p99_ms": None},
                "quota_left": {"tokens": 0.25},
            }
        ],
        "refusals": [
            {"workload": "internal", "cloud": "azure", "reason": "over_quota", "rate": 2.5, "total": 1000},
        ],
        "limits": [
            {
                "scope": "key",
                "name": "acme",
                "limit": "day_usd",
                "left": 0.03,
                "refused": 1.5,
                "total": 42,
                "shadowed": 7,
            },
        ],
        "ledger": {
            "up": False,
            "waiting_bytes": 3 << 20,
            "held_bytes": 0,
            "dropped": 0,
            "cost_today_usd": 1234.5,
        },
        "waiting": {"gpt-4o": 4},
        "first_byte": SPREAD,
        "recent": [
            {
                "id": "req_1",
                "workload": "",
                "served_by": "",
                "status": 503,
                "code": "no_capacity",
                "outcome": "refused",
                "refusals": [["east/a", "azure", "throttled"], ["east/b", "azure", "throttled"]],
                "total_ms": 3.0,
            }
        ],
        **more,
    }


def printed(shown: dict[str, Any], trouble: str = "") -> str:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(page(shown, trouble))
    return capture.get()


def test_all_that_matters_is_there() -> None:
    text = printed(picture())
    for wanted in (
        "✓ placement violations 0",
        "1,234 records",
        "! 2 workers, down: 1",
        NAME,
        "ejected  server error, 12 s left",
        "oracle 20.0/s  1.5 refused",
        "t 25%",
        "over quota",
        "1,000",
        "no valid key",
        "nowhere  503 no capacity",
        "azure throttled",
        "cost/h $7.50",
        "waiting 4",
        "! ledger away, 3.0 MiB wait",
        "today $1,234.50",
        "key acme: day usd",
        "3%",
        "42",
    ):
        assert wanted in text, wanted


def test_the_books_are_good_where_all_that_is_used_reaches_them() -> None:
    ledger = picture()["ledger"]
    assert "✓ ledger up  " in printed(picture(ledger={**ledger, "up": True}))
    assert "! ledger up, 9 requests lost" in printed(picture(ledger={**ledger, "up": True, "dropped": 9}))
    assert "! ledger up, 4,096 bytes in memory" in printed(picture(ledger={**ledger, "up": True, "held_bytes": 4096}))
    none = printed(picture(ledger=None, limits=[]))
    assert "ledger" not in none
    assert "today" not in none
    assert "limits" not in none


def test_a_violation_is_no_good_sign() -> None:
    shown = picture()
    shown["proof"]["placement_violations"] = 2
    assert "! placement violations 2" in printed(shown)


def test_a_log_that_nobody_signs_is_no_proof() -> None:
    shown = picture()
    assert "✓ decision log 1,234 records, 0 dropped" in printed(shown)
    shown["proof"]["signed"] = False
    assert "○ decision log 1,234 records, unsigned, 0 dropped" in printed(shown)
    shown["proof"]["dropped"] = 3
    assert "! decision log 1,234 records, unsigned, 3 dropped" in printed(shown)
    shown["proof"] |= {"decision_log": False, "dropped": 0}
    assert "! decision log off, 0 dropped" in printed(shown)


def test_what_is_not_known_yet_is_no_zero() -> None:
    assert "requests/s –" in printed(picture(over_s=None))


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """A control plane that always says the same, and the tokens that it was shown. Status 0: it hangs up."""
    shown: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(self.headers.get("Authorization", ""))
            if not status:
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", shown
    server.shutdown()
    thread.join()
    server.server_close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(top, ["--once", *arguments])


def test_one_look_with_the_token_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n", "utf-8")
    with answering(200, json.dumps(picture()).encode()) as (url, shown):
        result = run("--admin", url, "--token-file", str(tmp_path / "token"))
    assert (result.exit_code, shown) == (0, ["Bearer s3cret"])
    assert NAME in result.output


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"{}", "wants its token: give --token-file"),
        (401, b'{"error":{"code":"unauthorized"}}', "wants its token: give --token-file"),
        (401, b'{"error":{"code":"invalid_api_key"}}', "is where clients ask: give the address of `server.admin`"),
        (401, b'{"error":"no', "wants its token"),
        (404, b"{}", "answered 404"),
        (200, b"<html>", "did not answer with JSON"),
        (200, b"[]", "is no router's control plane"),
    ],
)
def test_what_is_no_picture_is_told_in_a_line(status: int, body: bytes, said: str) -> None:
    with answering(status, body) as (url, _):
        result = run("--admin", url)
    assert result.exit_code == 1
    assert said in result.output
    assert len(result.output.splitlines()) == 1


def test_nobody_at_the_address() -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        result = run("--admin", f"http://127.0.0.1:{bound.getsockname()[1]}")
    assert (result.exit_code, "cannot be reached: Connection refused" in result.output) == (1, True)
    assert run("--admin", "localhost:9090").exit_code == 2


def test_the_token_goes_nowhere_but_to_the_router(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither along with a redirect nor to a proxy of the environment."""
    (tmp_path / "token").write_text("s3cret")
    with answering(200, b"{}") as (elsewhere, seen), answering(302, b"", Location=f"{elsewhere}/live") as (url, shown):
        monkeypatch.setenv("http_proxy", elsewhere)
        result = run("--admin", url, "--token-file", str(tmp_path / "token"))
    assert (result.exit_code, seen, shown) == (1, [], ["Bearer s3cret"])
    assert "answered 302" in result.output


def test_a_router_that_hangs_up_is_no_crash() -> None:
    """As one does that restarts: `top` waits for it."""
    with answering(0, b"") as (url, _):
        result = run("--admin", url)
    assert result.exit_code == 1
    assert "cannot be reached" in result.output
