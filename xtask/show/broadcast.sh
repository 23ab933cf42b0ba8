#!/usr/bin/env bash
# A broadcast: the cost of a send with 1, 4 and 64 receivers, timed in turns in one process; and in instructions, where valgrind is there.
# Usage: broadcast.sh [ROUNDS] [MOST]   (defaults: 2000 rounds; 64 receivers may cost 1.3 times as much as one)
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-2000} most=${2:-1.3}
cargo build --quiet --release -p ginnel --example broadcast_cost
cost=${CARGO_TARGET_DIR:-target}/release/examples/broadcast_cost
work=$(mktemp -d) GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
trap 'rm -rf "$work" "$GINNEL_DIR"' EXIT

timeout 300 "$cost" "$rounds" | tee "$work/times"
awk -v most="$most" '/64 receivers/ { for (i = 1; i < NF; i++) if ($i == "ns,") ratio = $(i + 1); if (ratio > most) bad = 1 }
    END { exit bad }' "$work/times" || { echo "64 receivers cost more than $most times as much as one"; exit 1; }

if ! command -v valgrind >/dev/null; then
    echo "no valgrind: instructions are not counted"
    exit 0
fi
counted() { # RECEIVERS SENDS: instructions of the whole run
    timeout 300 valgrind --tool=callgrind --callgrind-out-file="$work/out" "$cost" once "$1" "$2" 2>&1 |
        awk '/Collected/ { print $NF }'
}
for receivers in 1 4 64; do
    few=$(counted $receivers 10000) many=$(counted $receivers 110000)
    awk -v r=$receivers -v d=$((many - few)) 'BEGIN { printf "%2d receivers: %.1f instructions a send\n", r, d / 100000 }'
done
