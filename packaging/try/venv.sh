#!/usr/bin/env bash
# venv.sh FOLDER [USER [FILE]]: a virtual environment with Django in FOLDER, whose interpreter USER can run, and with what
# the requirements in FILE ask for besides.
# Safe to run again: what is there and whole stays.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$1
user=${2:-$(id -un)}
requirements=(--requirement "$here/site/requirements.txt")
[[ $# -lt 3 ]] || requirements+=(--requirement "$(realpath "$3")")
cd /

as_user() {
  if [[ $EUID -eq 0 && $user != root ]]; then
    setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@"
  else
    "$@"
  fi
}

# A virtual environment leans on the interpreter it was made from. One below a home folder may be out of the
# user's reach, so each candidate is tried as that user.
fits() {
  as_user "$1" -c 'import sys; assert sys.version_info >= (3, 10); import ensurepip, sqlite3, venv' 2>/dev/null
}

find_python() {
  local candidate
  for candidate in "$(command -v python3 || true)" /usr/bin/python3 /usr/local/bin/python3; do
    if [[ -n $candidate ]] && fits "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

if ! as_user "$venv/bin/python3" -m pip --version >/dev/null 2>&1; then
  if ! python=$(find_python); then
    "$here/debian.sh" python3 python3-venv
    python=$(find_python) || { echo "no Python of at least 3.10 with venv that $user can run" >&2; exit 1; }
  fi
  rm -rf "$venv"
  "$python" -m venv "$venv"
fi
"$venv/bin/python3" -m pip install --quiet --disable-pip-version-check "${requirements[@]}"
