#!/usr/bin/env bash
# The tests while the time of day jumps by hours, and no call of theirs waits for a time of day. Needs cc and strace.
# Usage: clock.sh [PART OF A TEST BINARY'S NAME [TEST FILTER...]]
set -euo pipefail
cd "$(dirname "$0")/../.."
for tool in cc strace; do command -v "$tool" >/dev/null || { echo "clock: skipped: $tool is not there"; exit 0; }; done
part=${1:-} filter=("${@:2}")
calm=(
    "crash-*"   # steps its children with ptrace, as strace does
    "limits-*"  # stops a process, which strace is told as well; and runs timeout(1), which waits for a time of day
    "interop-*" # so does the C program that it speaks with, on purpose
)
skip=(
    info_tells_what_is_there # compares the time of day at which a link was made with that of now
    users_that_are_killed_anywhere # a queue that was announced before a kill is told by when it was made, by the kernel's clock, which does not jump here
    who_waits_for_a_system_v_queue_sleeps # counts how often it slept; strace makes it stop at each call
)
is_calm() { local of; for of in "${calm[@]}"; do case $1 in $of) return 0 ;; esac; done; return 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -O2 -Wall -Werror -shared -fPIC -o "$work/clock.so" xtask/show/clock.c
cargo test --quiet --no-run --message-format=json -p ginnel-os -p ginnel -p ginnel-cli >"$work/built"
sed -n 's/.*"manifest_path":"\([^"]*\)\/Cargo.toml".*"test":true.*"profile":.*"test":true.*"executable":"\([^"]*\)".*/\1 \2/p' "$work/built" >"$work/tests"
# Of the calls that can be given a time of day, those that wait for one which is not in 1970. (The others take what is left, or the monotonic clock.)
cat >"$work/judge" <<'AWK'
/ = / || /unfinished/ { calls++ }
/mq_timed/ && /\{tv_sec=/ && !/\{tv_sec=0, / { print; next }
/FUTEX_CLOCK_REALTIME/ && /\{tv_sec=/ && !/\{tv_sec=0, / { print; next }
/clock_nanosleep\(CLOCK_REALTIME, TIMER_ABSTIME/ { print; next }
/timer(fd)?_create\(CLOCK_REALTIME/ { print; next }
END { print calls + 0 >"/dev/stderr" }
AWK
status=0 all=0 passed=0
while read -r -u 3 folder test; do
    name=${test##*/}
    if is_calm "$name" || [[ $name != *$part* ]]; then continue; fi
    code=0
    (cd "$folder" && CARGO_MANIFEST_DIR=$folder timeout 900 strace -f --seccomp-bpf -qq -E LD_PRELOAD="$work/clock.so" \
        -e trace=mq_timedsend,mq_timedreceive,futex,clock_nanosleep,timer_create,timerfd_create -e signal=none \
        -o "|awk -f $work/judge >$work/bad 2>$work/calls" "$test" "${filter[@]}" "${skip[@]/#/--skip=}") >"$work/said" 2>&1 </dev/null || code=$?
    n=$(awk '/^test result: / { n += $4 } END { print n + 0 }' "$work/said")
    calls=$(tail -n 1 "$work/calls") bad=$(wc -l <"$work/bad")
    passed=$((passed + n)) all=$((all + calls))
    echo "$name: $n passed, status $code; $calls calls that may be given a time of day, $bad that wait for one"
    [ "$code" = 0 ] || { status=1; sed -n '/^failures:$/,$p' "$work/said"; }
    [ "$bad" = 0 ] || { status=1; head -n 5 "$work/bad"; }
done 3<"$work/tests"
echo "clock: $passed tests passed; $all calls looked at"
[ "$all" -gt 0 ] || { echo "clock: FAILED: strace saw none"; status=1; }
exit $status
