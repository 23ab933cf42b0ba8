#!/usr/bin/env bash
# Kill -9 of either side 0 to 20 ms after it starts, many times: the next pair always works, and nothing is left.
# Usage: kills.sh [TIMES] [SEED]   (default: 300 times)
set -euo pipefail
cd "$(dirname "$0")/../.."
times=${1:-300} RANDOM=${2:-1}
cargo build --quiet --release -p ginnel-cli
ginnel=$PWD/target/release/ginnel
work=$(mktemp -d) GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
trap 'rm -rf "$work" "$GINNEL_DIR"' EXIT
seq 1 200000 >"$work/many"; seq 1 1000 >"$work/few"
bad=0 leftover=0
for ((i = 0; i < times; i++)); do
    "$ginnel" send shm:k "$work/many" 2>/dev/null & s=$!
    "$ginnel" recv shm:k >/dev/null 2>&1 & r=$!
    sleep "0.0$(printf %02d $((RANDOM % 21)))"
    if ((RANDOM % 2)); then victim=$s other=$r; else victim=$r other=$s; fi
    kill -9 $victim 2>/dev/null || true
    wait $victim 2>/dev/null || true
    # The survivor is told, or waits for its first peer, if the victim had not joined yet: asked to end, it ends.
    sleep 0.05; kill -TERM $other 2>/dev/null || true
    for ((t = 0; t < 100; t++)); do kill -0 $other 2>/dev/null || break; sleep 0.02; done
    if kill -0 $other 2>/dev/null; then echo "trial $i: the survivor hangs"; bad=$((bad + 1)); kill -9 $other; fi
    wait $other 2>/dev/null || true
    [ -n "$(ls -A "$GINNEL_DIR")" ] && leftover=$((leftover + 1))
    # The next pair: drain what waits, then a fresh exchange on the same name.
    timeout 5 "$ginnel" recv shm:k -W 0s >/dev/null 2>&1 || true
    timeout 5 "$ginnel" recv shm:k >"$work/got" 2>/dev/null & r=$!
    timeout 5 "$ginnel" send shm:k "$work/few" || { echo "trial $i: the next sender failed"; bad=$((bad + 1)); }
    wait $r || { echo "trial $i: the next receiver failed"; bad=$((bad + 1)); }
    cmp -s "$work/few" "$work/got" || { echo "trial $i: the next pair exchanged something else"; bad=$((bad + 1)); }
    "$ginnel" clean >/dev/null 2>&1
    [ -z "$(ls -A "$GINNEL_DIR")" ] || { echo "trial $i: left behind: $(ls -A "$GINNEL_DIR")"; bad=$((bad + 1)); }
done
echo "$times kills, $leftover left messages for the next opener, $bad violations"
exit $((bad > 0))
