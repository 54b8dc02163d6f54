#!/usr/bin/env bash
# run.sh [SECONDS [TARGET…]]: fuzzes each target (all by default) for so many seconds (20 by default), starting from
# corpus/TARGET, and fails with the input that broke it. What it finds besides goes to cargo's target folder, and serves the
# next run. Needs Rust and a C++ compiler; cargo-fuzz is installed to the target folder when it is missing there.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=${here%/tests/fuzz}
seconds=${1:-20}
targets=("${@:2}")
((${#targets[@]})) || targets=("$here"/targets/*.rs)

cd "$root"
work=$(cargo metadata --locked --no-deps --format-version 1 | sed 's|.*"target_directory":"\([^"]*\)".*|\1|')/fuzz
mkdir -p "$work"
# Ours alone, of a version that is known to work.
cargo install --quiet --locked --root "$work/tools" --version 0.13.2 cargo-fuzz
PATH=$work/tools/bin:$PATH

for target in "${targets[@]}"; do
  target=$(basename "$target" .rs)
  found=$work/corpus/$target
  mkdir -p "$found" "$work/artifacts/$target"
  # Without a sanitizer the stable compiler will do, and what the targets check is asserted, not read from memory.
  cargo fuzz run --fuzz-dir "$here" --target-dir "$work/build" --sanitizer none "$target" "$found" "$here/corpus/$target" -- \
    -artifact_prefix="$work/artifacts/$target/" -max_total_time="$seconds" -max_len=16384 -timeout=60 -rss_limit_mb=512 \
    -print_final_stats=1 2>"$work/$target.log" || { cat "$work/$target.log" >&2; exit 1; }
  printf '%s: %s runs\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log")"
done
