//! The judgement: one rule for each limit that hurts when it is too low, or fact that hurts where it holds. `hurts` is what breaks ordinary use, `tight`
//! what larger needs meet.
//!
//! Thresholds are judged against what the tool and common programs need, and against what kernels have as their default: a default is never
//! worse than tight.

use super::reading::Reading;
use serde::Serialize;

/// How bad it is; what is worse is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// It cannot be read.
    Unknown,
    Ok,
    Tight,
    Hurts,
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Tight => "tight",
            Self::Hurts => "HURTS",
        }
    }
}

/// When a value is bad.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    /// The less, the worse.
    Below { hurts: u64, tight: u64 },
    /// From this on.
    From { tight: u64 },
    /// If it is this.
    Is { bad: u64, state: State },
}

use When::{Below, From, Is};

/// A limit or fact that can hurt.
pub(super) struct Rule {
    /// What is judged.
    pub(super) name: &'static str,
    pub(super) when: When,
    /// The consequence.
    pub(super) why: &'static str,
    /// The command that helps.
    pub(super) remedy: &'static str,
    /// The option that helps when a container is started.
    pub(super) in_container: Option<&'static str>,
}

/// What a rule says of a reading. What no rule is about is fine.
pub(super) fn judge(rule: Option<&Rule>, reading: &Reading) -> State {
    match (rule, reading.number()) {
        (_, None) if !reading.is_unlimited() => State::Unknown,
        (Some(rule), Some(value)) => rule.when.state(value),
        _ => State::Ok,
    }
}

impl When {
    fn state(self, value: u64) -> State {
        match self {
            Below { hurts, .. } if value < hurts => State::Hurts,
            Below { tight, .. } if value < tight => State::Tight,
            From { tight } if value >= tight => State::Tight,
            Is { bad, state } if value == bad => state,
            _ => State::Ok,
        }
    }
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "fs.mqueue.queues_max",
        when: Below { hurts: 16, tight: 128 },
        why: "No more message queues than this can be there, of all users together: the next mq: is refused with ENOSPC.",
        remedy: "sysctl -w fs.mqueue.queues_max=1024",
        in_container: Some("docker run --sysctl fs.mqueue.queues_max=1024"),
    },
    Rule {
        name: "fs.mqueue.msg_max",
        when: Below { hurts: 10, tight: 64 },
        why: "A message queue made without privileges holds no more messages than this: a sender waits once its receiver is so far behind.",
        remedy: "sysctl -w fs.mqueue.msg_max=1024",
        in_container: Some("docker run --sysctl fs.mqueue.msg_max=1024"),
    },
    Rule {
        name: "fs.mqueue.msgsize_max",
        when: Below { hurts: 8192, tight: 65_536 },
        why: "A longer message is refused by any queue that is made without privileges: send it in pieces, or through shm:.",
        remedy: "sysctl -w fs.mqueue.msgsize_max=1048576",
        in_container: Some("docker run --sysctl fs.mqueue.msgsize_max=1048576"),
    },
    Rule {
        name: "RLIMIT_MSGQUEUE",
        when: Below { hurts: 100_000, tight: 819_200 },
        why: "All message queues of this user together may take so many bytes, one of 10 messages of 8 KiB about 83000: the next one is refused with EMFILE.",
        remedy: "ulimit -q 67108864, or LimitMSGQUEUE= of the systemd unit",
        in_container: Some("docker run --ulimit msgqueue=67108864"),
    },
    Rule {
        name: "kernel.msgmax",
        when: Below { hurts: 8192, tight: 65_536 },
        why: "A longer message is refused by every System V queue, with EINVAL: send it in pieces, or through shm:.",
        remedy: "sysctl -w kernel.msgmax=1048576",
        in_container: Some("docker run --sysctl kernel.msgmax=1048576"),
    },
    Rule {
        name: "kernel.msgmnb",
        when: Below { hurts: 16_384, tight: 65_536 },
        why: "A new System V queue holds no more bytes than this: a sender waits, or must raise it with privileges, once its receiver is so far behind.",
        remedy: "sysctl -w kernel.msgmnb=4194304",
        in_container: Some("docker run --sysctl kernel.msgmnb=4194304"),
    },
    Rule {
        name: "kernel.msgmni",
        when: Below { hurts: 16, tight: 1024 },
        why: "No more System V queues than this can be there: the next one is refused with ENOSPC. They stay until somebody removes them.",
        remedy: "sysctl -w kernel.msgmni=32000; ipcs -q lists what is there",
        in_container: Some("docker run --sysctl kernel.msgmni=32000"),
    },
    Rule {
        name: "kernel.sem SEMMSL",
        when: Below { hurts: 25, tight: 250 },
        why: "A System V semaphore set has no more semaphores than this: a larger one is refused with EINVAL.",
        remedy: "sysctl -w kernel.sem=\"32000 1024000000 500 32000\"",
        in_container: Some("docker run --sysctl kernel.sem=\"32000 1024000000 500 32000\""),
    },
    Rule {
        name: "kernel.sem SEMMNS",
        when: Below { hurts: 256, tight: 32_000 },
        why: "All System V sets together have no more semaphores than this: the next set is refused with ENOSPC.",
        remedy: "sysctl -w kernel.sem=\"32000 1024000000 500 32000\"",
        in_container: Some("docker run --sysctl kernel.sem=\"32000 1024000000 500 32000\""),
    },
    Rule {
        name: "kernel.sem SEMOPM",
        when: Below { hurts: 5, tight: 32 },
        why: "No more operations than this are done together by semop(2): a longer list is refused with E2BIG.",
        remedy: "sysctl -w kernel.sem=\"32000 1024000000 500 32000\"",
        in_container: Some("docker run --sysctl kernel.sem=\"32000 1024000000 500 32000\""),
    },
    Rule {
        name: "kernel.sem SEMMNI",
        when: Below { hurts: 16, tight: 128 },
        why: "No more System V sets than this can be there: the next one is refused with ENOSPC. They stay until somebody removes them.",
        remedy: "sysctl -w kernel.sem=\"32000 1024000000 500 32000\"; ipcs -s lists what is there",
        in_container: Some("docker run --sysctl kernel.sem=\"32000 1024000000 500 32000\""),
    },
    Rule {
        name: "kernel.shmmax",
        when: Below { hurts: 32 << 20, tight: 1 << 30 },
        why: "A System V segment of more bytes is refused with EINVAL, which databases meet first.",
        remedy: "sysctl -w kernel.shmmax=18446744073692774399",
        in_container: Some("docker run --sysctl kernel.shmmax=18446744073692774399"),
    },
    Rule {
        name: "kernel.shmall",
        when: Below { hurts: 8192, tight: 262_144 },
        why: "All System V segments together have no more pages than this: the next one is refused with ENOSPC.",
        remedy: "sysctl -w kernel.shmall=18446744073692774399",
        in_container: Some("docker run --sysctl kernel.shmall=18446744073692774399"),
    },
    Rule {
        name: "kernel.shmmni",
        when: Below { hurts: 16, tight: 1024 },
        why: "No more System V segments than this can be there: the next one is refused with ENOSPC. They stay until somebody removes them.",
        remedy: "sysctl -w kernel.shmmni=4096; ipcs -m lists what is there",
        in_container: Some("docker run --sysctl kernel.shmmni=4096"),
    },
    Rule {
        name: "kernel.shm_rmid_forced",
        when: Is { bad: 1, state: State::Hurts },
        why: "A System V segment is destroyed when its last process detaches, though nobody removed it: what was left for the next process is gone.",
        remedy: "sysctl -w kernel.shm_rmid_forced=0",
        in_container: Some("docker run --sysctl kernel.shm_rmid_forced=0"),
    },
    Rule {
        name: "/dev/shm free",
        when: Below { hurts: 16 << 20, tight: 256 << 20 },
        why: "Links of shm:, POSIX shared memory and semaphores lie there: making one, or its next large message, fails with ENOSPC when it is full.",
        remedy: "mount -o remount,size=2G /dev/shm; ginnel clean collects what crashes left",
        in_container: Some("docker run --shm-size=2g"),
    },
    Rule {
        name: "/dev/shm free files",
        when: Below { hurts: 16, tight: 1024 },
        why: "Each shm: link, POSIX shared memory and semaphore is a file there: the next one fails with ENOSPC.",
        remedy: "mount -o remount,nr_inodes=1M /dev/shm; ginnel clean collects what crashes left",
        in_container: None,
    },
    Rule {
        name: "/dev/shm on tmpfs",
        when: Is { bad: 0, state: State::Hurts },
        why: "Shared memory lies on a file system that writes it to a disk, or that refuses what a link needs (O_TMPFILE, fallocate): slow at best.",
        remedy: "mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm; or set GINNEL_DIR to a directory on tmpfs",
        in_container: Some("docker run --tmpfs /dev/shm:rw,nosuid,nodev,mode=1777"),
    },
    Rule {
        name: "/dev/mqueue mounted",
        when: Is { bad: 0, state: State::Tight },
        why: "Message queues work, but there is no directory to list or remove them by: what a crash left stays unseen.",
        remedy: "mkdir -p /dev/mqueue && mount -t mqueue none /dev/mqueue",
        in_container: None,
    },
    Rule {
        name: "RemoveIPC for this user",
        when: Is { bad: 1, state: State::Hurts },
        why: "When the last session of this user ends, systemd deletes the user's files in /dev/shm, message queues and System V objects, under those who still run.",
        remedy: "loginctl enable-linger $USER; or RemoveIPC=no below [Login] in /etc/systemd/logind.conf.d/ipc.conf and systemctl restart systemd-logind",
        in_container: None,
    },
    Rule {
        name: "fs.pipe-max-size",
        when: Below { hurts: 65_536, tight: 1 << 20 },
        why: "A pipe cannot be made larger than this without privileges: each wait of a stream carries fewer bytes.",
        remedy: "sysctl -w fs.pipe-max-size=1048576",
        in_container: None,
    },
    Rule {
        name: "fs.pipe-user-pages-soft",
        when: Below { hurts: 1024, tight: 16_384 },
        why: "When all pipes of this user have so many pages, new ones get one or two instead of 16: streams through them crawl.",
        remedy: "sysctl -w fs.pipe-user-pages-soft=65536",
        in_container: None,
    },
    Rule {
        name: "fs.pipe-user-pages-hard",
        when: Below { hurts: 1024, tight: 16_384 },
        why: "When all pipes of this user have so many pages, none can be made larger, and new ones are refused with ENFILE or EPERM.",
        remedy: "sysctl -w fs.pipe-user-pages-hard=0",
        in_container: None,
    },
    Rule {
        name: "RLIMIT_NOFILE",
        when: Below { hurts: 256, tight: 4096 },
        why: "A process has no more descriptors than this, a link takes up to four, a socket or an end of a pipe one: the next one fails with EMFILE.",
        remedy: "ulimit -n 65536, or LimitNOFILE= of the systemd unit",
        in_container: Some("docker run --ulimit nofile=65536"),
    },
    Rule {
        name: "fs.file-max",
        when: Below { hurts: 10_000, tight: 100_000 },
        why: "The machine has no more open files than this: the next open of anybody fails with ENFILE.",
        remedy: "sysctl -w fs.file-max=1000000",
        in_container: None,
    },
    Rule {
        name: "fs.nr_open",
        when: Below { hurts: 1024, tight: 65_536 },
        why: "RLIMIT_NOFILE of no process, root's included, can be raised above this.",
        remedy: "sysctl -w fs.nr_open=1048576",
        in_container: None,
    },
    Rule {
        name: "fs.inotify.max_user_instances",
        when: Below { hurts: 16, tight: 128 },
        why: "Each process that waits on a shm: link takes one to learn of deaths; where there are none left, ginnel looks 50 times a second instead.",
        remedy: "sysctl -w fs.inotify.max_user_instances=1024",
        in_container: None,
    },
    Rule {
        name: "fs.inotify.max_user_watches",
        when: Below { hurts: 128, tight: 8192 },
        why: "Each link that a process waits on takes one watch; where there are none left, ginnel looks 50 times a second instead.",
        remedy: "sysctl -w fs.inotify.max_user_watches=524288",
        in_container: None,
    },
    Rule {
        name: "fs.inotify.max_queued_events",
        when: Below { hurts: 256, tight: 4096 },
        why: "Who watches a directory and reads too slowly loses what happened beyond this many events.",
        remedy: "sysctl -w fs.inotify.max_queued_events=16384",
        in_container: None,
    },
    Rule {
        name: "fs.epoll.max_user_watches",
        when: Below { hurts: 1024, tight: 65_536 },
        why: "No more descriptors than this can be in all epoll sets of this user: servers refuse the next connection with ENOSPC.",
        remedy: "sysctl -w fs.epoll.max_user_watches=1048576",
        in_container: None,
    },
    Rule {
        name: "net.core.wmem_default",
        when: Below { hurts: 65_536, tight: 200_000 },
        why: "A datagram above this cannot be sent through a Unix socket (EMSGSIZE), and its sender waits after fewer of them.",
        remedy: "sysctl -w net.core.wmem_default=1048576",
        in_container: None,
    },
    Rule {
        name: "net.core.wmem_max",
        when: Below { hurts: 65_536, tight: 200_000 },
        why: "No program can make the send buffer of its socket larger than this without privileges.",
        remedy: "sysctl -w net.core.wmem_max=4194304",
        in_container: None,
    },
    Rule {
        name: "net.core.rmem_default",
        when: Below { hurts: 65_536, tight: 200_000 },
        why: "UDP datagrams that arrive while so many bytes are unread are thrown away.",
        remedy: "sysctl -w net.core.rmem_default=1048576",
        in_container: None,
    },
    Rule {
        name: "net.core.rmem_max",
        when: Below { hurts: 65_536, tight: 200_000 },
        why: "No program can make the receive buffer of its socket larger than this without privileges, so bursts of UDP are thrown away.",
        remedy: "sysctl -w net.core.rmem_max=4194304",
        in_container: None,
    },
    Rule {
        name: "net.core.optmem_max",
        when: Below { hurts: 4096, tight: 20_000 },
        why: "Descriptors and credentials that go with one message may take no more bytes than this: more fail with ENOBUFS.",
        remedy: "sysctl -w net.core.optmem_max=131072",
        in_container: None,
    },
    Rule {
        name: "net.core.somaxconn",
        when: Below { hurts: 16, tight: 128 },
        why: "No more connections than this wait to be accepted: the next ones wait or are refused when a server is slow for a moment.",
        remedy: "sysctl -w net.core.somaxconn=4096",
        in_container: Some("docker run --sysctl net.core.somaxconn=4096"),
    },
    Rule {
        name: "net.unix.max_dgram_qlen",
        when: Below { hurts: 5, tight: 64 },
        why: "A Unix datagram socket holds no more messages than this: its senders wait once the receiver is so far behind.",
        remedy: "sysctl -w net.unix.max_dgram_qlen=512",
        in_container: Some("docker run --sysctl net.unix.max_dgram_qlen=512"),
    },
    Rule {
        name: "vm.max_map_count",
        when: Below { hurts: 1024, tight: 65_530 },
        why: "A process has no more mappings than this, a link takes a few: the next one fails with ENOMEM, however much memory there is.",
        remedy: "sysctl -w vm.max_map_count=262144",
        in_container: None,
    },
    Rule {
        name: "RLIMIT_MEMLOCK",
        when: Below { hurts: 0, tight: 65_536 },
        why: "Shared memory that must not be swapped out cannot be locked beyond this (ENOMEM, EAGAIN).",
        remedy: "ulimit -l unlimited, or LimitMEMLOCK= of the systemd unit",
        in_container: Some("docker run --ulimit memlock=-1"),
    },
    Rule {
        name: "RLIMIT_SIGPENDING",
        when: Below { hurts: 64, tight: 1024 },
        why: "No more signals than this wait for all processes of this user: the next real-time signal is refused with EAGAIN.",
        remedy: "ulimit -i 65536, or LimitSIGPENDING= of the systemd unit",
        in_container: Some("docker run --ulimit sigpending=65536"),
    },
    Rule {
        name: "RLIMIT_FSIZE",
        when: Below { hurts: 1 << 30, tight: 4 << 30 },
        why: "The file of a shm: link looks as large as its whole address range, 700 MiB by default: above this limit it cannot be made.",
        remedy: "ulimit -f unlimited, or LimitFSIZE= of the systemd unit",
        in_container: Some("docker run --ulimit fsize=-1"),
    },
    Rule {
        name: "RLIMIT_AS",
        when: Below { hurts: 2 << 30, tight: 8 << 30 },
        why: "A shm: link takes its whole address range at once, 700 MiB by default: the next one fails with ENOMEM.",
        remedy: "ulimit -v unlimited, or LimitAS= of the systemd unit",
        in_container: Some("docker run --ulimit as=-1"),
    },
    Rule {
        name: "RLIMIT_NPROC",
        when: Below { hurts: 16, tight: 256 },
        why: "This user has no more processes and threads than this: a program that waits on links cannot start the thread that learns of deaths (EAGAIN).",
        remedy: "ulimit -u 4096, or LimitNPROC= and TasksMax= of the systemd unit",
        in_container: Some("docker run --pids-limit=-1"),
    },
    Rule {
        name: "kernel.yama.ptrace_scope",
        when: From { tight: 2 },
        why: "Only privileged processes can take descriptors from others (pidfd_getfd): programs that share files that way fail with EPERM.",
        remedy: "sysctl -w kernel.yama.ptrace_scope=1",
        in_container: Some("docker run --cap-add=SYS_PTRACE"),
    },
    Rule {
        name: "/proc of an outer PID namespace",
        when: Is { bad: 1, state: State::Hurts },
        why: "The process ids in /proc are not those that kill(2) takes here: a signal goes to another process than the one that was looked up, or to none.",
        remedy: "mount -t proc proc /proc",
        in_container: None,
    },
    Rule {
        name: "PID namespace of the container",
        when: Is { bad: 1, state: State::Tight },
        why: "Processes outside, and in other containers, cannot be seen or signalled: signal: and the list of who has what end here. Deaths are noticed all the same.",
        remedy: "start it anew with another PID namespace",
        in_container: Some("docker run --pid=container:NAME, or --pid=host"),
    },
    Rule {
        name: "IPC namespace of the container",
        when: Is { bad: 1, state: State::Tight },
        why: "System V objects, message queues and often /dev/shm are of this container alone: no process of another one can open them.",
        remedy: "start it anew with another IPC namespace",
        in_container: Some("docker run --ipc=container:NAME (that one with --ipc=shareable), or --ipc=host"),
    },
    Rule {
        name: "network namespace of the container",
        when: Is { bad: 1, state: State::Tight },
        why: "Abstract Unix sockets (unix:@name) and localhost are of this container alone: no process of another one can connect.",
        remedy: "use a socket with a path in a shared volume",
        in_container: Some("docker run --network=container:NAME, or --network=host"),
    },
];

#[cfg(test)]
mod tests {
    use super::State::{Hurts, Ok, Tight, Unknown};
    use super::*;
    use ginnel_os::limits::{Unit, Value};

    /// For each rule made-up values, and what is to be said of them.
    #[rustfmt::skip]
    const CASES: &[(&str, &[(u64, State)])] = &[
        ("fs.mqueue.queues_max", &[(15, Hurts), (16, Tight), (127, Tight), (128, Ok)]),
        ("fs.mqueue.msg_max", &[(9, Hurts), (10, Tight), (63, Tight), (64, Ok)]),
        ("fs.mqueue.msgsize_max", &[(8191, Hurts), (8192, Tight), (65535, Tight), (65536, Ok)]),
        ("RLIMIT_MSGQUEUE", &[(99999, Hurts), (100000, Tight), (819199, Tight), (819200, Ok)]),
        ("kernel.msgmax", &[(8191, Hurts), (8192, Tight), (65535, Tight), (65536, Ok)]),
        ("kernel.msgmnb", &[(16383, Hurts), (16384, Tight), (65535, Tight), (65536, Ok)]),
        ("kernel.msgmni", &[(15, Hurts), (16, Tight), (1023, Tight), (1024, Ok)]),
        ("kernel.sem SEMMSL", &[(24, Hurts), (25, Tight), (249, Tight), (250, Ok)]),
        ("kernel.sem SEMMNS", &[(255, Hurts), (256, Tight), (31999, Tight), (32000, Ok)]),
        ("kernel.sem SEMOPM", &[(4, Hurts), (5, Tight), (31, Tight), (32, Ok)]),
        ("kernel.sem SEMMNI", &[(15, Hurts), (16, Tight), (127, Tight), (128, Ok)]),
        ("kernel.shmmax", &[(33554431, Hurts), (33554432, Tight), (1073741823, Tight), (1073741824, Ok)]),
        ("kernel.shmall", &[(8191, Hurts), (8192, Tight), (262143, Tight), (262144, Ok)]),
        ("kernel.shmmni", &[(15, Hurts), (16, Tight), (1023, Tight), (1024, Ok)]),
        ("kernel.shm_rmid_forced", &[(1, Hurts), (0, Ok)]),
        ("/dev/shm free", &[(16777215, Hurts), (16777216, Tight), (268435455, Tight), (268435456, Ok)]),
        ("/dev/shm free files", &[(15, Hurts), (16, Tight), (1023, Tight), (1024, Ok)]),
        ("/dev/shm on tmpfs", &[(0, Hurts), (1, Ok)]),
        ("/dev/mqueue mounted", &[(0, Tight), (1, Ok)]),
        ("RemoveIPC for this user", &[(1, Hurts), (0, Ok)]),
        ("fs.pipe-max-size", &[(65535, Hurts), (65536, Tight), (1048575, Tight), (1048576, Ok)]),
        ("fs.pipe-user-pages-soft", &[(1023, Hurts), (1024, Tight), (16383, Tight), (16384, Ok)]),
        ("fs.pipe-user-pages-hard", &[(1023, Hurts), (1024, Tight), (16383, Tight), (16384, Ok)]),
        ("RLIMIT_NOFILE", &[(255, Hurts), (256, Tight), (4095, Tight), (4096, Ok)]),
        ("fs.file-max", &[(9999, Hurts), (10000, Tight), (99999, Tight), (100000, Ok)]),
        ("fs.nr_open", &[(1023, Hurts), (1024, Tight), (65535, Tight), (65536, Ok)]),
        ("fs.inotify.max_user_instances", &[(15, Hurts), (16, Tight), (127, Tight), (128, Ok)]),
        ("fs.inotify.max_user_watches", &[(127, Hurts), (128, Tight), (8191, Tight), (8192, Ok)]),
        ("fs.inotify.max_queued_events", &[(255, Hurts), (256, Tight), (4095, Tight), (4096, Ok)]),
        ("fs.epoll.max_user_watches", &[(1023, Hurts), (1024, Tight), (65535, Tight), (65536, Ok)]),
        ("net.core.wmem_default", &[(65535, Hurts), (65536, Tight), (199999, Tight), (200000, Ok)]),
        ("net.core.wmem_max", &[(65535, Hurts), (65536, Tight), (199999, Tight), (200000, Ok)]),
        ("net.core.rmem_default", &[(65535, Hurts), (65536, Tight), (199999, Tight), (200000, Ok)]),
        ("net.core.rmem_max", &[(65535, Hurts), (65536, Tight), (199999, Tight), (200000, Ok)]),
        ("net.core.optmem_max", &[(4095, Hurts), (4096, Tight), (19999, Tight), (20000, Ok)]),
        ("net.core.somaxconn", &[(15, Hurts), (16, Tight), (127, Tight), (128, Ok)]),
        ("net.unix.max_dgram_qlen", &[(4, Hurts), (5, Tight), (63, Tight), (64, Ok)]),
        ("vm.max_map_count", &[(1023, Hurts), (1024, Tight), (65529, Tight), (65530, Ok)]),
        ("RLIMIT_MEMLOCK", &[(0, Tight), (65535, Tight), (65536, Ok)]),
        ("RLIMIT_SIGPENDING", &[(63, Hurts), (64, Tight), (1023, Tight), (1024, Ok)]),
        ("RLIMIT_FSIZE", &[(1073741823, Hurts), (1073741824, Tight), (4294967295, Tight), (4294967296, Ok)]),
        ("RLIMIT_AS", &[(2147483647, Hurts), (2147483648, Tight), (8589934591, Tight), (8589934592, Ok)]),
        ("RLIMIT_NPROC", &[(15, Hurts), (16, Tight), (255, Tight), (256, Ok)]),
        ("kernel.yama.ptrace_scope", &[(1, Ok), (2, Tight), (3, Tight)]),
        ("/proc of an outer PID namespace", &[(1, Hurts), (0, Ok)]),
        ("PID namespace of the container", &[(1, Tight), (0, Ok)]),
        ("IPC namespace of the container", &[(1, Tight), (0, Ok)]),
        ("network namespace of the container", &[(1, Tight), (0, Ok)]),
    ];

    fn judged(rule: &Rule, value: Option<Value>) -> State {
        judge(Some(rule), &Reading { name: rule.name.into(), value, unit: Unit::Count })
    }

    #[test]
    fn each_rule_says_what_it_should() {
        for rule in RULES {
            let (_, cases) = CASES.iter().find(|(name, _)| *name == rule.name).expect(rule.name);
            for (value, state) in *cases {
                assert_eq!(judged(rule, Some(Value::Number(*value))), *state, "{} {value}", rule.name);
            }
            assert_eq!(judged(rule, Some(Value::Unlimited)), Ok, "{}", rule.name);
            assert_eq!(judged(rule, None), Unknown, "{}", rule.name);
        }
        assert_eq!(CASES.len(), RULES.len());
    }

    #[test]
    fn each_rule_is_about_something_that_is_read() {
        let (readings, _) = super::super::reading::all();
        for rule in RULES {
            assert!(readings.iter().any(|reading| reading.name == rule.name), "{}", rule.name);
            assert_eq!(RULES.iter().filter(|other| other.name == rule.name).count(), 1, "{}", rule.name);
        }
    }

    #[test]
    fn each_rule_says_why_in_a_sentence_and_what_helps() {
        for rule in RULES {
            assert!(rule.why.ends_with('.') && rule.why.len() > 40, "{}", rule.name);
            assert!(!rule.remedy.is_empty(), "{}", rule.name);
        }
    }

    #[test]
    fn defaults_of_the_kernel_do_not_hurt() {
        #[rustfmt::skip]
        let defaults = [
            ("fs.mqueue.msg_max", 10), ("fs.mqueue.msgsize_max", 8192), ("fs.mqueue.queues_max", 256),
            ("RLIMIT_MSGQUEUE", 819_200), ("kernel.msgmax", 8192), ("kernel.msgmnb", 16384), ("RLIMIT_NOFILE", 1024),
            ("net.unix.max_dgram_qlen", 10), ("fs.inotify.max_user_instances", 128), ("RLIMIT_MEMLOCK", 65536),
            ("/dev/shm free", 64 << 20),
        ];
        for (name, value) in defaults {
            let rule = RULES.iter().find(|rule| rule.name == name).unwrap();
            assert!(judged(rule, Some(Value::Number(value))) <= Tight, "{name}");
        }
        assert_eq!(judged(&RULES[1], Some(Value::Number(9))), Hurts);
    }
}
