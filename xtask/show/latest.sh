#!/usr/bin/env bash
# A look at the newest value (?shape=latest) against a raw seqlock read, in turns in one process; and, where valgrind is there, in instructions.
# Usage: latest.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet --release -p ginnel --example latest
latest=${CARGO_TARGET_DIR:-target}/release/examples/latest
timeout 300 "$latest" "${1:-21}"
command -v valgrind >/dev/null || { echo "instructions: left out, as there is no valgrind"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
instructions() { # WHAT BYTES: of one read, as the difference of two runs
    for reads in 10000 20000; do
        timeout 120 valgrind --quiet --tool=callgrind --callgrind-out-file="$work/$reads" "$latest" --reads $reads "$1" "$2" 2>/dev/null
    done
    echo $((($(awk '/^(summary|totals):/ { print $2; exit }' "$work/20000") - $(awk '/^(summary|totals):/ { print $2; exit }' "$work/10000")) / 10000))
}
for bytes in 8 64 1024; do
    printf '%8d bytes, instructions:  raw %d, latest_into %d, latest %d\n' "$bytes" \
        "$(instructions raw "$bytes")" "$(instructions into "$bytes")" "$(instructions message "$bytes")"
done
