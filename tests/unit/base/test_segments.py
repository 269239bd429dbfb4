"""Who may write into which folder."""

import os
from pathlib import Path

from router.base.segments import free_writer, lock_folder


def test_a_writer_is_named_anew_only_while_somebody_else_writes(tmp_path: Path) -> None:
    assert free_writer(str(tmp_path), "worker-0") == "worker-0"
    for name in ("worker-0", "worker-0.1"):
        (tmp_path / name).mkdir()
    first = lock_folder(tmp_path / "worker-0", "something")
    assert free_writer(str(tmp_path), "worker-0") == "worker-0.1"
    second = lock_folder(tmp_path / "worker-0.1", "something")
    assert free_writer(str(tmp_path), "worker-0") == "worker-0.2"
    os.close(first)
    assert free_writer(str(tmp_path), "worker-0") == "worker-0", "names are used again"
    os.close(second)
