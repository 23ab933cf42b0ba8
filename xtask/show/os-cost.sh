#!/usr/bin/env bash
# Each wrapper of ginnel-os costs at most 1.05 times the bare call of the C library; a table, and status 1 if one is dearer.
# Usage: os-cost.sh [--callgrind] [--rounds N] [PART OF A NAME]   (with --callgrind also instructions, needs valgrind on x86-64)
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet --release -p ginnel-os --example cost
cost=${CARGO_TARGET_DIR:-target}/release/examples/cost
if [ "${1:-}" != --callgrind ]; then exec "$cost" "$@"; fi
shift
command -v valgrind >/dev/null || { echo "os-cost: --callgrind needs valgrind; install it, or leave the option out" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
valgrind --quiet --tool=callgrind --callgrind-out-file="$work/counts" "$cost" --count 2>"$work/talk" || { cat "$work/talk" >&2; exit 1; }
# One dump a case and side: what was counted, and its name, which the request gave.
for dump in "$work"/counts.*; do
    awk -F': ' '/^desc: Trigger: Client Request/ { name = $NF } /^(summary|totals): / { total = $2 } END { if (name != "") print name "\t" total }' "$dump"
done >"$work/table"
"$cost" --judge "$work/table" "$@"
