"""What /proc tells about a server: its processes, their processor time, memory and wake-ups."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

PROC = Path("/proc")
PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""


def tree(root: int) -> set[int]:
    """Return `root` and all its descendants."""
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text(errors="replace")
            except OSError:
                continue  # It ended between the listing and the reading.
            # The name in parentheses may hold anything; the fields after it may not.
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(folder.name))
    found, new = set(), [root] if (PROC / str(root)).exists() else []
    while new:
        pid = new.pop()
        found.add(pid)
        new += children.get(pid, [])
    return found


def title(pid: int) -> str:
    """Return the command line of a process, or the title that it gave itself."""
    return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def processor_time(pids: set[int]) -> int:
    """Return the nanoseconds that the processes' threads have run, in the kernel and out of it.

    The first number of /proc/PID/task/TID/schedstat is the scheduler's own account. The user and system times of
    /proc/PID/stat are the same account split in two and rounded down to ticks of 10 ms for each process, which is
    much when a round is 1 s long. Threads and processes that end take their account along: measure only servers
    whose processes stay.
    """
    return sum(
        int(schedstat.read_text().split()[0])
        for pid in pids
        for schedstat in (PROC / str(pid) / "task").glob("*/schedstat")
    )


def private_bytes(pid: int) -> int:
    """Return the memory that would come free if this process ended: pages that it shares with nobody."""
    lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


def wake_ups(pid: int) -> int:
    """Return how many times the threads of a process have given up the processor: each time it was woken before."""
    return sum(
        int(line.split()[1])
        for status in (PROC / str(pid) / "task").glob("*/status")
        for line in status.read_text().splitlines()
        if "ctxt_switches:" in line
    )


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, so that none of them gets out of sight."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    """Kill whatever is left of all that this process started, and wait until it is gone."""
    with contextlib.suppress(ChildProcessError):  # There are no more.
        while True:
            for pid in tree(os.getpid()) - {os.getpid()}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)
