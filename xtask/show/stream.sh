#!/usr/bin/env bash
# A stream of bytes between two processes against a Unix socket, in turns, checksummed where it arrives.
# Usage: stream.sh [MIB] [TURNS] [BYTES_OF_A_WRITE]   (defaults: 2048 MiB, 5 turns, 65536 bytes)
set -euo pipefail
cd "$(dirname "$0")/../.."
GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
trap 'rm -rf "$GINNEL_DIR"' EXIT
timeout 600 cargo run --quiet --release -p ginnel --example stream_rate -- "$@"
[ -z "$(ls -A "$GINNEL_DIR")" ] && echo "left behind: nothing"
