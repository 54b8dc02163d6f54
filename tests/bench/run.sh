#!/usr/bin/env bash
# preforkd beside php-fpm, uWSGI, flup, gunicorn and spawn-fcgi, on this machine.
#
#   tests/bench/run.sh            measure all (some 10 minutes), print the page and write it to tests/bench/RESULTS.md
#   tests/bench/run.sh --quick    the same in short, printed only: to see that it works
#   tests/bench/run.sh --help     the other options
#
# Run it as root, with sudo, or as yourself (then only missing Debian packages ask for sudo). It needs Debian 12 and
# Rust. The servers run as an ordinary user on sockets in a temporary folder, which is removed at the end, also after
# Ctrl-C; no service of the system is used or started. The machine should have nothing else to do.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${here%/tests/bench}

"$root/packaging/try/debian.sh" php8.2-fpm uwsgi-core uwsgi-plugin-python3 python3 python3-venv cc=gcc libc6-dev \
  php-cgi8.2=php8.2-cgi g++ libfcgi-dev spawn-fcgi multiwatch
cd "$root"
rust=packaging/try/rust.sh
"$rust" cargo build --release --locked --package preforkd --package preforkd-python --package preforkd-preload --package preforkd-bench
programs=$("$rust" cargo metadata --locked --no-deps --format-version 1 |
  sed 's|.*"target_directory":"\([^"]*\)".*|\1/release|')
# In its place, so that a signal meant for this script reaches what has to clean up.
exec /usr/bin/python3 "$here/run.py" --programs "$programs" --output "$here/RESULTS.md" "$@"
