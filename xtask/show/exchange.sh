#!/usr/bin/env bash
# A real stream through a link, compared by checksum: lines, a random file in chunks, four senders with four receivers.
# Usage: exchange.sh [LINES] [MIB]   (defaults: 5000000 lines, 1024 MiB)
set -euo pipefail
cd "$(dirname "$0")/../.."
lines=${1:-5000000} mib=${2:-1024}
cargo build --quiet --release -p ginnel-cli
ginnel=$PWD/target/release/ginnel
work=$(mktemp -d) GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
trap 'rm -rf "$work" "$GINNEL_DIR"' EXIT
same() { # NAME FILE FILE
    if [ "$(sha256sum <"$2")" = "$(sha256sum <"$3")" ]; then echo "$1: identical"; else echo "$1: DIFFERENT"; exit 1; fi
}

seq 1 "$lines" >"$work/lines"
timeout 120 "$ginnel" recv shm:a >"$work/got" & receiver=$!
seq 1 "$lines" | timeout 120 "$ginnel" send shm:a
wait $receiver
same "$lines lines" "$work/lines" "$work/got"

head -c "${mib}M" /dev/urandom >"$work/random"
timeout 120 "$ginnel" recv shm:a >"$work/got" & receiver=$!
timeout 120 "$ginnel" send shm:a "$work/random" --chunk 64KiB
wait $receiver
same "$mib MiB in chunks of 64KiB" "$work/random" "$work/got"

each=$((lines / 4)) receivers=() senders=()
for i in 1 2 3 4; do timeout 120 "$ginnel" recv shm:a >"$work/got.$i" & receivers+=($!); done
for i in 1 2 3 4; do
    seq $(((i - 1) * each + 1)) $((i * each)) >"$work/part.$i"
    timeout 120 "$ginnel" send shm:a "$work/part.$i" --lines & senders+=($!)
done
wait "${senders[@]}"; wait "${receivers[@]}"
cat "$work"/part.? | LC_ALL=C sort >"$work/lines"; cat "$work"/got.? | LC_ALL=C sort >"$work/got"
same "4 senders, 4 receivers, $((4 * each)) lines, sorted union" "$work/lines" "$work/got"
echo "received by each: $(wc -l "$work"/got.? | awk '$2 != "total" { printf "%s ", $1 }')"
[ -z "$(ls -A "$GINNEL_DIR")" ] && echo "left behind: nothing"
