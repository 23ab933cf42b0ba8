#!/usr/bin/env bash
# Remote calls between two processes with tarpc, over ginnel and over a Unix socket, each answer checked: nothing differs but the transport.
# Usage: rpc.sh [CALLS] [TURNS]   (defaults: 20000 one by one and 20000 several at a time, 3 turns)
set -euo pipefail
cd "$(dirname "$0")/../.."
GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
trap 'rm -rf "$GINNEL_DIR"' EXIT
timeout 600 cargo run --quiet --release -p ginnel --example rpc -- "$@"
[ -z "$(ls -A "$GINNEL_DIR")" ] && echo "left behind: nothing"
