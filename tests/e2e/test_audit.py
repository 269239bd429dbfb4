"""The commands over a log on a disk: new-key, verify, report."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router.cli import main
from router.config.load import load
from router.model.decision import Decision, Leave, Offer
from router.proxy.runtime import described
from router.telemetry.anchors import read_anchors
from router.telemetry.decision_log import DecisionLog, DecisionLogSettings

ROOT = Path(__file__).parents[2]
REFUSED = (Offer("azure-1/ptu", "azure", "throttled"), Offer("azure-2/std", "azure", "slow"))
ORACLE = Offer("oracle-1/llama", "oracle", "accepted")
HELD = {
    "workload": "internal",
    "model": "gpt-4o",
    "operation": "chat",
    "rule_version": "v1",
    "holder": "azure",
    "deployments": ["azure-1/ptu", "azure-2/std"],
}
INTERNAL = ("k", "internal", "gpt-4o", "chat", "first_refusal:azure", "v1")
API = ("k", "api", "gpt-4o", "chat", "exclusive:azure", "v2")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


class Site:
    """A folder with a log of 20 api and 10 internal requests, its key, and its anchors in another place."""

    def __init__(self, folder: Path) -> None:
        self.log_folder, self.anchors, self.key = folder / "log", folder / "anchors.jsonl", folder / "key"
        assert run("audit", "new-key", self.key).exit_code == 0
        self.settings = DecisionLogSettings(
            str(self.log_folder), 64 << 10, 1 << 20, str(self.anchors), signing_key=str(self.key)
        )
        self.segment = self.log_folder / "0" / "00000001.seg"

    def write(self, more: Callable[[DecisionLog], None] = lambda log: None, *, close: bool = True) -> DecisionLog:
        log = DecisionLog(self.settings)
        log.write_event("configuration", version="a", holders=[HELD])
        now = time.time()
        for number in range(20):
            log.write(
                Decision(f"a{number}", now, *API, (Offer("azure-2/std", "azure", "accepted"),), "x", "azure", "ok")
            )
        for number in range(10):
            log.write(Leave(f"i{number}", now, *INTERNAL, REFUSED, "oracle-1/llama", "oracle"))
            log.write(Decision(f"i{number}", now, *INTERNAL, (*REFUSED, ORACLE), "oracle-1/llama", "oracle", "ok"))
        more(log)
        if close:
            log.close()
        return log

    def verify(self, *arguments: str) -> Result:
        return run(
            "audit", "verify", self.log_folder, "--anchors", self.anchors, "--public-key", f"{self.key}.pub", *arguments
        )

    def chain(self) -> dict[str, Any]:
        answer = json.loads(self.verify("--json").stdout)
        (found,) = answer["writers"]
        return dict(found)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_log_that_nobody_touched_is_good(site: Site) -> None:
    site.write()
    done = site.verify()

    assert done.exit_code == 0, done.output
    assert "good: nothing was found" in done.stdout
    assert "their signatures are right" in done.stdout
    assert "unanchored tail: 0 records, 0.0 s" in done.stdout
    assert "requests: 30, of which 20 under an exclusive rule" in done.stdout
    assert "first refusal: 10 requests, of which 10 left the holder; 0 of these without an end" in done.stdout


def test_verifying_needs_the_public_key_alone(site: Site) -> None:
    site.write()
    site.key.unlink()
    assert site.verify().exit_code == 0


def test_a_changed_byte_is_named_with_its_place(site: Site) -> None:
    site.write()
    data = site.segment.read_bytes()
    offset = data.index(b'["request","a7"')
    line = data.rindex(b"\n", 0, offset) + 1
    site.segment.write_bytes(data.replace(b'["request","a7"', b'["request","aX"'))

    done = site.verify()
    assert done.exit_code == 1
    assert f"changed: record 10 is not what was written (segment 1, byte {line}, record 10)" in done.stdout
    assert "NOT GOOD" in done.stdout


def test_a_log_that_was_put_back_to_an_older_copy_is_found(site: Site, tmp_path: Path) -> None:
    site.write()
    shutil.copytree(site.log_folder, tmp_path / "copy")
    site.write()
    shutil.rmtree(site.log_folder)
    shutil.move(tmp_path / "copy", site.log_folder)

    done = site.verify()
    assert done.exit_code == 1
    assert "but record" in done.stdout
    assert "was anchored" in done.stdout


def test_a_log_that_is_gone_is_found(site: Site) -> None:
    site.write()
    shutil.rmtree(site.log_folder / "0")
    done = site.verify()
    assert done.exit_code == 1
    assert "writer 0 was anchored, and has no segments here" in done.stdout


def test_a_whole_new_log_disagrees_with_the_anchors(site: Site) -> None:
    site.write()
    shutil.rmtree(site.log_folder)
    forged = DecisionLogSettings(str(site.log_folder), 64 << 10, 1 << 20)
    log = DecisionLog(forged)
    for number in range(100):
        log.write(Decision(f"a{number}", 1.0, *API, (Offer("azure-2/std", "azure", "accepted"),), "x", "azure", "ok"))
    log.close()
    assert "is not the anchored one" in site.verify().stdout


@pytest.mark.parametrize(("signed", "said"), [(True, "not checked: no --public-key"), (False, "are not signed")])
def test_what_is_known_of_signatures_without_a_key_is_said(site: Site, signed: bool, said: str) -> None:
    if not signed:
        site.settings = replace(site.settings, signing_key=None)
    site.write()
    done = run("audit", "verify", site.log_folder, "--anchors", site.anchors)
    assert done.exit_code == 0
    assert said in done.stdout


def test_anchors_of_another_key_prove_nothing(site: Site, tmp_path: Path) -> None:
    site.write()
    run("audit", "new-key", tmp_path / "other")
    done = run(
        "audit", "verify", site.log_folder, "--anchors", site.anchors, "--public-key", tmp_path / "other.pub", "--json"
    )
    assert done.exit_code == 1
    faults = json.loads(done.stdout)["faults"]
    assert any("which was not given" in fault for fault in faults)
    assert "writer 0 has no signed anchor" in faults


def test_a_forged_anchor_is_named_by_its_line(site: Site) -> None:
    site.write()
    lines = site.anchors.read_text().splitlines()
    forged = lines[-1].replace('"sequence":', '"sequence":1')
    site.anchors.write_text("\n".join([*lines, forged, "no anchor"]) + "\n")

    faults = json.loads(site.verify("--json").stdout)["faults"]
    assert faults == [
        f"{site.anchors}:{len(lines) + 1}: its signature is wrong",
        f"{site.anchors}:{len(lines) + 2}: a line that is no anchor",
    ]


def test_the_unanchored_tail_is_stated_and_a_torn_record_is_no_fault(site: Site) -> None:
    program = (
        "import os, sys\n"
        "from router.model.decision import Decision\n"
        "from router.telemetry.decision_log import DecisionLog, DecisionLogSettings\n"
        "log = DecisionLog(DecisionLogSettings(sys.argv[1], 65536, 1 << 20, sys.argv[2], signing_key=sys.argv[3]))\n"
        "log.anchor()\n"
        "for n in range(5):\n"
        "    log.write(Decision(f'r{n}', 1.0, 'k', 'api', 'm', 'chat', 'spread:a', 'v', (), '', '', 'refused'))\n"
        "log._mapping[log._position:log._position + 9] = b'7 [\"reques'[:9]\n"
        "os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", program, site.log_folder, site.anchors, site.key]
    assert subprocess.run(command, check=False).returncode == -9

    done = site.verify()
    assert done.exit_code == 0, done.output
    assert "unanchored tail: 5 records" in done.stdout
    assert "the last record is not whole (9 bytes)" in done.stdout
    site.write()
    assert site.verify().exit_code == 0


def test_a_log_can_be_verified_while_it_is_written(site: Site) -> None:
    log = site.write(close=False)
    log.anchor()
    log.write(Leave("open", 1.0, *INTERNAL, REFUSED, "oracle-1/llama", "oracle"))

    done = site.verify()
    assert done.exit_code == 0, done.output
    assert "unanchored tail: 1 record," in done.stdout
    assert (
        "first refusal: 11 requests, of which 11 left the holder; 1 of these without an end in the log" in done.stdout
    )
    log.close()


def test_an_anchors_file_of_two_logs_is_told_of(site: Site, tmp_path: Path) -> None:
    site.write()
    site.settings = replace(site.settings, folder=str(tmp_path / "other"))
    site.write()

    done = site.verify()

    assert done.exit_code == 1
    assert "was anchored before, with another hash: rewritten, or the file served two logs" in done.stdout


def test_an_anchor_that_is_just_being_written_is_none_yet(site: Site) -> None:
    site.write()
    site.write()
    whole = site.anchors.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(2, len(lines[-1])):
        read = read_anchors(whole[:-cut])
        assert [(number, anchor is not None) for number, anchor in read] == [(n, True) for n in range(1, len(lines))]
    site.anchors.write_bytes(whole[:-40])

    done = site.verify()
    assert done.exit_code == 0, done.output
    assert "unanchored tail: 43 records" in done.stdout
    site.write()  # the next one begins a line of its own, and the half one is named from then on
    assert f"{site.anchors}:{len(lines)}: a line that is no anchor" in site.verify().stdout


def test_a_log_that_rolls_and_is_pruned_verifies_at_any_moment(site: Site) -> None:
    """Sixteen segments are kept, and hundreds are written while they are read."""
    done = threading.Event()

    def write() -> None:
        log = DecisionLog(site.settings)
        log.write_event("configuration", version="a", holders=[HELD])
        for number in range(20_000):
            if number % 20 == 0:
                time.sleep(0.001)  # so that segments are prepared as fast as they are filled
            log.write(Decision(f"r{number}", 1.0, *API, (), "", "", "refused"))
            if number % 1000 == 0:
                log.anchor()
        log.close()
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    checks = 0
    while not done.is_set():
        if site.anchors.exists() and site.anchors.stat().st_size:
            told = site.verify()
            assert told.exit_code == 0 or (told.exit_code == 2 and "call again" in told.stderr), told.output
            checks += told.exit_code == 0
    writer.join()
    assert checks > 1
    chain = site.chain()
    assert chain["findings"] == []
    assert chain["deleted"] == chain["segments"][0] - 1 > 0


def test_violations_and_departures_are_reported_with_their_place(site: Site) -> None:
    def more(log: DecisionLog) -> None:
        log.write(Decision("bad", 1.0, *API, (ORACLE,), "oracle-1/llama", "oracle", "ok"))
        log.write(Decision("sly", 1.0, *INTERNAL, (ORACLE,), "oracle-1/llama", "oracle", "ok"))

    site.write(more)
    found = site.chain()["findings"]
    assert [(each["kind"], each["sequence"]) for each in found] == [("exclusivity", 43), ("departure", 44)]
    data = site.segment.read_bytes()
    assert data[found[0]["offset"] :].startswith(b'43 ["request","bad"')
    assert "exclusivity: request bad under exclusive:azure was offered to oracle" in site.verify().stdout


def test_what_the_router_says_of_its_configuration_is_what_the_audit_reads(tmp_path: Path) -> None:
    file = ROOT / "config" / "examples" / "first-refusal.yaml"
    names = re.findall(r"\$\{(\w+)\}", file.read_text("utf-8"))
    snapshot = load(str(file), {name: hashlib.sha256(name.encode()).hexdigest() for name in names})
    plan = next(plan for plan in snapshot.plans.values() if plan.holder)
    held = [each for tier in plan.tiers[: plan.holder_tiers] for each in tier]
    asked = ("k", plan.workload, plan.model, plan.operation, plan.reason, plan.permit.rule_version)
    refused = tuple(Offer(each.id, each.cloud, "busy") for each in held)

    log = DecisionLog(DecisionLogSettings(str(tmp_path)))
    log.write_event("configuration", **described(snapshot))
    log.write(Leave("whole", 1.0, *asked, refused, "o/l", "other"))
    log.write(Leave("short", 1.0, *asked, refused[1:], "o/l", "other"))
    log.close()

    (chain,) = json.loads(run("audit", "verify", tmp_path, "--json").stdout)["writers"]
    (found,) = chain["findings"]
    assert f"request short went to other under {plan.reason}, and no refusal of {held[0].id}" in found["text"]


def test_two_workers_have_a_chain_each(site: Site) -> None:
    site.write()
    other = DecisionLog(site.settings, writer="1")
    other.write(Decision("b", 1.0, *API, (), "", "", "refused"))
    other.close()
    assert [each["writer"] for each in json.loads(site.verify("--json").stdout)["writers"]] == ["0", "1"]
    assert run("audit", "verify", site.log_folder / "1", "--anchors", site.anchors).exit_code == 1  # 0 is not there


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["audit", "verify", "{empty}"], "holds no decision log"),
        (["audit", "verify", "{empty}/absent"], "does not exist"),
        (["audit", "verify", "{log}", "--public-key", "{key}"], "there is no"),
        (["audit", "verify", "{log}", "--anchors", "{anchors}", "--public-key", "{key}"], "is no Ed25519 public key"),
        (["report", "refusals"], "say either --dir or --config"),
        (["report", "refusals", "--dir", "{log}", "--since", "yesterday"], "is no duration"),
        (["report", "refusals", "--dir", "{log}", "--by", "colour"], "'colour' is none of reason, cloud"),
        (["report", "refusals", "--dir", "{empty}"], "holds no decision log"),
    ],
)
def test_what_cannot_be_done_is_said_with_status_2(site: Site, tmp_path: Path, arguments: list[str], text: str) -> None:
    site.write()
    (tmp_path / "empty").mkdir()
    places = {"empty": tmp_path / "empty", "log": site.log_folder, "key": site.key, "anchors": site.anchors}
    done = run(*(argument.format(**places) for argument in arguments))
    assert done.exit_code == 2
    assert text in done.stderr


def test_a_narrow_terminal_gets_lines_that_break_between_words(site: Site) -> None:
    site.write()
    here, there = os.openpty()
    narrow = {**os.environ, "COLUMNS": "60"}
    command = [sys.executable, "-m", "router", "audit", "verify", str(site.log_folder), "--anchors", str(site.anchors)]
    subprocess.run(command, stdout=there, env=narrow, check=True, timeout=30)
    os.close(there)
    shown = re.sub(r"\x1b\[\d*m", "", os.read(here, 65536).decode())
    os.close(here)

    assert max(map(len, shown.splitlines())) <= 60
    assert "left the holder; 0 of these without" in " ".join(shown.split())


def test_a_key_is_never_written_over(site: Site) -> None:
    done = run("audit", "new-key", site.key)
    assert done.exit_code == 1
    assert "keys are never written over" in done.stderr
    assert os.stat(site.key).st_mode & 0o777 == 0o600


def test_the_report_adds_up_as_json_csv_and_table(site: Site) -> None:
    site.write()
    told = run("report", "refusals", "--dir", site.log_folder, "--by", "cloud,reason", "--format", "json")
    assert told.exit_code == 0, told.output
    azure, oracle = json.loads(told.stdout)
    assert (azure["cloud"], azure["requests"], azure["offers"], azure["accepted"]) == ("azure", 30, 40, 20)
    assert (azure["refused"], azure["throttled"], azure["slow"], azure["unhealthy"]) == (20, 10, 10, 0)
    assert (oracle["offers"], oracle["accepted"], oracle["refused"]) == (10, 10, 0)

    told = run("report", "refusals", "--dir", site.log_folder, "--by", "model", "--format", "csv")
    assert list(csv.DictReader(told.stdout.splitlines())) == [
        {"model": "gpt-4o", "requests": "30", "offers": "50", "accepted": "30", "refused": "20"}
    ]

    table = run("report", "refusals", "--dir", site.log_folder, "--since", "90m").stdout
    assert "throttled" in table
    assert "unhealthy" not in table  # nobody refused for it
    assert [line.split()[:2] for line in table.splitlines() if line.startswith("azure")] == [["azure", "gpt-4o"]]


def test_the_report_leaves_out_what_is_older(site: Site) -> None:
    log = DecisionLog(site.settings)
    log.write(Decision("old", time.time() - 7200, *API, REFUSED, "", "", "refused"))
    log.close()
    assert "No offer in that time" in run("report", "refusals", "--dir", site.log_folder, "--since", "1h").stdout
    assert "gpt-4o" in run("report", "refusals", "--dir", site.log_folder, "--since", "3h").stdout


def test_the_report_warns_of_a_log_that_was_changed(site: Site) -> None:
    site.write()
    site.segment.write_bytes(site.segment.read_bytes().replace(b'"a7"', b'"aX"'))
    done = run("report", "refusals", "--dir", site.log_folder)
    assert done.exit_code == 0
    assert "is not as it was written: see `audit verify`" in done.stderr
