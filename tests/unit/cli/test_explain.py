"""`explain`, as people call it."""

import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from router.cli import main
from router.cli.explain import page
from router.config.explain import explain_request
from router.config.load import load
from router.config.moments import parse_moment

FILE = str(Path(__file__).parents[3] / "config" / "examples" / "first-refusal.yaml")
ENVIRON = {
    **dict.fromkeys(
        ("AZURE_EASTUS2_KEY", "AZURE_SWEDENCENTRAL_KEY", "ORACLE_KEY", "SOFTBANK_KEY", "COREWEAVE_KEY"), "x"
    ),
    "ACME_KEY_SHA256": "a" * 64,
    "EVALUATION_KEY_SHA256": "b" * 64,
    "RESEARCH_KEY_SHA256": "c" * 64,
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments], env=ENVIRON)


def test_the_candidates_come_in_order_with_what_was_removed() -> None:
    done = run(FILE, "--key", "research", "--model", "gpt-4o")

    assert done.exit_code == 0
    order = ["azure-swedencentral/gpt-4o", "oracle-frankfurt/meta.llama-3.3-70b-instruct", "azure-eastus2/gpt-4o-ptu"]
    places = [done.stdout.index(each) for each in order]
    assert places == sorted(places)
    assert re.search(r"^ +1 holder +azure-swedencentral/gpt-4o +azure +eu +standard, tier 1", done.stdout, re.MULTILINE)
    assert re.search(r"^ +azure-eastus2/gpt-4o-ptu +its zone us is not among eu", done.stdout, re.MULTILINE)
    assert re.search(r"^rule first_refusal:azure, version [0-9a-f]{12}", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("at", "rule"),
    [
        ("2025-12-31T23:59:59Z", "spread:azure+coreweave+oracle+softbank"),
        ("2026-01-01", "first_refusal:azure"),
        ("2031-02-01", "spread:azure+coreweave+oracle+softbank"),
    ],
)
def test_another_moment_may_have_another_rule(at: str, rule: str) -> None:
    shown = json.loads(run("--config", FILE, "--key", "evaluation", "--model", "gpt-4o", "--at", at, "--json").stdout)

    assert shown["rule"] == rule
    assert len(shown["schedule"]) == 3


def test_windows_are_told_in_their_order() -> None:
    told = run(FILE, "--key", "evaluation", "--model", "gpt-4o", "--at", "2027-01-01").stdout
    rules = [line.split(" from ")[0] for line in told.splitlines() if " from " in line]

    assert rules == [
        "before it: spread:azure+coreweave+oracle+softbank",
        "holds first_refusal:azure",
        "after it: spread:azure+coreweave+oracle+softbank",
    ]


def test_a_condition_that_is_not_met_is_said_to_be_not_met() -> None:
    done = run(FILE, "--key", "acme", "--model", "gpt-4o")

    line = "until the condition exclusivity-ends is declared met, which it is not yet; then first_refusal:azure"
    assert f"holds exclusive:azure from the beginning {line}" in done.stdout


def test_it_fits_a_terminal_of_80_columns() -> None:
    out = io.StringIO()
    snapshot = load(FILE, ENVIRON, parse_moment("2027-01-01"))
    Console(file=out, width=80).print(page(explain_request(snapshot, "evaluation", "gpt-4o", refusals={})))

    assert max(map(len, out.getvalue().splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        ((FILE, "--key", "acm", "--model", "gpt-4o"), "no key is named 'acm' (did you mean 'acme'?)", 1),
        ((FILE, "--key", "acme", "--model", "gpt4o"), "no model is named 'gpt4o' (did you mean 'gpt-4o'?)", 1),
        ((FILE, "--key", "acme", "--model", "gpt-4o", "--at", "soon"), "'soon' is no date", 2),
        ((FILE, "--key", "acme", "--model", "gpt-4o", "--config", FILE), "Give one of", 2),
        (("--key", "acme", "--model", "gpt-4o"), "Give one of", 2),
        (("--admin", "http://127.0.0.1:1", "--key", "a", "--model", "b", "--at", "2031-01-01"), "goes with a file", 2),
        (("--admin", "ftp://x", "--key", "a", "--model", "b"), "is no URL such as", 2),
        (("--admin", "http://127.0.0.1:1", "--key", "a", "--model", "b"), "does not answer as a router's", 1),
    ],
)
def test_a_slip_is_named(arguments: tuple[str, ...], message: str, status: int) -> None:
    done = run(*arguments)

    assert done.exit_code == status
    assert message in done.stderr
    assert not done.stdout


class Router(HTTPServer):
    """Stands for a control plane: answers once what it is told to, and keeps what it was asked."""

    status, body = 200, b""
    asked: dict[str, list[str]]
    token: str | None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            router = self.server
            assert isinstance(router, Router)
            url = urlsplit(self.path)
            assert url.path == "/explain"
            router.asked, router.token = parse_qs(url.query), self.headers["authorization"]
            self.send_response(router.status)
            self.end_headers()
            self.wfile.write(router.body)

        def log_message(self, *_: object) -> None:
            pass


@pytest.fixture
def control_plane() -> Iterator[Router]:
    with Router(("127.0.0.1", 0), Router.Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(router: Router, *more: str) -> Result:
    url = f"http://127.0.0.1:{router.server_port}"
    return run("--admin", url, "--key", "research", "--model", "gpt-4o", *more)


def test_a_running_router_tells_who_would_refuse_now(control_plane: Router) -> None:
    refusals = {"azure-swedencentral/gpt-4o": "throttled"}
    control_plane.body = json.dumps(
        explain_request(load(FILE, ENVIRON), "research", "gpt-4o", refusals=refusals)
    ).encode()
    done = ask(control_plane, "--token", "t0ken")

    assert (done.exit_code, done.stderr) == (0, "")
    assert re.search(r"azure-swedencentral/gpt-4o .* throttled *$", done.stdout, re.MULTILINE)
    assert re.search(r"oracle-frankfurt/meta.llama-3.3-70b-instruct .* ready *$", done.stdout, re.MULTILINE)
    assert control_plane.asked == {"key": ["research"], "model": ["gpt-4o"]}
    assert control_plane.token == "Bearer t0ken"


def test_the_token_may_stand_in_a_file_which_other_users_of_the_machine_cannot_read(
    control_plane: Router, tmp_path: Path
) -> None:
    control_plane.body = json.dumps(explain_request(load(FILE, ENVIRON), "research", "gpt-4o")).encode()
    (tmp_path / "token").write_text("t0ken\n")
    done = ask(control_plane, "--token-file", str(tmp_path / "token"))

    assert (done.exit_code, done.stderr) == (0, "")
    assert control_plane.token == "Bearer t0ken"


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (404, b'{"error": {"message": "no key is named \'x\'"}}', "answered 404: no key is named 'x'"),
        (401, b"{}", "answered 401: without a reason"),
        (200, b"[]", "answered 200: without a reason"),
        (200, b"<html>", "does not answer as a router's control plane"),
    ],
)
def test_what_a_router_refuses_is_said(control_plane: Router, status: int, body: bytes, message: str) -> None:
    control_plane.status, control_plane.body = status, body
    done = ask(control_plane)

    assert done.exit_code == 1
    assert message in done.stderr
    assert not done.stdout
