"""Files that are written through memory: blocks reserved first, then mapped shared and filled by plain copies.

A copy is no system call, and its pages are the kernel's: whatever was copied is in the file when the process is killed.
A disk that is full shows while a segment is prepared, and never as SIGBUS in a copy.

One folder has one writer. Its segments are numbered without end; a number is never used twice.
"""

import itertools
import mmap
import os
import re
import time
from pathlib import Path
from typing import Final

SEGMENT_BYTES_MIN: Final = 64 << 10
SEGMENTS_KEPT_MIN: Final = 4  # the one written to, the one prepared, and at least one to read
_WRITER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ZEROS: Final = bytes(1 << 20)
_SEGMENT: Final = re.compile(r"(\d{8,})\.seg")
_FIRST_BYTES: Final = 4  # no writer's first four bytes are all zero


def check_segments(writer: str, segment_bytes: int, keep_bytes: int) -> None:
    """Raises ValueError for a name that is no writer's, and for sizes that cannot work."""
    if not _WRITER.fullmatch(writer) or writer in (".", ".."):
        raise ValueError(f"{writer!r} names no writer: use letters, digits, `_`, `.` and `-`")
    if segment_bytes < SEGMENT_BYTES_MIN:
        raise ValueError(f"segment_bytes is {segment_bytes}: at least {SEGMENT_BYTES_MIN}")
    if keep_bytes < SEGMENTS_KEPT_MIN * segment_bytes:
        raise ValueError(f"keep_bytes is {keep_bytes}: at least {SEGMENTS_KEPT_MIN} segments of {segment_bytes}")


class Segment:
    """A file of reserved blocks, mapped. Raises OSError where the disk does not have them.

    `lasting`: its blocks are on the disk, so that a sync of what was copied writes nothing but that.
    """

    def __init__(self, folder: Path, number: int, size: int, *, lasting: bool = False) -> None:
        self.number, self.size = number, size
        self.path = segment_path(folder, number)
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            os.posix_fallocate(self.fd, 0, size)
            # Pages that exist when the mapping first touches them cost the path a tenth (ext4: 0.15 µs and not 1 to 4).
            for offset in range(0, size, len(_ZEROS)):
                os.pwrite(self.fd, _ZEROS[: size - offset], offset)
            if lasting:
                os.fsync(self.fd)
            self.mapping = mmap.mmap(self.fd, size)
        except OSError as error:
            self.discard()
            raise OSError(error.errno, f"{size} bytes for {self.path}: {os.strerror(error.errno or 0)}") from error

    def discard(self) -> None:
        """For one that was never used, and is not mapped any more."""
        os.close(self.fd)
        self.path.unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        return self.mapping.closed

    def finish(self, written: int, *, sync: bool = True) -> None:
        """Gives back all but the first `written` bytes, and syncs those. Raises OSError."""
        # Unmapping holds the interpreter's lock, 2 ms for 64 MiB of pages: in slices, so that the loop may run between.
        for offset in range(0, self.size, len(_ZEROS)):
            self.mapping.madvise(mmap.MADV_DONTNEED, offset, min(len(_ZEROS), self.size - offset))
            time.sleep(0)
        self.mapping.close()
        try:
            os.ftruncate(self.fd, written)
            if sync:
                os.fdatasync(self.fd)
        finally:
            os.close(self.fd)


def segments_in(folder: Path) -> list[tuple[int, Path]]:
    """The segment files of one writer, by number."""
    return sorted((int(match[1]), path) for path in folder.iterdir() if (match := _SEGMENT.fullmatch(path.name)))


def written_segments(folder: Path) -> list[tuple[int, Path]]:
    """Those that were written to when this was called: each but the last is then complete, also of a running writer."""
    found = segments_in(folder)
    while found and not is_begun(found[-1][1]):
        found.pop()
    return found


def is_begun(path: Path) -> bool:
    """Whether anything was written to it; else it is being prepared, prepared, or given up since the disk is full."""
    try:
        with path.open("rb") as file:
            return any(file.read(_FIRST_BYTES))
    except FileNotFoundError:
        return False


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.seg"


def lock_folder(folder: Path, what: str) -> int:
    """Makes this process the folder's only writer, for as long as the descriptor is open.

    Raises OSError where another one is; `what` it writes is for the error's text.
    """
    import fcntl  # which Windows has not: there nothing is written so

    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise OSError(error.errno, f"another process writes {what} in {folder}") from error
    return fd


def free_writer(folder: str, name: str) -> str:
    """A writer's name that no process has at this moment: the name itself, or with `.1`, `.2` … behind it.

    The first that is free, so that their folders are as many as there ever were such writers at once.
    """
    for number in itertools.count():
        writer = f"{name}.{number}" if number else name
        place = Path(folder) / writer
        if not place.exists():
            return writer
        try:
            os.close(lock_folder(place, "something"))
        except BlockingIOError:
            continue
        return writer
    raise AssertionError


def sync_folder(folder: Path) -> None:
    """Puts the names in it on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
