#!/usr/bin/env bash
# What it costs to be woken in a future, a Select or an event loop, against a blocked `recv`: two processes, each on a core of its own, in paired turns.
# Fails if a future of tokio's is woken later than 1.3 times a blocked `recv`. Usage: async.sh [ROUNDS] [QUESTIONS]
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "$(nproc)" -lt 2 ]; then echo "async: skipped: it needs two cores"; exit 0; fi
cargo build --quiet --release -p ginnel --example async_wake
work=$(mktemp -d /dev/shm/ginnel-async-XXXXXX)
answering=
trap '[ -z "$answering" ] || kill "$answering" 2>/dev/null || true; rm -rf "$work"' EXIT
wake=${CARGO_TARGET_DIR:-target}/release/examples/async_wake
export GINNEL_DIR=$work
taskset -c 1 timeout 300 "$wake" answer &
answering=$!
sleep 0.2
taskset -c 0 timeout 300 "$wake" ask "${1:-20}" "${2:-500}" | tee "$work/said"
wait "$answering"
answering=
awk '$1 == "tokio" && $4 > 1.3 { late = 1 } END { if (late) print "async: FAILED: a future is woken too late"; exit late }' "$work/said"
