#!/usr/bin/env bash
# Disturbs the daemon under load in every way there is, and prints a table of what became of the requests; fails if one
# was lost that must not be. All it makes besides cargo's target folder lies in a temporary folder, which stays only when
# something went wrong. What it needs is installed by tests/run.sh.
#
# tests/chaos/run.sh [--only WORD] [--keep] [--python FILE]               about two minutes, of the program as tests run it
# tests/chaos/run.sh --minutes N [--only WORD] [--keep] [--python FILE]   as long as you like, of the program as it ships
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
profile=dev
folder=debug
if [[ " $* " == *" --minutes "* ]]; then
  profile=release
  folder=release
fi
cargo build --profile "$profile" --locked
cargo build --profile "$profile" --locked --package preforkd-chaos
target=$(cargo metadata --format-version 1 --no-deps --locked | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
exec "$target/$folder/chaos" --program "$target/$folder/preforkd" "$@"
