"""The lock file, the bill of materials that is made of it, and an audit that never claims more than it has seen."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts import audit, sbom
from scripts.audit import CLEAN, NOT_AUDITED, VULNERABLE, verdict
from scripts.lockfile import ROOT, read_lock

LOCKS = sorted(ROOT.glob("requirements*.lock"))
PACKAGES = ["aiohttp", "uvloop"]


def looked_up(name: str, *ids: str) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [{"id": each, "fix_versions": ["1.1"]} for each in ids]}


def skipped(name: str) -> dict[str, Any]:
    return {"name": name, "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_package_is_pinned_with_hashes(lock: Path) -> None:
    pins = list(read_lock(lock))
    assert len(pins) == len(re.findall(r"^[a-z0-9].*==", lock.read_text(), re.MULTILINE | re.IGNORECASE)) > 20
    assert len({pin.name for pin in pins}) == len(pins)


def test_a_package_without_a_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.lock").write_text("aiohttp==3.14.0\n    # via x\n")
    with pytest.raises(ValueError, match="aiohttp has no hash"):
        list(read_lock(tmp_path / "x.lock"))


def test_an_audit_is_clean_when_all_were_looked_up() -> None:
    assert verdict([looked_up("aiohttp"), looked_up("Uvloop")], PACKAGES)[0] == CLEAN


@pytest.mark.parametrize(
    "report",
    [[], [looked_up("aiohttp")], [looked_up("aiohttp"), skipped("uvloop")], [skipped(name) for name in PACKAGES]],
)
def test_what_was_not_looked_up_is_no_success(report: list[dict[str, Any]]) -> None:
    """pip-audit says "No known vulnerabilities found" of packages that its service does not know."""
    status, said = verdict(report, PACKAGES)
    assert status == NOT_AUDITED
    assert said.startswith("NOT AUDITED")


def test_a_vulnerability_is_named_beside_what_is_not_known() -> None:
    status, said = verdict([looked_up("aiohttp", "GHSA-1"), skipped("uvloop")], PACKAGES)
    assert status == VULNERABLE
    assert "aiohttp 1.0: GHSA-1, mended in 1.1" in said
    assert "NOT AUDITED" in said


def test_a_tool_that_fails_has_audited_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.lock").write_text(f"aiohttp==3.14.0 \\\n    --hash=sha256:{'a' * 64}\n")
    monkeypatch.setattr(audit, "_COMMAND", ("-c", "import sys; sys.exit('no route to the service')"))
    assert audit.audit(tmp_path / "x.lock") == (NOT_AUDITED, "NOT AUDITED: no route to the service")


def test_the_bill_names_each_package_of_the_lock_once_and_is_the_same_each_time() -> None:
    made = sbom.bom(ROOT / "requirements.lock")
    pins = {pin.name: pin for pin in read_lock(ROOT / "requirements.lock")}
    assert {each["name"]: each["version"] for each in made["components"]} == {
        name: pin.version for name, pin in pins.items()
    }
    references = [each["bom-ref"] for each in made["components"]]
    assert len(set(references)) == len(references)
    assert made["dependencies"][0]["dependsOn"] == references
    assert {each["alg"] for part in made["components"] for each in part["hashes"]} == {"SHA-256"}
    assert json.dumps(sbom.bom(ROOT / "requirements.lock")) == json.dumps(made)


def test_every_licence_is_known_and_asks_nothing_of_who_only_runs_it() -> None:
    licences = {pin.name: sbom.licence_of(pin.name) for pin in read_lock(ROOT / "requirements.lock")}
    assert [name for name, licence in licences.items() if not licence] == []
    assert [name for name, licence in licences.items() if re.search(r"\b(A|L)?GPL|Affero|SSPL", licence)] == []


def test_the_bill_is_valid_by_its_schema() -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    text = json.dumps(sbom.bom(ROOT / "requirements.lock"))
    assert validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(text) is None
