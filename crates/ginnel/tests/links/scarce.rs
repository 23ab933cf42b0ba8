//! Where the kernel has no inotify instance or watch left: who waits for several links, in an event loop or in a task, is told the limit, its value
//! and what raises it; who waits for one link needs none.

use crate::child::{Child, say};
use crate::place::{self, LIMIT, skipped, within};
use ginnel::{ErrorKind, Receiver, RecvFailure, Select, SendFailure, Sender};

/// What there is none of, and the limit as the kernel calls it.
const SCARCE: [(&str, &str); 2] =
    [("instances", "user.max_inotify_instances"), ("watches", "user.max_inotify_watches")];

#[test]
fn the_limit_is_told() {
    for (what, limit) in SCARCE {
        let directory = place::new_directory();
        let prepare = format!("echo 0 > /proc/sys/{}", limit.replace('.', "/"));
        let mut child = Child::start_apart(&format!("scarce {what}"), directory.path(), &prepare);
        match child.try_reply(LIMIT) {
            Some(reply) => _ = reply.ok(),
            None => skipped("no user namespace can be had"),
        }
    }
}

/// The role.
pub(crate) fn role(what: &str) {
    let (_, limit) = SCARCE.into_iter().find(|(name, _)| *name == what).unwrap();
    within(LIMIT, || {
        let (mut sender, mut receiver) = (Sender::open("shm:scarce").unwrap(), Receiver::open("shm:scarce").unwrap());
        let told = |text: String| {
            for word in ["shm:scarce", &*format!("{limit} allows"), &*format!("sysctl -w {limit}=")] {
                assert!(text.contains(word), "{word} is not in: {text}");
            }
            assert!(!text.contains("ulimit") && !text.contains("ginnel"), "{text}");
        };
        for error in [receiver.readiness().unwrap_err(), sender.readiness().unwrap_err()] {
            let kind = if what == "instances" { ErrorKind::NoDescriptors } else { ErrorKind::NoSpace };
            assert_eq!(error.kind(), kind, "{error}");
            told(error.to_string());
        }
        assert!(Select::new().recv(&receiver).try_now().is_none(), "who does not wait needs nothing");
        let error = Select::new().recv(&receiver).wait().arrival.message().unwrap_err();
        assert_eq!(error, RecvFailure::NoneLeft { limit, value: 0 });
        told(error.to_string());
        let error = smol::block_on(receiver.recv_async()).unwrap_err();
        assert_eq!(error, RecvFailure::NoneLeft { limit, value: 0 });
        told(error.to_string());
        let error = smol::block_on(sender.send_async(b"x")).unwrap_err();
        assert!(matches!(error.reason(), SendFailure::Os(_)), "{error}");
        told(error.to_string());
        sender.send(b"still").unwrap();
        assert_eq!(&*receiver.recv().unwrap(), b"still");
    });
    say("ok");
}
