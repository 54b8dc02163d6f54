"""preforkd beside its peers: measure, compare, print one page of Markdown and write it to a file.

Servers drift together on a shared machine, so contestants take turns in short rounds and every ratio is the median
of the ratios within a round. What is compared is the processor time of the server for each request: it is steadier
than a rate, and it is what a larger machine would multiply.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import processes
import servers
from page import Page
from servers import Bench, Pool, Server

HERE = Path(__file__).resolve().parent
SITE = HERE.parent.parent / "packaging/try/site"
WORKERS = 4
CLIENTS = {"new": WORKERS, "queued": 2 * WORKERS, "kept": WORKERS}
"""Clients by mode. A new connection finds a worker that waits for it; when queued, workers find connections that wait."""
BURST_CLIENTS = 50
BURST_CHILDREN = 64
IDLE_WORKERS = 200
IDLE_SECONDS = 10


def hello(bench: Bench, kinds, modes, rounds: int, seconds: float) -> dict[str, dict[str, list[dict]]]:
    """Let the contestants take turns; return the report of each round by mode and name."""
    reports: dict[str, dict[str, list[dict]]] = {mode: {} for mode in modes}
    with bench.apart(), contextlib.ExitStack() as stack:
        running = [stack.enter_context(kind(bench, Pool("hello", max_children=WORKERS))) for kind in kinds]
        for server in running:
            server.wait_for(f"{WORKERS} workers", lambda server=server: len(server.workers()) >= WORKERS)
        turns = [(server, mode) for mode in modes for server in running if mode != "kept" or server.keeps_connections]
        for server, mode in turns:
            turn(server, mode, 0.3)
        for number in range(rounds):
            say(f"hello, round {number + 1} of {rounds}")
            # There and back again, so that no contestant always follows the same one.
            for server, mode in turns if number % 2 == 0 else reversed(turns):
                reports[mode].setdefault(server.name, []).append(turn(server, mode, seconds))
    return reports


def turn(server: Server, mode: str, seconds: float) -> dict:
    """Load one server; its report gets `cpu`, the server's µs for each request."""
    options = ["--clients", str(CLIENTS[mode]), "--seconds", str(seconds)] + ["--keep"] * (mode == "kept")
    pids = server.processes()
    before = processes.processor_time(pids)
    report = server.load(*options)
    if server.processes() != pids:
        raise RuntimeError(f"{server.name} replaced a process in mid-round: its processor time is not known")
    report["cpu"] = (processes.processor_time(pids) - before) / 1000 / report["requests"]
    return report


def burst(bench: Bench, kind, pm: str, bursts: int) -> dict:
    """Send bursts to a pool at rest; return the medians of p50, p99 and max, in ms, and the most workers seen."""
    pool = Pool("slow", pm, max_children=BURST_CHILDREN)
    reports = []
    with kind(bench, pool) as server:
        for number in range(bursts):
            say(f"burst, {pm}, {server.name}, {number + 1} of {bursts}")
            low, high = (0, 0) if pm == "ondemand" else (pool.min_spare, pool.max_spare)
            server.wait_for("rest", lambda: low <= workers_now(server) <= high)
            report = server.load("--burst", "--clients", str(BURST_CLIENTS))
            report["workers"] = workers_now(server)
            reports.append(report)
    return {key: median(report[key] for report in reports) / 1000 for key in ("p50", "p99", "max")} | {
        "workers": max(report["workers"] for report in reports)
    }


def workers_now(server: Server) -> int:
    return len(server.workers())


def memory(bench: Bench, kind, site: str) -> float:
    """Return the mean private MB of a worker of a Django site after it answered 100 requests."""
    say(f"memory of a Django worker, {site} site, {kind.name}")
    with kind(bench, Pool(f"{site}_site", max_children=WORKERS)) as server:
        server.wait_for(f"{WORKERS} workers", lambda: workers_now(server) >= WORKERS)
        # A few more than a hundred: the first ones may not find every worker ready. The last pages tell whether each
        # worker has made a hundred to 109, so that none did another's share.
        for _ in range(103):
            server.ask_each_worker(WORKERS, "Made by worker")
        server.ask_each_worker(WORKERS, "its page number 10")
        private = [processes.private_bytes(pid) for pid in server.workers()]
    return sum(private) / len(private) / 1e6


def relay_memory(bench: Bench, kind) -> float:
    """Return the mean private MB of a worker, without its program, after it answered 100 requests."""
    say(f"memory of a worker before a program, {kind.name}")
    with kind(bench, Pool("slow", max_children=WORKERS)) as server:
        server.wait_for(f"{WORKERS} workers", lambda: workers_now(server) >= WORKERS)
        for _ in range(100):
            server.ask_each_worker(WORKERS, server.expect)
        private = [processes.private_bytes(pid) for pid in server.workers()]
    return sum(private) / len(private) / 1e6


def idle_wake_ups(bench: Bench, kind) -> int:
    """Return how often the first process of an idle pool wakes."""
    say(f"wake-ups of the idle master, {kind.name}")
    with kind(bench, Pool("hello", max_children=IDLE_WORKERS)) as server:
        server.wait_for(f"{IDLE_WORKERS} workers", lambda: workers_now(server) >= IDLE_WORKERS)
        # At rest when a second passes with no more than the one wake-up that some masters always make.
        server.wait_for("rest", lambda: wake_ups_in(server, 1) <= 2)
        return wake_ups_in(server, IDLE_SECONDS)


def wake_ups_in(server: Server, seconds: float) -> int:
    before = processes.wake_ups(server.process.pid)
    time.sleep(seconds)
    return processes.wake_ups(server.process.pid) - before


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def prepare(bench: Bench, programs: Path) -> None:
    """Fill the benchmark's folder."""
    say("making the folder, the virtual environment and the Django site")
    bench.folder.chmod(0o755)
    shutil.copytree(HERE / "apps", bench.apps, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(SITE, bench.folder / "site", ignore=shutil.ignore_patterns("__pycache__"))
    (bench.folder / "bin").mkdir()
    compiler = ["g++", "-O2", bench.apps / "hello.cpp", "-lfcgi", "-o", bench.folder / "bin/hello"]
    subprocess.run(compiler, check=True)
    for program in ("load", "floor", "preforkd", "libpreforkd_python.so", "libpreforkd_preload.so"):
        if (programs / program).exists():
            shutil.copy(programs / program, bench.folder / "bin")
    subprocess.run([servers.PYTHON, "-m", "venv", bench.venv.parent], check=True)
    pip = [bench.venv / "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    pip += ["flup6>=1.1,<1.2", "gunicorn>=25.1", "-r", SITE / "requirements.txt"]
    subprocess.run(pip, check=True)
    subprocess.run([servers.PYTHON, "-m", "compileall", "-q", bench.apps, bench.folder / "site"], check=True)
    # The folders that servers write to belong to them, and the rest they can read but not change.
    state = bench.own_folder("state").rename(bench.folder / "state")
    subprocess.run(
        [bench.venv / "python3", bench.folder / "site/manage.py", "prepare"],
        env={**bench.environment(), "TOUR_PASSWORD": "bench"},
        cwd=state,
        check=True,
        **servers.run_as(),
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path, required=True, help="folder of the release build")
    parser.add_argument("--output", type=Path, help="file to write the page to, besides printing it")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of hello (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.2, help="length of a turn in a round (%(default)s)")
    parser.add_argument("--bursts", type=int, default=5, help="bursts on each server (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="3 rounds of half a second, 2 bursts: a try, not a result")
    parser.add_argument(
        "--parts", default="hello,burst,memory,idle,programs", help="what to measure, comma-separated (%(default)s)"
    )
    parser.add_argument("--without", default="", help="contestants to leave out, comma-separated")
    args = parser.parse_args()
    if args.quick:
        args.output = None
        args.rounds, args.seconds, args.bursts = 3, 0.5, 2
    args.parts = args.parts.split(",")
    args.without = args.without.split(",")
    return args


def contestants(args: argparse.Namespace, *kinds) -> list:
    """Return those that are not to be left out."""
    return [kind for kind in kinds if kind.name.split(",")[0] not in args.without]


def measure(bench: Bench, args: argparse.Namespace) -> Page:
    """Measure all that is asked for, and make the page."""
    wanted = functools.partial(contestants, args)
    page = Page()
    if "hello" in args.parts:
        kinds = wanted(servers.Floor, servers.Preforkd, servers.PhpFpm, servers.Uwsgi, servers.Flup)
        reports = hello(bench, kinds, CLIENTS, args.rounds, args.seconds)
        for mode, clients in CLIENTS.items():
            note = (
                f"{WORKERS} workers, {clients} clients at a time on a processor of their own; medians of "
                f"{args.rounds} rounds of {args.seconds} s."
            )
            page.hello(mode, reports[mode], [kind.name for kind in kinds], note)
    if "burst" in args.parts:
        pools = {
            "dynamic": wanted(servers.Preforkd, servers.PhpFpm, servers.Uwsgi),
            "ondemand": wanted(servers.Preforkd, servers.PhpFpm),
        }
        for pm, kinds in pools.items():
            note = (
                f"{BURST_CLIENTS} clients at once ask for a page of 200 ms; min_spare 2, max_spare 5, at most "
                f"{BURST_CHILDREN} workers; medians of {args.bursts} bursts, each on a pool at rest."
            )
            page.burst(pm, {kind.name: burst(bench, kind, pm, args.bursts) for kind in kinds}, note)
    if "memory" in args.parts:
        kinds = wanted(
            servers.PreforkdWarm, servers.PreforkdLazy, servers.GunicornPreload, servers.Gunicorn, servers.Uwsgi
        )
        note = (
            f"{WORKERS} workers, 100 requests each; Private_Clean + Private_Dirty. The empty site is what `django-admin "
            "startproject` makes, the tour that of `packaging/try`, whose page asks a database and renders templates."
        )
        sites = ("empty", "tour")
        results = {kind.name: [memory(bench, kind, site) for site in sites] for kind in kinds}
        page.memory(results, servers.PreforkdWarm.name, note)
    if "idle" in args.parts:
        kinds = wanted(servers.Preforkd, servers.PhpFpm)
        note = f"{IDLE_WORKERS} workers, no request for {IDLE_SECONDS} s."
        page.idle({kind.name: idle_wake_ups(bench, kind) for kind in kinds}, note)
    if "programs" in args.parts:
        programs(bench, args, page)
    return page


def programs(bench: Bench, args: argparse.Namespace, page: Page) -> None:
    """Measure programs that are hosted: a C++ program beside the same one alone, php-cgi beside php-fpm."""
    wanted = functools.partial(contestants, args)
    ours = wanted(servers.PreforkdCplusplus, servers.PreforkdPhp)
    kinds = wanted(servers.PreforkdCplusplus, servers.Multiwatch, servers.PreforkdPhp, servers.PhpFpm)
    reports = hello(bench, kinds, ("new", "kept"), args.rounds, args.seconds)
    for mode, rounds in reports.items():
        note = (
            f"{WORKERS} workers, {CLIENTS[mode]} clients at a time on a processor of their own; the processor time is that "
            f"of workers and programs together; medians of {args.rounds} rounds of {args.seconds} s."
        )
        page.programs(mode, rounds, note)
    note = f"As above: {BURST_CLIENTS} clients at once, a page of 200 ms; medians of {args.bursts} bursts."
    bursts = {kind.name: burst(bench, kind, "dynamic", args.bursts) for kind in [*ours, *wanted(servers.PhpFpm)]}
    page.program_bursts(bursts, note)
    note = f"{WORKERS} workers, 100 requests each; Private_Clean + Private_Dirty. The program's own memory is not in it."
    relays = wanted(servers.PreforkdCplusplus)
    page.relays({kind.name: relay_memory(bench, kind) for kind in relays}, note)


def main() -> None:
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("bench: stopped"))
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"this machine has other things to do (load {load:.1f}): the numbers will not be steady")
    processes.adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="preforkd-bench.") as folder:
        try:
            bench = Bench(Path(folder))
            prepare(bench, args.programs)
            text = measure(bench, args).text()
        finally:
            processes.end_descendants()
    print(text)
    if args.output:
        args.output.write_text(text)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("bench: stopped")
