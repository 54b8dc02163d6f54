#!/usr/bin/env bash
# Builds the Debian package with cargo-deb, and prints where it is.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
# What makes no difference to the package need not be made fast: an unoptimized cargo-deb is built in half the time.
command -v cargo-deb >/dev/null || PATH=$target/tools/bin:$PATH
command -v cargo-deb >/dev/null || cargo install --quiet --locked --debug --root "$target/tools" cargo-deb >&2
cargo build --release --locked --package preforkd --package preforkd-python --package preforkd-preload >&2
cargo deb --no-build --quiet "$@"
