#!/usr/bin/env bash
# A random file through `ginnel send` and `ginnel recv` over every address that two processes can share, compared by checksum; numbers through signals.
# Usage: moves.sh [MIB]   (default: 64)
set -euo pipefail
cd "$(dirname "$0")/../.."
mib=${1:-64}
cargo build --quiet --release -p ginnel-cli
ginnel=$PWD/${CARGO_TARGET_DIR:-target}/release/ginnel
case ${CARGO_TARGET_DIR:-} in /*) ginnel=$CARGO_TARGET_DIR/release/ginnel ;; esac
work=$(mktemp -d) GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
queue=mq:/ginnel-moves-$$ key=sysv:$((0x47000000 + $$)) host=127.$((1 + $$ / 250 % 250)).$(($$ % 250)).1:4711
clean_up() {
    jobs -p | xargs -r kill 2>/dev/null || true
    "$ginnel" --quiet rm --force "$queue" 2>/dev/null || true
    "$ginnel" --quiet rm --force "$key" 2>/dev/null || true
    rm -rf "$work" "$GINNEL_DIR"
}
trap clean_up EXIT
status=0
# same NAME STATUS STATUS IN OUT: both ended well, and what came out is what went in.
same() {
    local ms=$((($(date +%s%N) - begin) / 1000000)) fate=identical
    [ "$(sha256sum <"$4")" = "$(sha256sum <"$5")" ] || fate="DIFFERENT ($(stat -c %s "$5") of $(stat -c %s "$4") bytes)"
    [ "$2,$3" = 0,0 ] || fate="$fate, STATUS of send $2, of recv $3"
    case $fate in identical) ;; *) status=1 ;; esac
    printf '%-16s %6d ms  %s\n' "$1" "$ms" "$fate"
}
# move NAME ADDRESS [OPTION of recv]...
move() {
    local name=$1 address=$2 sent=0 came=0 receiver
    shift 2
    begin=$(date +%s%N)
    timeout 60 "$ginnel" --quiet recv -W 10s "$@" "$address" >"$work/out" & receiver=$!
    # Datagrams wait for nobody.
    case $address in udp:*) until grep -q ":1267 " /proc/net/udp || ! kill -0 $receiver 2>/dev/null; do sleep 0.01; done ;; esac
    timeout 60 "$ginnel" --quiet send -W 10s "$address" "$work/in" || sent=$?
    wait $receiver || came=$?
    same "$name" $sent $came "$work/in" "$work/out"
}

head -c "${mib}M" /dev/urandom >"$work/in"
move shm shm:moves
begin=$(date +%s%N) codes=
{ timeout 60 "$ginnel" --quiet send pipe: "$work/in" || echo $? >"$work/failed"; } | timeout 60 "$ginnel" --quiet recv pipe: >"$work/out" || codes=$?
same pipe "$(cat "$work/failed" 2>/dev/null || echo 0)" "${codes:-0}" "$work/in" "$work/out"
move fifo "fifo:$work/fifo"
move mq "$queue"
move sysv "$key"
move "unix stream" "unix:$work/stream"
move "unix seqpacket" "unix:$work/packets?type=seqpacket"
move "unix dgram" "unix:$work/datagrams?type=dgram"
move tcp "tcp://$host"
# Nothing tells the end of datagrams but their number: as many as chunks of the longest one.
move udp "udp://$host" -n $(((mib * 1048576 + 65506) / 65507))

seq 10000 >"$work/numbers"
begin=$(date +%s%N) sent=0 came=0
# `exec`: the process that receives is the one that is known here.
(exec "$ginnel" --quiet recv -W 10s signal: >"$work/out") & receiver=$!
timeout 60 "$ginnel" --quiet send -W 10s "signal:$receiver" "$work/numbers" || sent=$?
wait $receiver || came=$?
same "signal, 10000" $sent $came "$work/numbers" "$work/out"
exit $status
