#!/usr/bin/env bash
# A stream of bytes between two processes against a Unix socket, in turns, every byte summed where it arrives (ginnel bench).
# Usage: stream.sh [MIB] [ROUNDS] [BYTES_OF_A_WRITE]   (defaults: 2048 MiB a round, 5 rounds, 65536 bytes)
set -euo pipefail
cd "$(dirname "$0")/../.."
mib=${1:-2048} rounds=${2:-5} bytes=${3:-65536}
cargo build --quiet --release -p ginnel-cli
GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
trap 'rm -rf "$GINNEL_DIR"' EXIT
timeout 600 "${CARGO_TARGET_DIR:-target}/release/ginnel" bench --shape stream --sizes "$bytes" --messages $((mib * 1048576 / bytes)) --rounds "$rounds"
[ -z "$(ls -A "$GINNEL_DIR")" ] && echo "left behind: nothing"
