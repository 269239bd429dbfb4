"""Where large objects live, if the C library is glibc; with another one nothing is done.

A body that comes out of the heap costs least, since its pages have been used before; but what a burst has made of the
heap stays with the process. A mapping of its own goes back to the kernel when the body is freed, and its pages are made
anew each time: a fifth more CPU for 128 KB. So it is the heap while bodies are few, and mappings while they are many.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Final

CROWDED_BYTES: Final = 8 << 20  # of bodies at once: what the heap may keep of a burst
CALM_BYTES: Final = CROWDED_BYTES // 4
MAPPED_BYTES: Final = 64 << 10  # in a crowd, what is larger is a mapping; more mappings than the kernel allows are far
# mallopt(3). Who sets one of these ends glibc's own moving of both: it learns from the first large body that is freed
# to keep all the later ones.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_HEAP_BYTES_MAX: Final = 32 << 20  # the highest threshold that glibc takes
_SPARE_BYTES: Final = CROWDED_BYTES  # kept at the heap's end, or each large body that is freed there would shrink it
_SPARE_BYTES_CROWDED: Final = 1 << 20


class Heap:
    """The one of this process. What it sets holds for every thread."""

    def __init__(self) -> None:
        self.crowded = False
        self._littered = False  # by a crowd: free pages between what lives
        self._set, self._trim = _glibc()
        self._make_calm()

    def crowd(self) -> None:
        """There are more than CROWDED_BYTES of bodies: what comes now is to be given back at once."""
        if not self.crowded:
            self.crowded = self._littered = True
            self._set(_TRIM_THRESHOLD, _SPARE_BYTES_CROWDED)
            self._set(_MMAP_THRESHOLD, MAPPED_BYTES)

    def look(self, held_bytes: int, *, idle: bool) -> None:
        """Takes a crowd for over, or begun, by the bodies that are held now. To be called now and then.

        `idle`: no request runs, so that nobody waits for the 2 ms that it takes to sweep up, once after a crowd.
        """
        if held_bytes > CROWDED_BYTES:
            self.crowd()
        elif self.crowded and held_bytes < CALM_BYTES:
            self.crowded = False
            self._make_calm()
        if idle and self._littered and not self.crowded:
            self._littered = False
            self._trim(0)

    def _make_calm(self) -> None:
        self._set(_TRIM_THRESHOLD, _SPARE_BYTES)
        self._set(_MMAP_THRESHOLD, _HEAP_BYTES_MAX)


def map_large() -> None:
    """From now on each large object of this process is a mapping of its own, for those who have few and hold none long.

    Else glibc learns to keep them in the heap, where the next small ones move in between, and it never shrinks again.
    """
    setting, _ = _glibc()
    setting(_MMAP_THRESHOLD, MAPPED_BYTES)


def _glibc() -> tuple[Callable[[int, int], int], Callable[[int], int]]:
    """Returns mallopt and malloc_trim, or what does nothing: others have none, or number the options otherwise."""
    library = None if sys.platform == "win32" else ctypes.CDLL(None)
    if library is None or not hasattr(library, "gnu_get_libc_version"):
        return lambda *_: 0, lambda _: 0
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library.mallopt, library.malloc_trim
