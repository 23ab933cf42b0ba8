#!/usr/bin/env bash
# HTTP between two processes with hyper, over ginnel and over a Unix socket, checksummed where it arrives: nothing differs but the transport.
# Usage: http.sh [MIB] [TURNS]   (defaults: 1024 MiB each way, 3 turns)
set -euo pipefail
cd "$(dirname "$0")/../.."
GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
trap 'rm -rf "$GINNEL_DIR"' EXIT
timeout 600 cargo run --quiet --release -p ginnel --example http -- "$@"
[ -z "$(ls -A "$GINNEL_DIR")" ] && echo "left behind: nothing"
