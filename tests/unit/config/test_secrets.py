"""Secrets never appear: not in a fault, not in a repr, not in what `check` prints."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from router.cli.check import check
from router.config.faults import ConfigError
from router.config.load import load
from tests.unit.config.workbench import ENVIRON, GOOD, Workbench

CANARY = "canary-7f3b"
# Every text of the file that could stand behind a reference, as its first and last character in GOOD.
TEXTS = [
    (match.start(2), match.end(2))
    for match in re.finditer(r"([\w-]+: |\[|, )((?:\"[^\"\n]*\")|[^\s{}\[\],:\"]+)(?=[\n,}\]])", GOOD)
    if not match[2].lstrip("-").isdigit()
]


def test_there_are_many_places_to_try() -> None:
    assert len(TEXTS) > 35


@pytest.mark.parametrize(("start", "end"), TEXTS)
def test_a_referenced_value_is_never_shown_wherever_it_stands(bench: Workbench, start: int, end: int) -> None:
    """A secret behind a reference in the wrong place is a fault, or is used; either way nobody reads it."""
    text = GOOD[:start] + '"${CANARY}"' + GOOD[end:]
    for value in (CANARY, f"https://{CANARY}.example.com/v1", f"u:{CANARY}@x\r\n"):
        shown = ""
        try:
            bench.load(text, {**ENVIRON, "CANARY": value})
        except ConfigError as error:
            shown = f"{error} {error!r} {error.faults!r}"
        assert CANARY not in shown


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a" * 64, CANARY),  # the key itself where its digest belongs
        ('{api_key: "${AZURE_KEY}"}', f"{{api_key: '{CANARY} '}}"),
        ('{api_key: "${AZURE_KEY}"}', f"{{apikey: {CANARY}}}"),
        ('{api_key: "${AZURE_KEY}"}', CANARY),
        ('{api_key: "${AZURE_KEY}"}', f"[{CANARY}]"),
        ("https://contoso.openai.azure.com", f"https://user:{CANARY}@contoso.openai.azure.com"),
        ("https://contoso.openai.azure.com", f"https://contoso.openai.azure.com/?key={CANARY}"),
        ("{x-team: one}", f'{{x-team: "{CANARY}\\n"}}'),
        ("{x-team: one}", f"{{authorization: {CANARY}}}"),
        ("  admin: 127.0.0.1:9090", f'  admin: 0.0.0.0:9090\n  admin_token: "{CANARY} x"'),
        ("tpm: 1000", f"tpm: {CANARY}"),
        ("{idle_s: 30}", CANARY),
    ],
)
def test_a_secret_written_out_is_not_shown_in_its_fault(bench: Workbench, old: str, new: str) -> None:
    _, faults = bench.broken(old, new)

    assert CANARY not in "\n".join(map(str, faults))


def test_a_snapshot_shows_no_secret(bench: Workbench) -> None:
    text = GOOD.replace("x-team: one", 'x-team: "${CANARY}"')
    text = text.replace("  admin: 127.0.0.1:9090", '  admin: 127.0.0.1:9090\n  admin_token: "${CANARY}"')
    snapshot = bench.load(text, {**ENVIRON, "CANARY": CANARY})

    assert snapshot.endpoints["eastus2"].credential.secret.reveal() == ENVIRON["AZURE_KEY"]  # it is there …
    assert snapshot.endpoints["eastus2"].headers["x-team"] == CANARY
    for shown in (repr(snapshot), str(snapshot), f"{snapshot}"):  # … and shown nowhere
        assert "canary" not in shown


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_check_prints_no_secret(bench: Workbench, monkeypatch: pytest.MonkeyPatch, options: list[str]) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    bench.load()

    done = CliRunner().invoke(check, [str(bench.file), *options])

    assert done.exit_code == 0
    assert "canary" not in done.output


WRITTEN = {
    "server.admin_token": ("  admin: 127.0.0.1:9090", f"  admin: 127.0.0.1:9090\n  admin_token: {CANARY}-and-long"),
    "tracing.headers.x-vendor": (
        "keys:",
        f"tracing: {{endpoint: 'https://t.example/v1', headers: {{x-vendor: '{CANARY}'}}}}\nkeys:",
    ),
    "redis.url": ("keys:", f"redis: {{url: 'rediss://:{CANARY}@r.example'}}\nkeys:"),
    "ledger.store": (
        "{dir: ledger}",
        f"{{dir: ledger, store: 'postgresql://u:{CANARY}@db.example/l?sslmode=verify-full'}}",
    ),
    "endpoints.eastus2.auth.api_key": ('"${AZURE_KEY}"', f'"{CANARY}"'),
    "endpoints.eastus2.proxy": (
        "    region: eastus2",
        f"    region: eastus2\n    proxy: 'http://u:{CANARY}@proxy.example:3128'",
    ),
}


@pytest.mark.parametrize("path", WRITTEN)
def test_a_secret_written_out_is_warned_of_and_not_shown(bench: Workbench, path: str) -> None:
    old, new = WRITTEN[path]
    assert GOOD.count(old) == 1
    warnings = bench.load(GOOD.replace(old, new)).warnings
    assert f"{path}: the secret stands in the file: write it as ${{NAME}} or file:PATH" in warnings
    assert CANARY not in "".join(warnings)
    referenced = bench.load(GOOD.replace(old, new.replace(CANARY, "${CANARY}")), {**ENVIRON, "CANARY": CANARY})
    assert not [warning for warning in referenced.warnings if "stands in the file" in warning]


def test_a_short_token_is_warned_of(bench: Workbench) -> None:
    for token, short in (("0123456789abcde", True), ("0123456789abcdef", False)):
        text = GOOD.replace("  admin: 127.0.0.1:9090", '  admin: 127.0.0.1:9090\n  admin_token: "${TOKEN}"')
        warnings = bench.load(text, {**ENVIRON, "TOKEN": token}).warnings
        assert any(warning.startswith("server.admin_token: is short") for warning in warnings) is short
        assert token not in "".join(warnings)


def test_a_file_reference_is_relative_to_the_configuration(tmp_path: Path, bench: Workbench) -> None:
    (tmp_path / "azure.key").write_text("from-a-file\n")
    snapshot = bench.load(GOOD.replace('"${AZURE_KEY}"', "file:azure.key"))

    secret = snapshot.endpoints["eastus2"].credential.secret
    assert secret is not None
    assert secret.reveal() == "from-a-file"


def test_another_secret_is_another_version(bench: Workbench) -> None:
    bench.load()
    assert load(bench.file, ENVIRON).version != load(bench.file, {**ENVIRON, "AZURE_KEY": "rotated"}).version
