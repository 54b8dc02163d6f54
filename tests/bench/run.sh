#!/usr/bin/env bash
# preforkd beside php-fpm, uWSGI, flup and gunicorn, on this machine.
#
#   tests/bench/run.sh            measure all (some 7 minutes), print the page and write it to tests/bench/RESULTS.md
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

# Under sudo the checkout belongs to somebody, who has the compiler and should own what it writes.
build() {
  local owner home build=(cargo build --release --package preforkd --package preforkd-python --package preforkd-bench)
  owner=$(stat -c %U "$root")
  if [[ $EUID -eq 0 && $owner != root && $owner != UNKNOWN ]]; then
    home=$(getent passwd "$owner" | cut -d: -f6)
    runuser -u "$owner" -- env HOME="$home" PATH="$PATH:$home/.cargo/bin" "${build[@]}"
  else
    PATH="$PATH:${CARGO_HOME:-${HOME-}/.cargo}/bin" "${build[@]}"
  fi
}

packages=(php8.2-fpm uwsgi-core uwsgi-plugin-python3 python3 python3-venv)
command -v cc >/dev/null || packages+=(gcc libc6-dev)
"$root/packaging/try/debian.sh" "${packages[@]}"
cd "$root"
build
programs=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/release
# In its place, so that a signal meant for this script reaches what has to clean up.
exec /usr/bin/python3 "$here/run.py" --programs "$programs" --output "$here/RESULTS.md" "$@"
