"""The first moments of a worker's process."""

import subprocess
import sys


def test_nothing_slow_is_imported_before_signals_are_let_pass() -> None:
    """A log's rotation that signals every process of the service would end each that is just starting."""
    code = "import sys, router.supervisor.__main__; print('asyncio' in sys.modules, 'router.worker' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
