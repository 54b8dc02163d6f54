#!/usr/bin/env bash
# Disturbs the daemon under load in every way there is, and prints a table of what became of the requests; fails if one
# was lost that must not be. All it makes besides cargo's target folder lies in a temporary folder, which stays only when
# something went wrong. What it needs is installed by tests/run.sh.
#
# tests/chaos/run.sh [--minutes N] [--only WORD] [--keep] [--python FILE]
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
cargo build --release --locked
cargo build --release --locked --package preforkd-chaos
target=$(cargo metadata --format-version 1 --no-deps --locked | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
exec "$target/release/chaos" --program "$target/release/preforkd" "$@"
