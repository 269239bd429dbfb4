"""A worker's process: `python -m router.supervisor INDEX CHANNEL LISTENER...`, the latter as open descriptors.

Signals are for the supervisor: where a terminal or an init system signals every process, there must be one drain and
not two. They are let pass before all that takes a second to import.
"""

import signal
import sys
from importlib import import_module


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    index, line, *listeners = map(int, sys.argv[1:])
    status: int = import_module("router.supervisor.child").run(index, line, listeners)
    return status


if __name__ == "__main__":
    sys.exit(main())
