"""`make sbom`: what the router is made of, as CycloneDX 1.6 JSON on standard output; `--licences`: as a table.

Made from the lock file alone, so the same lock gives the same bytes; licences are what the installed packages declare.
"""

import importlib.metadata
import json
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any, Final

from scripts.lockfile import ROOT, Pin, read_lock

_LICENCE_CLASSIFIER: Final = "License :: "
_EXPRESSION_MAX: Final = 60  # longer: somebody has put the licence's text there


def bom(lock: Path) -> dict[str, Any]:
    """The bill of materials of what a lock file holds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = sorted(read_lock(lock), key=lambda pin: pin.name)
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, lock.read_text(encoding='utf-8'))}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": project["version"],
                "purl": own,
            }
        },
        "components": [_component(pin) for pin in pins],
        "dependencies": [
            {"ref": own, "dependsOn": [_purl(pin) for pin in pins]},
            *({"ref": _purl(pin)} for pin in pins),
        ],
    }


def licence_of(name: str) -> str:
    """What a package says of itself: an SPDX expression where it has one. Empty where it is not installed here."""
    try:
        about = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    expression = about.get("License-Expression") or ""
    written = (about.get("License") or "").strip()
    if not expression and written and len(written) <= _EXPRESSION_MAX and "\n" not in written:
        expression = written
    classified = [line for line in about.get_all("Classifier") or () if line.startswith(_LICENCE_CLASSIFIER)]
    return expression or ", ".join(line.rpartition(" :: ")[2] for line in classified)


def _component(pin: Pin) -> dict[str, Any]:
    licence = licence_of(pin.name)
    return {
        "type": "library",
        "bom-ref": _purl(pin),
        "name": pin.name,
        "version": pin.version,
        "purl": _purl(pin),
        "hashes": [{"alg": "SHA-256", "content": content} for content in pin.hashes],
        **({"licenses": [{"license": {"name": licence}}]} if licence else {}),
    }


def _purl(pin: Pin) -> str:
    return f"pkg:pypi/{pin.name.lower().replace('_', '-')}@{pin.version}"


if __name__ == "__main__":
    lock_file = ROOT / "requirements.lock"
    if "--licences" in sys.argv:
        for pinned in read_lock(lock_file):
            print(f"{pinned.name:28} {pinned.version:12} {licence_of(pinned.name) or 'not installed here'}")
    else:
        print(json.dumps(bom(lock_file), indent=2))
