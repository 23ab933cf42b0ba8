#!/usr/bin/env bash
# A broadcast: what a send costs with 1, 4 and 64 receiving processes, in turns (ginnel bench); and in instructions, where valgrind is there.
# Usage: broadcast.sh [ROUNDS] [MOST]   (defaults: 11 rounds; 64 receivers may cost 1.3 times as much as one)
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-11} most=${2:-1.3}
cargo build --quiet --release -p ginnel-cli
cargo build --quiet --release -p ginnel-bench --example counted
release=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d) GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
trap 'rm -rf "$work" "$GINNEL_DIR"' EXIT

timeout 300 "$release/ginnel" bench --shape broadcast --receivers 4,64 --rounds "$rounds" | tee "$work/table"
awk -v most="$most" '$1 == 64 && $2 == "receivers" { found = 1; if ($3 + 0 > most) bad = 1 } END { exit bad || !found }' "$work/table" ||
    { echo "64 receivers cost more than $most times as much as one"; exit 1; }

if ! command -v valgrind >/dev/null; then
    echo "no valgrind: instructions are not counted"
    exit 0
fi
counted() { # TIMES RECEIVERS: instructions of the whole run
    timeout 300 valgrind --tool=callgrind --callgrind-out-file="$work/out" "$release/examples/counted" "$1" send "$2" 2>&1 |
        awk '/Collected/ { print $NF }'
}
for receivers in 1 4 64; do
    few=$(counted 10000 $receivers) many=$(counted 110000 $receivers)
    awk -v r=$receivers -v d=$((many - few)) 'BEGIN { printf "%2d receivers: %.1f instructions a send\n", r, d / 100000 }'
done
