#!/usr/bin/env bash
# What a call costs against a round trip of two queues: 64 bytes there and back between two processes, in turns.
# Usage: call.sh [TURNS] [COUNT]
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet --release -p ginnel --example call_cost
GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
trap 'rm -rf "$GINNEL_DIR"' EXIT
timeout 600 "${CARGO_TARGET_DIR:-target}/release/examples/call_cost" "$@"
