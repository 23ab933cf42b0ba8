#!/usr/bin/env bash
# System calls, files and descriptors from the library call to the first message; CPU time of a receiver that waits for 10 s.
# Needs strace.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet --release -p ginnel-cli
cargo build --quiet --release -p ginnel --example first_message
work=$(mktemp -d) GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
trap 'rm -rf "$work" "$GINNEL_DIR"' EXIT
strace -f -o "$work/trace" target/release/examples/first_message
# The example marks both ends with a call that nothing else makes.
sed -n '/getppid/,/getppid/p' "$work/trace" | grep -v getppid >"$work/calls"
echo "system calls from open to the first message: $(wc -l <"$work/calls")"
echo "files made: $(grep -c 'linkat(' "$work/calls")"
cat "$work/calls" | awk '{ sub(/^[0-9]+ +/, ""); sub(/\(.*/, ""); n[$0]++ } END { for (c in n) printf "  %s %d\n", c, n[c] }' | sort
target/release/examples/first_message --count

"./target/release/ginnel" recv shm:idle & receiver=$!
sleep 1
before=$(awk '{ print $14 + $15 }' /proc/$receiver/stat); ns=$(cat /proc/$receiver/task/*/schedstat | awk '{ s += $1 } END { print s }')
sleep 10
after=$(awk '{ print $14 + $15 }' /proc/$receiver/stat); ns2=$(cat /proc/$receiver/task/*/schedstat | awk '{ s += $1 } END { print s }')
kill $receiver; wait $receiver 2>/dev/null || true
echo "idle blocked receiver over 10 s: $((after - before)) clock ticks, $(((ns2 - ns) / 1000)) us of CPU in all its threads"
