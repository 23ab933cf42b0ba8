#!/usr/bin/env bash
# What a call costs against a round trip of two queues: 64 bytes there and back between two processes, in turns (ginnel bench); and in instructions, where valgrind is there.
# Usage: call.sh [ROUNDS] [MESSAGES]   (defaults: 11 rounds of about 100 ms)
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet --release -p ginnel-cli
cargo build --quiet --release -p ginnel-bench --example counted
release=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d) GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
trap 'rm -rf "$work" "$GINNEL_DIR"' EXIT
timeout 600 "$release/ginnel" bench --shape call --rounds "${1:-11}" ${2:+--messages "$2"}
command -v valgrind >/dev/null || { echo "instructions: left out, as there is no valgrind"; exit 0; }
counted() { # TIMES WHAT: instructions of the whole run
    timeout 300 valgrind --tool=callgrind --callgrind-out-file="$work/out" "$release/examples/counted" "$1" "$2" 64 2>&1 |
        awk '/Collected/ { print $NF }'
}
for what in queues call; do
    echo "$what: $((($(counted 110000 $what) - $(counted 10000 $what)) / 100000)) instructions there and back, both ends"
done
