"""A file that has changed is read once it stands still, and once."""

import os
from pathlib import Path

from router.config.snapshot import Source
from router.jobs.watching import Settling, look_at

OLD, HALF, NEW = ((1, 1, 10, 1),), ((1, 1, 4, 2),), ((1, 1, 12, 3),)


def test_what_changes_is_settled_once_when_two_looks_are_alike() -> None:
    settling = Settling(OLD)
    assert [settling.settled(seen) for seen in (OLD, OLD, HALF, NEW, NEW, NEW, NEW)] == [
        *(False, False),
        *(False, False, True),
        *(False, False),
    ]


def test_what_is_written_all_the_time_is_never_read_in_the_middle() -> None:
    settling = Settling(OLD)
    assert not any(settling.settled(((1, 1, size, size),)) for size in range(100))


def test_what_comes_back_is_what_is_known() -> None:
    """Somebody changed it and changed it back between two reloads: nothing is to be done."""
    settling = Settling(OLD)
    assert [settling.settled(seen) for seen in (NEW, OLD, OLD)] == [False, False, False]


def test_a_link_that_is_swapped_is_seen_and_so_is_a_file_that_is_gone(tmp_path: Path) -> None:
    """As Kubernetes changes a mounted ConfigMap: the name stays, and leads elsewhere."""
    for name in ("one", "two"):
        (tmp_path / name).write_text("same")
    link = tmp_path / "router.yaml"
    link.symlink_to("one")
    before = look_at([link])
    (tmp_path / "new").symlink_to("two")
    os.replace(tmp_path / "new", link)
    assert look_at([link]) != before
    link.unlink()
    assert look_at([link]) == ((),)


def test_all_that_was_read_is_looked_at(tmp_path: Path) -> None:
    source = Source("", {"file:key": "secret", "${NAME}": "x", "file:/etc/other": "y"}, files={"tls.pem": "…"})
    assert source.files_of(tmp_path / "router.yaml") == (
        tmp_path / "router.yaml",
        *sorted((tmp_path / "key", Path("/etc/other"), tmp_path / "tls.pem")),
    )
