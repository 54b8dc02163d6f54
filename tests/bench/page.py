"""The page of results: tables, and whether each target is met."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from statistics import median

TITLES = {
    "new": "hello, new connections",
    "queued": "hello, new connections, more clients than workers",
    "kept": "hello, kept connections",
}
FLOOR, OURS, PHP_FPM, UWSGI = "floor", "preforkd", "php-fpm", "uWSGI"
CPLUSPLUS, DIRECT, PHP_CGI = "preforkd, C++", "spawn-fcgi and multiwatch, C++", "preforkd, php-cgi"


def between(reports: dict[str, list[dict]], name: str, base: str, compare) -> float | None:
    """Return the median of what `compare` makes of two contestants within the rounds."""
    pairs = list(zip(reports.get(name, []), reports.get(base, [])))
    return median(compare(own, other) for own, other in pairs) if pairs else None


def ratio(reports: dict[str, list[dict]], name: str, base: str) -> float | None:
    """Return the median of the ratios of processor time within the rounds."""
    return between(reports, name, base, lambda own, other: own["cpu"] / other["cpu"])


class Page:
    """Collects the parts in the order they are measured."""

    def __init__(self):
        self.parts: list[str] = []
        self.targets: list[tuple[str, float, float, str]] = []

    def target(self, what: str, limit: float, value: float | None, form: str) -> None:
        """Add a target if its value was measured: `value` may be at most `limit`."""
        if value is not None:
            self.targets.append((what, limit, value, form))

    def table(self, title: str, note: str, head: list[str], rows: list[list[str]]) -> None:
        """Add a table whose first column is text and whose others are numbers."""
        lines = [f"## {title}", "", note, ""] if note else [f"## {title}", ""]
        lines += [f"| {' | '.join(row)} |" for row in ([head] + [["---"] + ["--:"] * (len(head) - 1)] + rows)]
        self.parts.append("\n".join(lines))

    def hello(self, mode: str, reports: dict[str, list[dict]], names: list[str], note: str) -> None:
        """Add the table of one mode, and its targets."""
        rows = []
        for name in names:
            rounds = reports.get(name)
            if rounds is None:
                rows.append([name, "not supported"] + ["–"] * 5)
                continue
            rate, p50, p99, cpu = (median(report[key] for report in rounds) for key in ("rate", "p50", "p99", "cpu"))
            ratios = [ratio(reports, name, base) for base in (FLOOR, PHP_FPM)]
            row = [name, f"{rate:,.0f}", f"{p50:,.0f}", f"{p99:,.0f}", f"{cpu:.1f}"]
            rows.append(row + ["–" if value is None else f"{value:.2f}" for value in ratios])
        head = ["server", "requests/s", "p50 µs", "p99 µs", "CPU µs/request", "CPU ÷ floor", "CPU ÷ php-fpm"]
        self.table(TITLES[mode].capitalize(), note, head, rows)
        new = [(FLOOR, 1.3), (UWSGI, 0.7)]
        limits = {"new": new, "queued": new, "kept": [(FLOOR, 1.8), (PHP_FPM, 0.5)]}
        for base, limit in limits[mode]:
            what = f"{TITLES[mode]}: CPU per request ÷ {base}'s"
            self.target(what, limit, ratio(reports, OURS, base), ".2f")

    def programs(self, mode: str, reports: dict[str, list[dict]], note: str) -> None:
        """Add the table of programs in one mode, and its targets."""
        rows = []
        for name, rounds in reports.items():
            rate, p50, p99, cpu = (median(report[key] for report in rounds) for key in ("rate", "p50", "p99", "cpu"))
            rows.append([name, f"{rate:,.0f}", f"{p50:,.0f}", f"{p99:,.0f}", f"{cpu:.1f}"])
        title = f"Programs, {TITLES[mode]}"
        self.table(title, note, ["server", "requests/s", "p50 µs", "p99 µs", "CPU µs/request"], rows)
        more = between(reports, CPLUSPLUS, DIRECT, lambda own, other: own["cpu"] - other["cpu"])
        self.target(f"{title}: CPU per request, C++, more than directly in µs", 20, more, ".1f")
        # Within 35 %: at least 0.65 of its rate.
        slower = between(reports, PHP_CGI, PHP_FPM, lambda own, other: other["rate"] / own["rate"])
        self.target(f"{title}: php-fpm's rate ÷ that of php-cgi", 1.54, slower, ".2f")

    def program_bursts(self, results: dict[str, dict], note: str) -> None:
        """Add the table of bursts on programs, and its targets."""
        title = "Programs, burst, dynamic"
        self.burst_table(title, results, note)
        if CPLUSPLUS in results:
            self.target(f"{title}: p99 of C++ in ms", 300, results[CPLUSPLUS]["p99"], ".0f")
        if PHP_CGI in results and PHP_FPM in results:
            value = results[PHP_CGI]["p99"] / results[PHP_FPM]["p99"]
            self.target(f"{title}: p99 of php-cgi ÷ php-fpm's", 0.2, value, ".2f")

    def relays(self, results: dict[str, float], note: str) -> None:
        """Add the table of private memory of workers of programs, and its targets."""
        rows = [[name, f"{megabytes:.2f}"] for name, megabytes in results.items()]
        self.table("Private memory of a worker before a program", note, ["server", "MB"], rows)
        for name, megabytes in results.items():
            self.target(f"private memory of a worker before a program in MB, {name}", 1.5, megabytes, ".2f")

    def burst(self, pm: str, results: dict[str, dict], note: str) -> None:
        """Add the table of bursts of one kind of pool, and its target."""
        self.burst_table(f"Burst, {pm}", results, note)
        if OURS in results:
            limit = {"dynamic": 300, "ondemand": 400}[pm]
            self.target(f"burst, {pm}: p99 in ms", limit, results[OURS]["p99"], ".0f")

    def burst_table(self, title: str, results: dict[str, dict], note: str) -> None:
        """Add a table of bursts."""
        rows = [
            [name, *(f"{result[key]:,.0f}" for key in ("p50", "p99", "max")), f"{result['workers']}"]
            for name, result in results.items()
        ]
        self.table(title, note, ["server", "p50 ms", "p99 ms", "max ms", "workers after it"], rows)

    def memory(self, results: dict[str, list[float]], ours: str, note: str) -> None:
        """Add the table of private memory of two sites, and the target of the first; `ours` is what it is about."""
        rows = [[name, *(f"{megabytes:.1f}" for megabytes in of_sites)] for name, of_sites in results.items()]
        self.table("Private memory of a Django worker", note, ["server", "empty site, MB", "tour, MB"], rows)
        if ours in results:
            self.target("private memory of a worker of an empty Django site in MB", 5, results[ours][0], ".1f")

    def idle(self, results: dict[str, int], note: str) -> None:
        """Add the table of wake-ups, and its target."""
        rows = [[name, str(count)] for name, count in results.items()]
        self.table("Wake-ups of the idle master", note, ["server", "wake-ups"], rows)
        self.target("wake-ups of the idle master", 0, results.get(OURS), "d")

    def text(self) -> str:
        """Return the whole page."""
        targets = ["| target | limit | measured | |", "|---|--:|--:|---|"] + [
            f"| {what} | ≤ {limit:g} | {value:{form}} | {'met' if value <= limit else '**missed**'} |"
            for what, limit, value, form in self.targets
        ]
        head = f"# preforkd beside its peers\n\nMeasured by `tests/bench/run.sh` on {machine()}."
        return "\n\n".join([head, "\n".join(targets), *self.parts]) + "\n"


def machine() -> str:
    """Say when and on what the page was measured."""
    packages = ["php8.2-fpm", "uwsgi-core", "python3"]
    versions = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *packages], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    today = time.strftime("%Y-%m-%d", time.gmtime())
    cores = len(os.sched_getaffinity(0))
    return f"{today}, {cores} cores, Linux {platform.release()}, {', '.join(filter(None, versions))}"
