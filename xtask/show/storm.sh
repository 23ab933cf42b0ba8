#!/usr/bin/env bash
# The whole test suite in a storm of signals: each thread of each process takes one a millisecond, without SA_RESTART. Needs cc.
# Usage: storm.sh [PART OF A TEST BINARY'S NAME [TEST FILTER...]]   (STORM_LOG keeps what the tests said)
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v cc >/dev/null || { echo "storm: skipped: cc is not there"; exit 0; }
part=${1:-} filter=("${@:2}")
# What cannot work in a storm, and why. Of binaries:
calm=(
    "crash-*"  # each of its children is single-stepped with ptrace, where a signal is a stop that is not a step; run by `cargo xtask test crash`
    "loom-*"   # without --cfg loom it holds no test
)
# Of tests:
skip=(
    too_many_are_pending                            # counts what RLIMIT_SIGPENDING allows, of which each timer takes one
    an_idle_receiver_uses_next_to_no_processor_time # measures processor time: of 4,000 signals a second, 3 % of it
)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=${STORM_LOG:-$work/log}
: >"$log"
cc -O2 -Wall -Werror -shared -fPIC -o "$work/storm.so" xtask/show/storm.c
cargo test --quiet --no-run --message-format=json -p ginnel-os -p ginnel -p ginnel-cli -p ginnel-core >"$work/built"
# Lines of: folder of the package, test binary.
sed -n 's/.*"manifest_path":"\([^"]*\)\/Cargo.toml".*"test":true.*"profile":.*"test":true.*"executable":"\([^"]*\)".*/\1 \2/p' "$work/built" >"$work/tests"
[ -s "$work/tests" ] || { echo "storm: cargo built no test binary"; exit 1; }

is_calm() { local of; for of in "${calm[@]}"; do case $1 in $of) return 0 ;; esac; done; return 1; }
counted() { od -An -v -w32 -t u8 -N 32 "$work/count" | tr -s ' '; }
status=0 all=(0 0 0 0) passed=0
while read -r -u 3 folder test; do
    name=${test##*/}
    if is_calm "$name" || [[ $name != *$part* ]]; then continue; fi
    head -c 4096 /dev/zero >"$work/count"
    code=0
    (cd "$folder" && LD_PRELOAD=$work/storm.so STORM_COUNT=$work/count STORM_UNDER=${test%/deps/*} CARGO_MANIFEST_DIR=$folder \
        timeout 900 "$test" "${filter[@]}" "${skip[@]/#/--skip=}") >"$work/said" 2>&1 </dev/null || code=$?
    cat "$work/said" >>"$log"
    read -r signals interrupted threads processes < <(counted)
    n=$(awk '/^test result: / { n += $4 } END { print n + 0 }' "$work/said")
    passed=$((passed + $n))
    echo "$name: $n passed, status $code; $signals signals, $interrupted system calls interrupted, in $threads threads of $processes processes"
    [ "$code" = 0 ] || { status=1; sed -n '/^failures:$/,$p' "$work/said"; }
    now=("$signals" "$interrupted" "$threads" "$processes")
    for i in 0 1 2 3; do all[i]=$((all[i] + now[i])); done
done 3<"$work/tests"
echo "storm: $passed tests passed; ${all[0]} signals, ${all[1]} system calls interrupted, in ${all[2]} threads of ${all[3]} processes"
# It must have stormed: the whole suite takes a minute and more, and has some threads that wait at each moment of it.
if [ -z "$part" ] && { [ "${all[0]}" -lt 100000 ] || [ "${all[1]}" -lt 20000 ]; }; then
    echo "storm: FAILED: that was none: at least 100000 signals and 20000 interrupted system calls are expected"; status=1
fi
exit $status
