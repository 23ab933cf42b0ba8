#!/usr/bin/env bash
# Each limit of communication, met in namespaces where it is small: the library and `ginnel send`, `recv` say which, how much, and what raises it.
# Needs unshare(1) with user namespaces; says so and ends with status 0 where they are forbidden.
set -euo pipefail
cd "$(dirname "$0")/../.."
apart=(timeout 20 unshare --user --map-root-user --ipc --mount)
"${apart[@]}" sh -c 'mount -t tmpfs none /dev/shm && echo 5 >/proc/sys/fs/mqueue/msg_max' 2>/dev/null ||
    { echo "limits: skipped: user, IPC and mount namespaces are not allowed here"; exit 0; }
echo "== ginnel-os"
cargo test --quiet -p ginnel-os --test limits -- --nocapture --test-threads=1 2>&1 | sed -n 's/.*limit: //p; /^skipped/p; /panicked\|^test result: FAILED/p'
[ "${PIPESTATUS[0]}" = 0 ] || { echo "limits: a test failed"; exit 1; }

echo "== ginnel"
cargo build --quiet --release -p ginnel-cli
ginnel=$PWD/${CARGO_TARGET_DIR:-target}/release/ginnel
case ${CARGO_TARGET_DIR:-} in /*) ginnel=$CARGO_TARGET_DIR/release/ginnel ;; esac
status=0
# told CASE STATUS 'WORDS' PREPARE COMMAND: in namespaces, with a /dev/shm of its own, the command ends within a second, so, and says these.
told() {
    local case=$1 want=$2 words=$3 start text code=0
    start=$(date +%s%N)
    text=$("${apart[@]}" bash -c 'mount -t tmpfs -o "size=${SIZE:-16m}" none /dev/shm; export GINNEL_DIR=/dev/shm/links; ginnel=$1
        eval "$2" >/dev/null || exit 77; start=$(date +%s%N); code=0; eval "$3" 2>&1 >/dev/null || code=$?
        echo "[$((($(date +%s%N) - start) / 1000000)) ms]"; exit $code' _ "$ginnel" "$4" "$5" 2>&1) || code=$?
    echo "$case -> $text"
    local ms=${text##*[}
    ms=${ms%% ms]*}
    [ "$code" = "$want" ] || { echo "  WRONG: status $code, not $want"; status=1; }
    [ "$ms" -lt 1000 ] 2>/dev/null || { echo "  WRONG: it took too long"; status=1; }
    local word
    while IFS= read -r word; do
        case $text in *"$word"*) ;; *) echo "  WRONG: it does not say \"$word\""; status=1 ;; esac
    done < <(tr '|' '\n' <<<"$words")
}

told "mq: deeper than msg_max" 1 "fs.mqueue.msg_max is 5|sysctl" "echo 5 >/proc/sys/fs/mqueue/msg_max" 'echo x | $ginnel send "mq:/q?capacity=6"'
told "mq: too many queues" 1 "fs.mqueue.queues_max allows 0|sysctl" "echo 0 >/proc/sys/fs/mqueue/queues_max" 'echo x | $ginnel send mq:/q'
told "mq: more bytes than RLIMIT_MSGQUEUE" 1 "RLIMIT_MSGQUEUE|1000|ulimit -q" "ulimit -q 1000" 'echo x | $ginnel send mq:/q'
told "mq: message too long" 1 "max=8KiB|?max=" ":" 'head -c 9000 /dev/zero | $ginnel send --chunk 8MiB mq:/q'
told "mq: full" 124 "10" ":" 'seq 100 | $ginnel send -W 100ms mq:/q'
told "sysv: too many queues" 1 "kernel.msgmni allows 0|sysctl" "echo 0 >/proc/sys/kernel/msgmni" 'echo x | $ginnel send sysv:1'
told "sysv: message above msgmax" 1 "max=100B|kernel.msgmax" "echo 100 >/proc/sys/kernel/msgmax" 'head -c 200 /dev/zero | $ginnel send --chunk 8MiB sysv:1'
told "sysv: message above msgmnb" 1 "max=100B|msgmnb" "echo 100 >/proc/sys/kernel/msgmnb" 'head -c 200 /dev/zero | $ginnel send --chunk 8MiB sysv:1'
told "sysv: full" 124 "memory=100" "echo 100 >/proc/sys/kernel/msgmnb" 'seq 200 | $ginnel send -W 100ms sysv:1'
told "unix: nobody receives" 124 "receiver" ":" 'echo x | $ginnel send -W 100ms unix:/dev/shm/s'
told "unix: path of 108 bytes" 1 "107" ":" "echo x | \$ginnel send unix:/$(printf %0107d 0)"
told "fifo: nobody receives" 124 "receiver" ":" 'echo x | $ginnel send -W 100ms fifo:/dev/shm/f'
told "udp: datagram too long" 1 "65507" ":" 'head -c 66000 /dev/zero | $ginnel send --chunk 8MiB udp://127.0.0.1:9'
SIZE=64k told "shm: full /dev/shm" 1 "/dev/shm|free|capacity" ":" 'echo x | $ginnel send shm:a'
SIZE=1m told "shm: full /dev/shm, large message" 1 "free" ":" 'head -c 4M /dev/zero | $ginnel send --chunk 8MiB -W 100ms shm:a'
# One descriptor more each time, until there are enough: each failure of the link says what raises the limit, and none is a panic.
enough() {
    for ((n = 5; n < 40; n++)); do
        code=0
        text=$(bash -c 'ulimit -n "$1"; exec "$2" send -W 100ms "$3" /dev/shm/in' _ "$n" "$ginnel" "$1" 2>&1) || code=$?
        case $code,$text in
            0,* | 124,*) return 0 ;;
            1,*"cannot watch for signals"* | 1,*"cannot open /dev/shm/in"*) ;; # before the link
            1,*"ulimit -n"*) said=$text ;;
            *) echo >&2 "with $n descriptors: status $code: $text"; return 1 ;;
        esac
    done
    return 1
}
export -f enough
export ginnel
for address in shm:a mq:/q unix:/dev/shm/s fifo:/dev/shm/f udp://127.0.0.1:9; do
    told "$address: descriptors exhausted" 1 "RLIMIT_NOFILE|ulimit -n" "echo x >/dev/shm/in" "said=; enough $address; code=\$?; echo \"\$said\" >&2; [ \$code != 0 ]"
done
exit $status
