"""Reloads by itself when the configuration's file, or one that it refers to, has become another one.

Files are looked at, not subscribed to: a mounted ConfigMap changes by a link that is swapped, and a network's file
system tells nobody. One that is still being written changes from one look to the next, so a reload waits for two looks
that are alike. What was refused is not tried again before it changes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from router.config.snapshot import Snapshot
from router.jobs.loops import Surprised, every

LOOK_EVERY_S: Final = 1.0

Sight: TypeAlias = tuple[tuple[int, ...], ...]
"""What tells one content of some files from another, file by file; an empty one is not there."""


class Settling:
    """Says when what is seen has changed and stands still."""

    def __init__(self, known: Sight) -> None:
        self._known = self._last = known

    def settled(self, seen: Sight) -> bool:
        """True once for each content that is another one than before."""
        still = seen == self._last
        self._last = seen
        if not still or seen == self._known:
            return False
        self._known = seen
        return True


class Watching:
    """The job of one process. What is in force says whether to look, and at which files: a reload may change both."""

    def __init__(
        self,
        file: Path,
        in_force: Callable[[], Snapshot],
        reload: Callable[[], Awaitable[object]],
        surprised: Surprised,
    ) -> None:
        self._file, self._in_force, self._reload, self._surprised = file, in_force, reload, surprised
        self._settling = Settling(())
        self._watched: tuple[Path, ...] = ()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.get_running_loop().create_task(
            every(LOOK_EVERY_S, "configuration's file", self._look, self._surprised)
        )

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        snapshot = self._in_force()
        if not snapshot.server.watch:
            self._watched = ()
            return
        files = snapshot.source.files_of(self._file)
        # A network's file system may take its time.
        seen = await asyncio.get_running_loop().run_in_executor(None, look_at, files)
        if files != self._watched:
            # Since they were read they may have changed already; then what they are now is not what is known.
            text = await asyncio.get_running_loop().run_in_executor(None, _text, self._file)
            self._watched, self._settling = files, Settling(seen if text == snapshot.source.text else ())
        elif self._settling.settled(seen):
            await self._reload()


def look_at(files: Sequence[Path]) -> Sight:
    """As the system has them now."""
    return tuple(_seen(file) for file in files)


def _seen(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
