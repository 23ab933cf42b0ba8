#!/usr/bin/env bash
# `ginnel ls` misses nothing that ipcs, ss, lsof, /dev/shm and the mqueue file system see, with an object of each kind; and its speed with 2,000 processes.
# Needs python3; uses lsof and ss where they are.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet --release -p ginnel-cli
ginnel=$PWD/target/release/ginnel
[ -n "${CARGO_TARGET_DIR:-}" ] && ginnel=$CARGO_TARGET_DIR/release/ginnel
work=$(mktemp -d) GINNEL_DIR=$(mktemp -d /dev/shm/ginnel-show.XXXXXX)
export GINNEL_DIR
maker='' crowd=''
finish() {
    exec 7>&- 8>&-
    wait $maker $crowd 2>/dev/null || true
    rm -rf "$work" "$GINNEL_DIR"
}
trap finish EXIT

# One object of each kind, with what leads to it on a line of its own; all removed when standard input ends.
cat >"$work/make.py" <<'PYTHON'
import ctypes, mmap, os, select, socket, sys, tempfile
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.sem_open.restype = ctypes.c_void_p
work, n = sys.argv[1], os.getpid()
name = b"/ginnel-show-%d" % n
key = 0x47110000 | n & 0xFFFF
def check(value, what):
    if value in (-1, None): raise OSError(ctypes.get_errno(), what)
    return value
queue = check(libc.mq_open(name, os.O_CREAT | os.O_RDWR, 0o600, None), "mq_open")
check(libc.mq_send(queue, b"12345", 5, 0), "mq_send")
idle = name + b"-idle"
libc.close(check(libc.mq_open(idle, os.O_CREAT | os.O_RDWR, 0o600, None), "mq_open"))
msg, msg0 = (check(libc.msgget(k, 0o1600), "msgget") for k in (key, 0))
sem = check(libc.semget(key, 3, 0o1600), "semget")
shm, removed = check(libc.shmget(key, 8192, 0o1600), "shmget"), check(libc.shmget(0, 4096, 0o1600), "shmget")
for segment in (shm, removed): check(libc.shmat(segment, None, 0), "shmat")
libc.shmctl(removed, 0, None)  # marked for destruction
check(libc.sem_open(name, os.O_CREAT | os.O_RDWR, 0o600, 7), "sem_open")
memory = os.open("/dev/shm" + name.decode(), os.O_CREAT | os.O_RDWR, 0o600)
os.truncate(memory, 4096); mapped = mmap.mmap(memory, 4096); os.close(memory)
fifo = work + "/fifo"; os.mkfifo(fifo); fifo_fd = os.open(fifo, os.O_RDWR)
memfd = os.memfd_create("two words"); eventfd = os.eventfd(3) if hasattr(os, "eventfd") else None
pipe, pair, poll = os.pipe(), socket.socketpair(), select.epoll()
listener = socket.socket(socket.AF_UNIX); listener.bind(work + "/socket"); listener.listen(5)
client = socket.socket(socket.AF_UNIX); client.connect(work + "/socket"); accepted = listener.accept()
abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); abstract.bind(b"\0ginnel-show-%d" % n)
ino = lambda fd: os.fstat(fd).st_ino
for line in ("mq:" + name.decode(), "mq:" + idle.decode(), "sysv:%#x" % key, "sysv:[%d]" % msg0, "sysv-sem:%#x" % key, "sysv-shm:%#x" % key,
             "sysv-shm:[%d]" % removed, "sem:" + name.decode(), "posix-shm:" + name.decode(), "fifo:" + fifo, "memfd:two words",
             "pipe:[%d]" % ino(pipe[0]), "unix:[%d]" % ino(pair[0].fileno()), "unix:[%d]" % ino(pair[1].fileno()), "unix:" + work + "/socket",
             "unix:@ginnel-show-%d" % n, "epoll:[%d/%d]" % (n, poll.fileno())): print(line)
print("end", flush=True)
sys.stdin.read()
libc.mq_unlink(name); libc.mq_unlink(idle); libc.sem_unlink(name); os.unlink("/dev/shm" + name.decode())
for queue in (msg, msg0): libc.msgctl(queue, 0, None)
libc.semctl(sem, 0, 0); libc.shmctl(shm, 0, None)
PYTHON
mkfifo "$work/hold" "$work/made"
python3 "$work/make.py" "$work" <"$work/hold" >"$work/made" &
maker=$!
exec 7>"$work/hold"
sed '/^end$/q' "$work/made" >"$work/made.txt"
grep -qx end "$work/made.txt" || { echo "the objects could not be made"; exit 1; }
printf 'x\n' | "$ginnel" send shm:show

# What others see is asked before and after ginnel; only what is there both times must be in its list.
others() {
    sed '/^end$/d; s/^/made /' "$work/made.txt"
    ipcs -q | awk '$2 ~ /^[0-9]+$/ { print "ipcs sysv id " $2 }'
    ipcs -s | awk '$2 ~ /^[0-9]+$/ { print "ipcs sysv-sem id " $2 }'
    ipcs -m | awk '$2 ~ /^[0-9]+$/ { print "ipcs sysv-shm id " $2 }'
    find /dev/shm -maxdepth 1 -type f -printf 'devshm file %i\n'
    find "${1:-/dev/mqueue}" -mindepth 1 -printf 'mqueue mq:/%f\n' 2>/dev/null || true
    # An unaccepted connection has no number.
    if command -v ss >/dev/null; then
        ss -xapnH | awk '{ split($0, f); for (i = 5; i <= NF; i++) if (f[i] ~ /^[0-9]+$/) { if (f[i] > 0) print "ss unix inode " f[i]; break } }'
    fi
    if command -v lsof >/dev/null; then
        # A program that was started from a memfd is no channel: lsof calls it `txt`.
        lsof -nP -w -F ftni 2>/dev/null | awk '
            /^f/ { f = substr($0, 2) } /^t/ { t = substr($0, 2); i = "" } /^i/ { i = substr($0, 2) }
            /^n/ { n = substr($0, 2)
                if (t == "FIFO" && n == "pipe") print "lsof pipe inode " i
                else if (t == "FIFO") { sub(/ type=.*/, "", n); sub(/ \(deleted\)$/, "", n); print "lsof fifo:" n }
                else if (t == "unix") print "lsof unix inode " i
                else if (n ~ /^\/memfd:/ && f != "txt") print "lsof memfd inode " i }'
    fi
}

# In the form of `others`, each object by all that leads to it.
ours() {
    python3 -c '
import json, sys
for o in json.load(sys.stdin)["objects"]:
    a, m = o["attributes"], o["mechanism"]
    print(o["address"])
    if "id" in a: print(m, "id", a["id"])
    if "inode" in a: print(m, "inode", a["inode"])
    if o["file_inode"]: print("file", o["file_inode"])'
}

# The mqueue file system: where it is mounted, or where this may mount it for itself.
see() {
    if mountpoint -q /dev/mqueue 2>/dev/null; then others; return; fi
    mkdir -p "$work/mqueue"
    if unshare --mount sh -c "mount -t mqueue none '$work/mqueue'" 2>/dev/null; then
        unshare --mount bash -c "mount -t mqueue none '$work/mqueue'; find '$work/mqueue' -mindepth 1 -printf 'mqueue mq:/%f\n'"
    fi
    others /nonexistent
}

see | sort -u >"$work/before"
"$ginnel" ls --all --json 2>"$work/talk" >"$work/json"
see | sort -u >"$work/after"
comm -12 "$work/before" "$work/after" >"$work/lasting"
ours <"$work/json" | sort -u >"$work/ours"
status=0
echo "objects that ginnel lists: $(python3 -c 'import json; print(len(json.load(open("'"$work/json"'"))["objects"]))')"
for tool in made ipcs mqueue devshm ss lsof; do
    sed -n "s/^$tool //p" "$work/lasting" | sort -u >"$work/theirs"
    comm -23 "$work/theirs" "$work/ours" >"$work/missing"
    echo "$tool: $(wc -l <"$work/theirs") objects, $(wc -l <"$work/missing") of them missing"
    if [ -s "$work/missing" ]; then
        sed 's/^/  missing: /' "$work/missing"
        status=1
    fi
done
sed 's/^/  said: /' "$work/talk"

# 2,000 processes with a pipe each.
cat >"$work/crowd.py" <<'PYTHON'
import os, subprocess, sys
children = []
for n in range(2000):
    r, w = os.pipe()
    children.append(subprocess.Popen(["sleep", "300"], stdin=r, stdout=subprocess.DEVNULL)); os.close(r)
    os.set_inheritable(w, False); children[-1].kept = w
print("end", flush=True)
sys.stdin.read()
for child in children: child.kill()
for child in children: child.wait()
PYTHON
mkfifo "$work/hold2" "$work/made2"
(ulimit -n 8192; exec python3 "$work/crowd.py" <"$work/hold2" >"$work/made2") 7>&- &
crowd=$!
exec 8>"$work/hold2"
if grep -qx end "$work/made2"; then
    for form in "ls" "ls --all --json"; do
        best=999999
        for _ in 1 2 3 4 5; do
            start=$(date +%s%N); "$ginnel" $form >"$work/json" 2>/dev/null; end=$(date +%s%N)
            took=$(((end - start) / 1000000)); ((took < best)) && best=$took
        done
        echo "ginnel $form with $(ls -d /proc/[0-9]* | wc -l) processes: $best ms, the best of 5"
        ((best < 1000)) || status=1
    done
    echo "pipes that it lists then: $(python3 -c 'import json; print(sum(o["mechanism"] == "pipe" for o in json.load(open("'"$work/json"'"))["objects"]))')"
else
    echo "2,000 processes could not be started here"; status=1
fi
exit $status
