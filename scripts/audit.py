"""`make audit`: asks PyPI's advisories, by pip-audit, about every package of the lock file.

Exit status 0: all were looked up, and none has a known vulnerability; 1: some have; 2: not all could be looked up,
which is no success. pip-audit itself ends with 0 where the service knows none of the packages.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from scripts.lockfile import ROOT, read_lock

WITHIN_S: Final = 600
CLEAN: Final = 0
VULNERABLE: Final = 1
NOT_AUDITED: Final = 2
_COMMAND: Final = ("-m", "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json")


def audit(lock: Path) -> tuple[int, str]:
    """The exit status, and what to say."""
    packages = sorted({pin.name.lower() for pin in read_lock(lock)})
    try:
        run = subprocess.run(
            [sys.executable, *_COMMAND, "--requirement", str(lock)], capture_output=True, text=True, timeout=WITHIN_S
        )
    except subprocess.TimeoutExpired:
        return NOT_AUDITED, f"NOT AUDITED: the advisories did not answer within {WITHIN_S} s"
    try:
        dependencies = json.loads(run.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return NOT_AUDITED, f"NOT AUDITED: {_last_line(run.stderr)}"
    return verdict(dependencies, packages)


def verdict(dependencies: Sequence[dict[str, Any]], packages: Sequence[str]) -> tuple[int, str]:
    """What pip-audit's report comes to. `packages`: all of the lock file, in lower case."""
    found = [
        f"{each['name']} {each['version']}: {bad['id']}, mended in {', '.join(bad['fix_versions']) or 'no version yet'}"
        for each in dependencies
        for bad in each.get("vulns", ())
    ]
    audited = {each["name"].lower() for each in dependencies if "skip_reason" not in each}
    missing = [name for name in packages if name not in audited]
    if found:
        return VULNERABLE, "\n".join([*found, *(_unknown(missing, packages) if missing else ())])
    if missing:
        return NOT_AUDITED, "\n".join(_unknown(missing, packages))
    return CLEAN, f"{len(packages)} packages, none with a known vulnerability"


def _unknown(missing: Sequence[str], packages: Sequence[str]) -> list[str]:
    which = "none" if len(missing) == len(packages) else f"all but {', '.join(missing)}"
    return [f"NOT AUDITED: of {len(packages)} packages the advisory service told of {which}: ask where it is reached"]


def _last_line(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "pip-audit said nothing")


if __name__ == "__main__":
    status, said = audit(ROOT / (sys.argv[1] if len(sys.argv) > 1 else "requirements.lock"))
    print(said, file=sys.stderr if status else sys.stdout)
    sys.exit(status)
