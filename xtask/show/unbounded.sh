#!/usr/bin/env bash
# Memory of an unbounded link before, at the peak and after 10 million items, none of which is consumed before the last is there; and its ceiling.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet --release -p ginnel-cli
cargo build --quiet --release -p ginnel --example bounded --example unbounded
target=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d) GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
receiver=
trap 'if [ -n "$receiver" ]; then kill -KILL $receiver 2>/dev/null || true; fi; rm -rf "$work" "$GINNEL_DIR"' EXIT
blocks() { stat -c %b "$GINNEL_DIR/$1"; } # of 512 bytes

timeout 120 "$target/examples/bounded"
timeout 120 "$target/examples/unbounded"

# By the tool. A receiver that is there keeps the link; it is stopped until all is sent.
ready() { for _ in $(seq 500); do "$target/ginnel" info "$1" >"$work/info" 2>&1 && return; sleep 0.01; done; return 1; }
"$target/ginnel" --quiet recv --follow 'shm:items?unbounded&max=16' >"$work/out" & receiver=$!
ready shm:items
before=$(blocks items)
kill -STOP $receiver
seq 1 10000000 | timeout 120 "$target/ginnel" --quiet send shm:items
peak=$(blocks items)
grep -E '^(messages|memory)' <("$target/ginnel" info shm:items)
kill -CONT $receiver
for _ in $(seq 1200); do [ "$("$target/ginnel" info --json shm:items | sed 's/.*"messages":\([0-9]*\).*/\1/')" = 0 ] && break; sleep 0.05; done
sleep 0.3
after=$(blocks items)
kill $receiver; wait $receiver 2>/dev/null || true; receiver=
awk '{ n++; s += $1 } END { printf "%d lines, sum %.0f\n", n, s; exit !(n == 10000000 && s == 50000005000000) }' "$work/out"
echo "st_blocks: before $((before / 2)) KiB, at the peak $((peak / 2)) KiB, after the drain $((after / 2)) KiB"
[ "$peak" -gt $((100 * before)) ] && [ "$after" -le $((2 * before + 4096)) ]

echo "with a ceiling of 1 MiB:"
seq 1 1000000 | timeout 60 "$target/ginnel" --quiet send 'shm:little?unbounded&max=16&memory=1MiB' 2>&1 && exit 1
"$target/ginnel" rm --force shm:little
