#!/usr/bin/env bash
# Installs what the tests need and runs all of them: formatting, lints, unit tests, the daemon from outside, and the
# site that people try. Run it as root, with sudo, or as yourself; safe to run again. All it makes besides cargo's
# target folder and missing Debian packages lies in a temporary folder, which is removed at the end.
#
# Under sudo the packages are installed as root, and the rest runs as the checkout's owner. Only where root does own the
# checkout, as in CI, do the tests run as root and their pools as another user; else both are the owner.
#
# Set PREFORKD_TEST_PYTHONS to the interpreters, separated by colons, that are to be tried besides the virtual environment's
# own, from the oldest version to the newest; unset, those are looked for, and root fetches Debian's next one if there are none.
set -euo pipefail
umask 022

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
PATH=$PATH:/usr/sbin

step() { printf '\n== %s\n' "$*"; }

if [[ ${1-} != --installed ]]; then
  step "What the tests need"
  packaging/try/debian.sh nginx=nginx-light curl=curl ps=procps cc=gcc c++=g++ libc6-dev python3 python3-venv \
    lighttpd=lighttpd lighttpd-mod-openssl apache2=apache2-bin libapache2-mod-fcgid caddy=caddy \
    haproxy=haproxy h2o=h2o cgi-fcgi=libfcgi-bin openssl=openssl php-fpm8.2=php8.2-fpm php-cgi8.2=php8.2-cgi \
    libfcgi-dev libfcgi-perl go=golang-go postgresql memcached=memcached mmdebstrap=mmdebstrap \
    unshare=util-linux ip=iproute2 dpkg-deb=dpkg
  exec packaging/try/rust.sh tests/run.sh --installed
fi

user=$(id -un)
[[ $EUID -ne 0 ]] || user=www-data
scratch=$(mktemp -d)
chmod 755 "$scratch"
trap 'rm -rf "$scratch"' EXIT

as_pool_user() {
  if [[ $EUID -eq 0 ]]; then
    setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@"
  else
    "$@"
  fi
}

version_of() { as_pool_user "$1" -c 'import ensurepip, hashlib, sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# Copies an interpreter that the pool's user cannot reach, as below somebody's home, to where it can. Its shared library,
# if it has one, is found through a script.
copy_python() {
  local version=$2 copy=$scratch/python$2 prefix libraries
  prefix=$("$1" -c 'import sys; print(sys.base_prefix)')
  shopt -s nullglob
  libraries=("$prefix"/lib/libpython*.so*)
  mkdir -p "$copy/bin" "$copy/lib"
  cp "$prefix/bin/python$version" "$copy/bin/"
  tar -C "$prefix/lib" --exclude=test --exclude=site-packages --exclude=__pycache__ --exclude='config-*' \
    -cf - "python$version" "${libraries[@]##*/}" | tar -C "$copy/lib" -xf -
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$copy/lib" "$copy/bin/python$version" >"$copy/python"
  chmod 755 "$copy/python"
  echo "$copy/python"
}

# Prints one interpreter a version, the virtual environment's own version left out.
find_pythons() {
  local candidate version known found=()
  known=" $(version_of "$1") 3.6 3.7 3.8 3.9 "
  for candidate in /usr/bin/python3.1? /usr/local/bin/python3.1? "${HOME-}"/.pyenv/versions/3.1?.*/bin/python3; do
    [[ -x $candidate ]] || continue
    version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || continue
    [[ $known != *" $version "* ]] || continue
    version_of "$candidate" >/dev/null || candidate=$(copy_python "$candidate" "$version")
    version_of "$candidate" >/dev/null || continue
    known+="$version "
    found+=("$candidate")
  done
  (IFS=: && echo "${found[*]}")
}

# Unpacks the interpreter of the Debian after this one, with the libraries that it needs, and prints a script that starts it.
fetch_python() {
  local codename suite=trixie version=3.13 root=$scratch/next-debian sources=/etc/apt/sources.list.d/debian.sources
  codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
  [[ -f $sources ]] || sources=/etc/apt/sources.list
  mkdir "$scratch/next"
  sed "s/\b$codename\b/$suite/g" "$sources" >"$scratch/next/${sources##*/}"
  mmdebstrap --quiet --variant=extract --include="python$version-minimal,libpython$version-stdlib" \
    "$suite" "$root" "$scratch/next/${sources##*/}" >&2
  chmod 755 "$root"
  local interpreter=$root/usr/bin/python$version libraries loader
  libraries=("$root"/usr/lib/*-linux-gnu)
  loader=("${libraries[0]}"/ld-linux-*.so.*)
  printf '#!/bin/sh\nPYTHONHOME=%s exec %s --library-path %s --argv0 %s %s "$@"\n' \
    "$root/usr" "${loader[0]}" "${libraries[0]}" "$interpreter" "$interpreter" >"$scratch/next/python"
  chmod 755 "$scratch/next/python"
  echo "$scratch/next/python"
}

for component in rustfmt clippy; do
  cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
done
packaging/try/venv.sh "$scratch/venv" "$user" tests/requirements.txt
export PREFORKD_TEST_VENV=$scratch/venv
PREFORKD_TEST_PYTHONS=${PREFORKD_TEST_PYTHONS-$(cd / && find_pythons "$PREFORKD_TEST_VENV/bin/python3")}
if [[ -z $PREFORKD_TEST_PYTHONS && $EUID -eq 0 ]]; then
  step "Another version of Python"
  PREFORKD_TEST_PYTHONS=$(fetch_python)
fi
export PREFORKD_TEST_PYTHONS
cargo --version
nginx -v 2>&1
"$PREFORKD_TEST_VENV/bin/python3" -c 'import django, sys; print("Python", sys.version.split()[0], "Django", django.__version__)'
echo "other interpreters: ${PREFORKD_TEST_PYTHONS:-none}"

step "Formatting and lints"
cargo fmt --all --check
rustfmt --check --edition 2024 tests/fuzz/targets/*.rs
cargo clippy --workspace --all-targets --locked -- -D warnings

step "Build"
cargo build --locked

step "Tests"
# The extension module's symbols are the interpreter's, so a test program of its own could not be linked; the daemon's
# tests run it in real interpreters.
if ! cargo test --locked --no-fail-fast --workspace --exclude preforkd-python 2>&1 | tee "$scratch/tests.log"; then
  # Hundreds of daemons and servers on two processors: a few cases from outside may try again, alone, and it is told.
  mapfile -t failed < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$scratch/tests.log")
  ((${#failed[@]} > 0 && ${#failed[@]} <= 3)) || exit 1
  grep -q "^test result: FAILED\. .* ${#failed[@]} failed;" "$scratch/tests.log"
  grep -A 1 '^error: 1 target failed' "$scratch/tests.log" | grep -q -- '--test daemon'
  step "Once more, alone: ${failed[*]}"
  cargo test --locked --test daemon -- --exact "${failed[@]}" 2>&1 | tee "$scratch/again.log"
  grep -q "^test result: ok\. ${#failed[@]} passed" "$scratch/again.log"
fi

# The oldest and the newest of the others, since what differs between two versions of Python lies between those.
IFS=: read -ra others <<<"$PREFORKD_TEST_PYTHONS"
[[ ${#others[@]} -le 2 ]] || others=("${others[0]}" "${others[-1]}")
for other in ${others+"${others[@]}"}; do
  step "WSGI with $(cd / && "$other" --version)"
  PREFORKD_TEST_PYTHON=$other cargo test --quiet --locked --workspace --exclude preforkd-python --test daemon -- \
    pep3333:: wsgi:: misuse:: files::
done
[[ ${#others[@]} -gt 0 || -z ${CI-} ]] || { echo "no second version of Python was found" >&2; exit 1; }

step "Fuzzing"
tests/fuzz/run.sh 15

step "Under load, and disturbed in every way"
tests/chaos/run.sh

step "The site that people try"
PREFORKD_TRY_DIR=$scratch/try packaging/try.sh --check

if [[ $EUID -eq 0 ]]; then
  step "Installed as a service"
  tests/install/run.sh
else
  [[ -z ${CI-} ]] || { echo "installing the package needs root" >&2; exit 1; }
  step "Not run, since it needs root: tests/install/run.sh"
fi
