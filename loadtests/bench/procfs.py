"""What the kernel knows: CPU time and memory of a process tree, and the time that other guests had."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
BOOKKEEPER: Final = "router.ledger.bookkeeper"  # as its command line has it


@dataclass(frozen=True, slots=True)
class MachineTime:
    """Ticks of all cores since the machine started."""

    total: int
    steal: int
    busy: int  # neither idle, waiting for a disk, nor stolen

    def steal_share_since(self, before: "MachineTime") -> float:
        """The share of the machine's time since `before` that another guest had; 0 when no tick has passed."""
        total = self.total - before.total
        return (self.steal - before.steal) / total if total > 0 else 0.0

    def foreign_share_since(self, before: "MachineTime", own_s: float) -> float:
        """The share that programs other than the benchmark's took, which had `own_s` seconds. Interrupts are in it."""
        total = self.total - before.total
        foreign = self.busy - before.busy - own_s * TICKS_PER_S
        return max(0.0, foreign / total) if total > 0 else 0.0


def parse_machine_time(stat: str) -> MachineTime:
    """Reads the `cpu` line of /proc/stat. guest and guest_nice are already in user and nice."""
    fields = [int(field) for field in stat.split("\n", 1)[0].split()[1:9]]
    total, idle, disk, steal = sum(fields), fields[3], fields[4], fields[7]
    return MachineTime(total, steal, busy=total - idle - disk - steal)


def parse_cpu_ticks(stat: str) -> tuple[int, int]:
    """Reads /proc/PID/stat: (own user and system ticks, those of children that it has waited for)."""
    fields = stat[stat.rindex(")") + 2 :].split()  # the name in brackets may itself hold spaces and brackets
    utime, stime, cutime, cstime = (int(field) for field in fields[11:15])
    return utime + stime, cutime + cstime


def parse_run_ns(schedstat: str) -> int:
    """Reads /proc/PID/task/TID/schedstat: nanoseconds on a core, user and system."""
    return int(schedstat.split()[0])


def parse_pss_bytes(smaps_rollup: str) -> int:
    """Reads /proc/PID/smaps_rollup: memory with each shared page divided among those who share it."""
    for line in smaps_rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("smaps_rollup has no Pss line")


def machine_time() -> MachineTime:
    return parse_machine_time((PROC / "stat").read_text())


def tree(pid: int) -> list[int]:
    """The process and all its living descendants."""
    found = [pid]
    for parent in found:
        for task in _tasks(parent):
            found.extend(int(child) for child in _read(task / "children").split())
    return found


def name(pid: int) -> str:
    """What a process is called; nothing when it has ended."""
    return _read(PROC / str(pid) / "comm").strip()


def workers(pid: int) -> list[int]:
    """Of a supervisor's tree those of its workers, which go by that name."""
    return [member for member in tree(pid) if name(member).startswith("worker-")]


def serving(pid: int) -> list[int]:
    """Of the tree those that serve requests: all but the ledger's bookkeeper, which stores what was served."""
    return [member for member in tree(pid) if not _keeps_books(member)]


def bookkeeping_s(pid: int) -> float:
    """Seconds of CPU of the ledger's bookkeeper in a process tree, since it started; 0 where there is none."""
    return sum(_cpu_s(member) for member in tree(pid) if _keeps_books(member))


def cpu_s(pid: int) -> float:
    """Seconds of CPU, user and system, of those of a process tree that serve requests, since they started."""
    return sum(map(_cpu_s, serving(pid)))


def _keeps_books(pid: int) -> bool:
    return BOOKKEEPER in _read(PROC / str(pid) / "cmdline")


def _cpu_s(pid: int) -> float:
    """Seconds of one process and of its children that have ended.

    A process's ticks forget nothing and are coarse (10 ms); the scheduler's nanoseconds are exact and forget threads
    that have ended. The larger of the two is never more than a tick below the truth.
    """
    stat = _read(PROC / str(pid) / "stat")
    if not stat:
        return 0.0  # ended since the tree was read; its parent has its ticks
    own, waited_for = parse_cpu_ticks(stat)
    run_ns = sum(parse_run_ns(text) for task in _tasks(pid) if (text := _read(task / "schedstat")))
    return max(own / TICKS_PER_S, run_ns / 1e9) + waited_for / TICKS_PER_S


def main_thread_s(pid: int) -> float:
    """Seconds of CPU of a process's first thread since it started."""
    return parse_run_ns(_read(PROC / str(pid) / "task" / str(pid) / "schedstat") or "0") / 1e9


def pss_bytes(pids: Iterable[int]) -> int:
    """Proportional memory of processes; of those that have ended meanwhile, none."""
    texts = (_read(PROC / str(pid) / "smaps_rollup") for pid in pids)
    return sum(parse_pss_bytes(text) for text in texts if text)


def open_files(pid: int) -> int:
    """How many; none where it has ended."""
    try:
        return len(os.listdir(PROC / str(pid) / "fd"))
    except FileNotFoundError:
        return 0


def _tasks(pid: int) -> list[Path]:
    try:
        return list((PROC / str(pid) / "task").iterdir())
    except FileNotFoundError:
        return []


def _read(path: Path) -> str:
    """A file of /proc, or nothing when its process has ended meanwhile."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
