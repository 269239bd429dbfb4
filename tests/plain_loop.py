"""A plugin: the tests as on a system that has neither uvloop nor winloop.

Say `make unit ARGS='-p tests.plain_loop tests/unit'`. What a test starts as a process of its own is not changed by it.
"""

import sys

from router.base.loops import FAST

for _name in FAST:
    sys.modules[_name] = None  # type: ignore[assignment]  # an import of it fails, as where it is not installed
