#!/usr/bin/env bash
# A look at the newest value (?shape=latest) against a raw seqlock read, while another process writes, in turns (ginnel bench); and, where valgrind is there, in instructions.
# Usage: latest.sh [ROUNDS]
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet --release -p ginnel-cli
cargo build --quiet --release -p ginnel-bench --example counted
release=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d) GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
trap 'rm -rf "$work" "$GINNEL_DIR"' EXIT
timeout 300 "$release/ginnel" bench --shape latest --rounds "${1:-11}"
command -v valgrind >/dev/null || { echo "instructions: left out, as there is no valgrind"; exit 0; }
counted() { # TIMES WHAT BYTES: instructions of the whole run
    timeout 120 valgrind --tool=callgrind --callgrind-out-file="$work/out" "$release/examples/counted" "$1" "$2" "$3" 2>&1 |
        awk '/Collected/ { print $NF }'
}
instructions() { # WHAT BYTES: of one look
    echo $((($(counted 20000 "$1" "$2") - $(counted 10000 "$1" "$2")) / 10000))
}
for bytes in 8 64 1024; do
    printf '%8d bytes, instructions:  raw %d, latest_into %d, latest %d\n' "$bytes" \
        "$(instructions raw "$bytes")" "$(instructions latest_into "$bytes")" "$(instructions latest "$bytes")"
done
