#!/usr/bin/env bash
# rust.sh COMMAND…: runs a command that needs cargo, with rustup's before any other in PATH: Debian's is too old.
# Under sudo it runs as the checkout's owner, who should own what is written; as root where the owner has no cargo.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
owner=$(stat -c %U "$root")

has_cargo() { "$@" cargo --version >/dev/null 2>&1; }

if [[ $EUID -eq 0 && $owner != root && $owner != UNKNOWN ]]; then
  home=$(getent passwd "$owner" | cut -d: -f6)
  as_owner=(runuser -u "$owner" -- env HOME="$home" PATH="$home/.cargo/bin:$PATH")
  if has_cargo "${as_owner[@]}"; then
    exec "${as_owner[@]}" "$@"
  fi
fi
PATH=${CARGO_HOME:-${HOME-}/.cargo}/bin:$PATH
has_cargo env || { echo "Rust is missing: see https://rustup.rs" >&2; exit 1; }
exec "$@"
