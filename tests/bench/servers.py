"""The contestants: how each is configured, started and stopped.

Every server runs as an ordinary user, in the foreground, on a Unix socket of its own in the benchmark's folder.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import os
import pwd
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import processes

PHP_FPM = "/usr/sbin/php-fpm8.2"
PHP_CGI = "/usr/bin/php-cgi8.2"
PYTHON = "/usr/bin/python3"
DEADLINE = 60.0
"""Seconds for anything that is waited for."""


@dataclass(frozen=True)
class Pool:
    """How many workers, and what they answer. `page` is the name of a module or script in apps/."""

    page: str
    pm: str = "static"
    max_children: int = 4
    start: int = 3
    min_spare: int = 2
    max_spare: int = 5

    def directives(self) -> str:
        """Return the pool's size in the directives that php-fpm and preforkd share."""
        lines = [f"pm = {self.pm}", f"pm.max_children = {self.max_children}"]
        if self.pm == "dynamic":
            lines += [
                f"pm.start_servers = {self.start}",
                f"pm.min_spare_servers = {self.min_spare}",
                f"pm.max_spare_servers = {self.max_spare}",
            ]
        if self.pm == "ondemand":
            lines += ["pm.process_idle_timeout = 1s"]
        return "\n".join(lines)


@dataclass
class Bench:
    """The benchmark's folder: programs in bin/, applications in apps/, the virtual environment in venv/."""

    folder: Path
    load_command: list = field(init=False)
    count: int = field(default=0, init=False)

    def __post_init__(self):
        self.load_command = [self.folder / "bin/load"]

    @contextlib.contextmanager
    def apart(self):
        """Give the load generator one processor, and the servers started meanwhile the others.

        Where the scheduler puts the two changes the cost of a request twofold, from one second to the next: on one
        processor they share a cache, on two a wake-up is an interrupt. The generator never sleeps on its processor, so
        that no server pays for waking it, which fast servers would have to do less often than slow ones.
        """
        everywhere = os.sched_getaffinity(0)
        first = min(everywhere)
        if others := everywhere - {first}:
            self.load_command = ["taskset", "--cpu-list", str(first), self.folder / "bin/load", "--spin"]
            os.sched_setaffinity(0, others)
        try:
            yield
        finally:
            os.sched_setaffinity(0, everywhere)
            self.load_command = [self.folder / "bin/load"]

    @property
    def apps(self) -> Path:
        return self.folder / "apps"

    @property
    def venv(self) -> Path:
        return self.folder / "venv/bin"

    def own_folder(self, name: str) -> Path:
        """Make a folder for one server: its socket, configuration and log."""
        self.count += 1
        own = self.folder / f"{self.count}-{name.replace(', ', '-').replace(' ', '-')}"
        own.mkdir()
        if os.getuid() == 0:
            user = server_user()
            os.chown(own, user.pw_uid, user.pw_gid)
        return own

    def environment(self) -> dict[str, str]:
        """Return the environment of every server."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{self.apps}:{self.folder / 'site'}",
            "TOUR_STATE": str(self.folder / "state"),
        }


def server_user() -> pwd.struct_passwd:
    """Return whom the servers run as: www-data if we are root, else ourselves."""
    return pwd.getpwnam("www-data") if os.getuid() == 0 else pwd.getpwuid(os.getuid())


def run_as() -> dict:
    """Return the options of subprocess that make a child an ordinary user."""
    user = server_user()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}


class Server:
    """A running contestant."""

    name: str
    keeps_connections = True
    worker_title = ""
    """What the titles of workers begin with; other children of the first process are no workers."""
    stop_signal = signal.SIGTERM
    expect = "Hello, world"
    script = "hello.py"

    def __init__(self, bench: Bench, pool: Pool):
        self.bench = bench
        if pool.page.endswith("_site"):
            self.expect = "Made by worker"
        self.folder = bench.own_folder(self.name)
        self.socket = self.folder / "socket"
        self.log = self.folder / "log"
        command = [str(word) for word in self.command(pool)]
        with open(self.folder / "output", "wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=bench.apps,
                env=bench.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **run_as(),
            )

    def command(self, pool: Pool) -> list:
        """Write the configuration and return the command line."""
        raise NotImplementedError

    def __enter__(self):
        try:
            self.wait_for("its first answer", self.answers)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def answers(self) -> bool:
        """Whether a request is answered."""
        try:
            self.load("--requests", "1")
        except RuntimeError:
            return False
        return True

    def load(self, *options: str) -> dict:
        """Run the load generator and return its report; an answer that is wrong or missing is an error."""
        command = [*self.bench.load_command, "--socket", self.socket, "--expect", self.expect]
        command += ["--script", self.bench.apps / self.script, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {done.stderr.strip()} {done.stdout.strip()}")
        return json.loads(done.stdout)

    def ask_each_worker(self, workers: int, expect: str) -> None:
        """Send as many requests at once as there are workers."""
        self.load("--burst", "--clients", str(workers), "--expect", expect)

    def wait_for(self, what: str, condition) -> None:
        """Wait until `condition()` holds."""
        end = time.monotonic() + DEADLINE
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                words = [self.folder / "output", self.log]
                tail = "\n".join(path.read_text(errors="replace")[-2000:] for path in words if path.exists())
                raise RuntimeError(f"{self.name} did not come to {what}:\n{tail}")
            time.sleep(0.05)

    def processes(self) -> set[int]:
        return processes.tree(self.process.pid)

    def workers(self) -> set[int]:
        """Return the worker processes."""
        found = set()
        for pid in self.processes() - {self.process.pid}:
            with contextlib.suppress(OSError):
                if processes.title(pid).startswith(self.worker_title):
                    found.add(pid)
        return found

    def stop(self) -> None:
        """End every process of this server, the polite way first."""
        pids = self.processes()
        self.process.send_signal(self.stop_signal)
        end = time.monotonic() + 5
        while time.monotonic() < end and (self.process.poll() is None or any(map(alive, pids))):
            time.sleep(0.02)
            pids |= self.processes()
        for pid in filter(alive, pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def alive(pid: int) -> bool:
    """Whether a process runs: it is there and no zombie."""
    try:
        return (processes.PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Floor(Server):
    name = "floor"

    def command(self, pool):
        return [self.bench.folder / "bin/floor", "--socket", self.socket, "--workers", pool.max_children]


class Preforkd(Server):
    name = "preforkd"
    worker_title = "preforkd: pool"
    more_directives = ""

    def command(self, pool):
        configuration = self.folder / "preforkd.conf"
        configuration.write_text(
            f"[global]\nerror_log = {self.log}\nlog_level = warning\n"
            f"[bench]\nlisten = {self.socket}\n{pool.directives()}\n{self.application(pool)}"
        )
        return [self.bench.folder / "bin/preforkd", "-F", "-y", configuration]

    def application(self, pool) -> str:
        """Return the directives of what the pool runs."""
        environment = self.bench.environment()
        return (
            f"wsgi = {pool.page}:application\npython = {self.bench.venv / 'python3'}\nchdir = {self.bench.apps}\n"
            + "".join(f"pythonpath[] = {path}\n" for path in environment["PYTHONPATH"].split(":"))
            + f"env[TOUR_STATE] = {environment['TOUR_STATE']}\n"
            + self.more_directives
        )


class PhpFpm(Server):
    name = "php-fpm"
    worker_title = "php-fpm: pool"

    def command(self, pool):
        self.script = f"{pool.page}.php"
        configuration = self.folder / "php-fpm.conf"
        configuration.write_text(
            f"[global]\nerror_log = {self.log}\nlog_level = warning\n"
            f"[bench]\nlisten = {self.socket}\n{pool.directives()}\n"
        )
        return [PHP_FPM, "-F", "-y", configuration]


def cplusplus(bench: Bench, pool: Pool) -> list:
    """Return the command line of the C++ program with a page."""
    return [bench.folder / "bin/hello", *{"hello": [], "slow": [200]}[pool.page]]


class PreforkdCplusplus(Preforkd):
    name = "preforkd, C++"

    def application(self, pool):
        return f"exec = {' '.join(map(str, cplusplus(self.bench, pool)))}\n"


class Multiwatch(Server):
    """The C++ program as spawn-fcgi starts it, kept at its number by multiwatch."""

    name = "spawn-fcgi and multiwatch, C++"

    def command(self, pool):
        command = ["spawn-fcgi", "-n", "-s", self.socket, "--", "/usr/bin/multiwatch", "-f", pool.max_children, "--"]
        return command + cplusplus(self.bench, pool)


class PreforkdPhp(Preforkd):
    name = "preforkd, php-cgi"

    def application(self, pool):
        self.script = f"{pool.page}.php"
        return f"exec = {PHP_CGI}\n"


class Uwsgi(Server):
    name = "uWSGI"
    keeps_connections = False
    stop_signal = signal.SIGINT

    def command(self, pool):
        command = ["uwsgi", "--plugin", "python3", "--fastcgi-socket", self.socket, "--master", "--disable-logging"]
        command += ["--need-app", "--module", f"{pool.page}:application", "--processes", pool.max_children]
        command += ["--virtualenv", self.bench.venv.parent]
        if pool.pm == "dynamic":
            command += ["--cheaper", pool.min_spare, "--cheaper-initial", pool.start]
        return command


class Flup(Server):
    """Its first process waits for children that do not hear it; they end when it is gone."""

    name = "flup"
    stop_signal = signal.SIGKILL

    def command(self, pool):
        python = self.bench.venv / "python3"
        return [python, self.bench.apps / "flup_server.py", self.socket, pool.page, pool.max_children]


class PreforkdWarm(Preforkd):
    name = "preforkd, preload and warm-up"
    more_directives = "wsgi.preload = yes\nwsgi.warmup[] = /\n"


class PreforkdLazy(Preforkd):
    name = "preforkd, no preload"
    more_directives = "wsgi.preload = no\n"


class Gunicorn(Server):
    """A peer that speaks HTTP: only its memory is compared."""

    name = "gunicorn"
    more_options: tuple[str, ...] = ()

    def command(self, pool):
        command = [self.bench.venv / "gunicorn", "--bind", f"unix:{self.socket}", "--workers", pool.max_children]
        command += ["--no-control-socket", "--worker-tmp-dir", self.folder, *self.more_options]
        return [*command, f"{pool.page}:application"]

    def answers(self):
        try:
            self.get()
        except OSError:
            return False
        return True

    def get(self) -> str:
        """Fetch the page."""
        connection = http.client.HTTPConnection("localhost", timeout=DEADLINE)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.socket))
        with contextlib.closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().read().decode()

    def ask_each_worker(self, workers, expect):
        with concurrent.futures.ThreadPoolExecutor(workers) as clients:
            for page in clients.map(lambda _: self.get(), range(workers)):
                if expect not in page:
                    raise RuntimeError(f"{self.name}: not the expected page: {page[-200:]}")


class GunicornPreload(Gunicorn):
    name = "gunicorn, preload"
    more_options = ("--preload",)
