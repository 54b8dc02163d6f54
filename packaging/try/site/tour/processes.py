"""The pool as /proc shows it, found by the titles that preforkd gives its processes."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process of preforkd."""

    pid: int
    title: str
    resident_mib: float


def siblings(pid: int) -> list[Process]:
    """Return the processes that have the same parent as `pid`: the pool's workers, its mold, and so on."""
    parent = _status(Path(f"/proc/{pid}"))["PPid"]
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            status = _status(folder)
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # It ended between the listing and the reading.
        if status.get("PPid") == parent and title.startswith("preforkd:"):
            found.append(Process(int(folder.name), title, int(status.get("VmRSS", "0 kB").split()[0]) / 1024))
    return sorted(found, key=lambda process: (process.title, process.pid))


def _status(folder: Path) -> dict[str, str]:
    lines = (folder / "status").read_text(errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
