//! Streams of bytes in tasks: futures that are dropped at every poll, a full ring, half-close, how a task learns that the other end has gone, accepting and
//! connecting; and a program that knows nothing of ginnel over them, hyper.

use crate::child::{Child, say};
use crate::place::{self, LIMIT, address, home, scale};
use ginnel::ErrorKind;
use ginnel::stream::{Listener, Stream};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

#[path = "../../examples/http/exchange.rs"]
mod exchange;

/// About as long as a wake-up takes.
const BRIEF: Duration = Duration::from_micros(50);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A connection of each kind, each way of which holds so many bytes.
fn connections(capacity: usize) -> [(Stream, Stream); 2] {
    let shm = address("polled", "");
    let mem = shm.replacen("shm:", "mem:", 1);
    [shm, mem].map(|address| {
        let listener = Listener::bind(&address).unwrap();
        let client = Stream::connect(&format!("{address}?capacity={capacity}")).unwrap();
        (client, listener.accept().unwrap())
    })
}

/// A waker that counts its calls.
#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Bytes without a pattern that a lost or doubled piece would fit.
fn text(len: usize) -> Vec<u8> {
    (0..len as u64 / 8).flat_map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()).collect()
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

/// By the traits of futures-io.
mod plain {
    use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use std::io;

    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut all = Vec::new();
        from.read_to_end(&mut all).await.unwrap();
        all
    }

    pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
        to.write_all(bytes).await
    }

    pub(super) async fn close(end: &mut (impl AsyncWrite + Unpin)) {
        end.close().await.unwrap();
    }
}

/// One poll, and then the future is dropped, as a `select!` drops those that were not first.
fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

#[test]
fn futures_that_are_dropped_at_every_poll_lose_no_byte() {
    let _limit = place::limit(LIMIT);
    let runtime = runtime();
    let _in = runtime.enter();
    let due = text(1 << 20);
    for (mut client, mut server) in connections(4096) {
        let (mut written, mut got, mut piece) = (0, Vec::<u8>::new(), [0; 777]);
        while got.len() < due.len() {
            // Until there is no room, then until there is nothing.
            while written < due.len() {
                let end = (written + 500 + written % 977).min(due.len());
                let Some(len) = poll_once(client.write(&due[written..end])) else { break };
                written += len.unwrap();
            }
            assert!(written == due.len() || written == got.len() + 4096);
            while let Some(len) = poll_once(server.read(&mut piece)) {
                got.extend(&piece[..len.unwrap()]);
            }
            assert_eq!(got.len(), written);
        }
        assert!(got == due);
    }
}

/// Time-outs that are about as long as a wake-up takes: some win, some lose, and every byte comes.
#[test]
fn time_outs_of_the_runtime_lose_no_byte() {
    let _limit = place::limit(LIMIT);
    let due = text(200_000 * usize::try_from(scale()).unwrap());
    for (mut client, server) in connections(4096) {
        let sent = due.clone();
        let writing = std::thread::spawn(move || {
            for (number, piece) in sent.chunks(700).enumerate() {
                if number % 7 == 0 {
                    std::thread::sleep(Duration::from_micros(number as u64 % 200));
                }
                io::Write::write_all(&mut client, piece).unwrap();
            }
        });
        let got = runtime().block_on(async move {
            let (mut server, mut got, mut piece) = (server, Vec::<u8>::new(), [0; 500]);
            loop {
                match tokio::time::timeout(BRIEF, server.read(&mut piece)).await.map(Result::unwrap) {
                    Ok(0) => break got,
                    Ok(len) => got.extend(&piece[..len]),
                    Err(_) => {}
                }
            }
        });
        writing.join().unwrap();
        assert!(got == due);
    }
}

/// Each end in a runtime of its own: every wake-up comes from the other one.
#[test]
fn a_full_ring_and_an_empty_one_are_waited_for() {
    let _limit = place::limit(LIMIT);
    let due = text(1 << 20);
    for (client, server) in connections(4096) {
        let sent = due.clone();
        let writing = std::thread::spawn(move || {
            runtime().block_on(async move {
                let mut client = client;
                client.write_all(&sent).await.unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
                assert_eq!(kind(client.write(b"x").await), io::ErrorKind::BrokenPipe);
            });
        });
        let got = smol::block_on(async move {
            let mut server = server;
            plain::read(&mut server).await
        });
        writing.join().unwrap();
        assert!(got == due);
    }
}

/// Who waits for much is not woken for a little; but for what it wants, though it wanted more before.
#[test]
fn a_writer_is_woken_for_the_room_that_it_wants_now() {
    let _limit = place::limit(LIMIT);
    for (mut client, mut server) in connections(4096) {
        runtime().block_on(async move {
            client.write_all(&[1; 4096]).await.unwrap();
            assert!(tokio::time::timeout(BRIEF, client.write_all(&[2; 4096])).await.is_err(), "it is full");
            let writing = tokio::spawn(async move {
                client.write_all(&[3; 10]).await.unwrap();
                client
            });
            tokio::task::yield_now().await;
            let reading = std::thread::spawn(move || {
                io::Read::read_exact(&mut server, &mut [0; 10]).unwrap();
                server
            });
            drop(writing.await.unwrap());
            drop(reading.join().unwrap());
        });
    }
}

#[test]
fn half_closed_by_either_trait_and_by_a_half() {
    let _limit = place::limit(LIMIT);
    for (client, mut server) in connections(4096) {
        smol::block_on(async move {
            let (mut reader, mut writer) = client.split();
            plain::write(&mut writer, b"a question").await.unwrap();
            plain::close(&mut writer).await;
            plain::close(&mut writer).await; // twice is once
            assert_eq!(kind(plain::write(&mut writer, b"x").await), io::ErrorKind::BrokenPipe);
            assert_eq!(kind(io::Write::write(&mut writer, b"x")), io::ErrorKind::BrokenPipe);
            assert_eq!(plain::read(&mut server).await, b"a question");
            plain::write(&mut server, b"an answer").await.unwrap();
            plain::close(&mut server).await;
            assert_eq!(plain::read(&mut reader).await, b"an answer");
            assert_eq!(kind(plain::write(&mut server, b"x").await), io::ErrorKind::BrokenPipe);
        });
    }
}

#[test]
fn lines_are_read_in_place() {
    let _limit = place::limit(LIMIT);
    for (mut client, server) in connections(4096) {
        runtime().block_on(async move {
            let (reader, writer) = server.split();
            let lines = async move {
                let (mut lines, mut got) = (reader.lines(), 0);
                while let Some(line) = lines.next_line().await.unwrap() {
                    assert_eq!(line, format!("line {got}"));
                    got += 1;
                }
                got
            };
            let write = async move {
                for number in 0..3000 {
                    client.write_all(format!("line {number}\n").as_bytes()).await.unwrap();
                }
            };
            assert_eq!(tokio::join!(lines, write).0, 3000);
            drop(writer);
        });
    }
}

#[test]
fn an_interrupter_ends_a_wait() {
    let _limit = place::limit(LIMIT);
    for (client, mut server) in connections(4096) {
        runtime().block_on(async move {
            let interrupter = server.reader().unwrap().interrupter();
            let reading = tokio::spawn(async move { (kind(server.read(&mut [0]).await), server) });
            tokio::task::yield_now().await;
            std::thread::spawn(move || interrupter.interrupt());
            assert_eq!(reading.await.unwrap().0, io::ErrorKind::ConnectionAborted);
            drop(client);
        });
    }
}

#[test]
fn accepting_and_connecting_in_tasks() {
    let _limit = place::limit(LIMIT);
    let shm = address("accepting", "capacity=1");
    for address in [shm.replacen("shm:", "mem:", 1), shm] {
        let place = address.split('?').next().unwrap().to_owned();
        runtime().block_on(async {
            assert_eq!(Stream::connect_async(&place).await.unwrap_err().kind(), ErrorKind::NotFound);
            let mut listener = Listener::bind(&address).unwrap();
            assert!(tokio::time::timeout(BRIEF, listener.accept_async()).await.is_err(), "nobody is there");
            let mut first = Stream::connect_async(&place).await.unwrap();
            // As many wait as may; what is given up is not accepted later.
            assert!(tokio::time::timeout(BRIEF, Stream::connect_async(&place)).await.is_err(), "it has no room");
            let third = tokio::spawn({
                let place = place.clone();
                async move { Stream::connect_async(&place).await.unwrap() }
            });
            first.write_all(b"first").await.unwrap();
            let mut server = listener.accept_async().await.unwrap();
            let mut got = [0; 5];
            server.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"first");
            let mut third = third.await.unwrap();
            let mut server = listener.accept_async().await.unwrap();
            server.write_all(b"third").await.unwrap();
            third.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"third");
            assert!(tokio::time::timeout(BRIEF, listener.accept_async()).await.is_err(), "nobody else is there");
        });
        let left = std::fs::read_dir(home()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        assert_eq!(left.filter(|file| file.starts_with(&place[4..])).collect::<Vec<_>>(), [""; 0], "left behind");
    }
}

#[test]
fn a_listener_that_goes_is_told_to_tasks() {
    let _limit = place::limit(LIMIT);
    let shm = address("refusing", "");
    for address in [shm.replacen("shm:", "mem:", 1), shm] {
        runtime().block_on(async {
            let listener = Listener::bind(&address).unwrap();
            let [mut reads, mut writes] =
                [(); 2].map(|()| Stream::connect(&format!("{address}?capacity=4096")).unwrap());
            let reading = tokio::spawn(async move { reads.read(&mut [0]).await.unwrap() });
            let writing = tokio::spawn(async move { kind(writes.write_all(&[0; 10_000]).await) });
            tokio::task::yield_now().await;
            drop(listener); // in good order
            assert_eq!(reading.await.unwrap(), 0);
            assert_eq!(writing.await.unwrap(), io::ErrorKind::BrokenPipe);
        });
    }
}

#[test]
fn a_killed_peer_is_told_to_tasks() {
    let _limit = place::limit(LIMIT);
    let directory = place::new_directory();
    let mut child = Child::start("polled-test", directory.path());
    child.reply_within(LIMIT).ok();
    child.finish();
}

/// The role: waits for a peer that is killed.
pub(crate) fn test_role() {
    let directory = std::env::var(ginnel::DIRECTORY_VARIABLE).unwrap();
    let mut server = Child::start("stream listen", directory.as_ref());
    assert_eq!(server.reply().ok(), "listening");
    runtime().block_on(async {
        let mut reads = Stream::connect_async("shm:there").await.unwrap();
        let mut writes = Stream::connect_async("shm:there?capacity=4096").await.unwrap();
        server.reply().ok();
        server.reply().ok();
        let reading = tokio::spawn(async move { kind(reads.read(&mut [0]).await) });
        let writing = tokio::spawn(async move { kind(writes.write_all(&[0; 10_000]).await) });
        tokio::task::yield_now().await;
        server.kill_and_reap();
        assert_eq!(reading.await.unwrap(), io::ErrorKind::ConnectionReset);
        assert_eq!(writing.await.unwrap(), io::ErrorKind::BrokenPipe);
        // The same for who was not accepted yet.
        let mut listener = Child::start("stream bind", directory.as_ref());
        assert_eq!(listener.reply().ok(), "listening");
        let mut reads = Stream::connect_async("shm:there").await.unwrap();
        let reading = tokio::spawn(async move { kind(reads.read(&mut [0]).await) });
        tokio::task::yield_now().await;
        listener.kill_and_reap();
        assert_eq!(reading.await.unwrap(), io::ErrorKind::ConnectionReset);
    });
    say("ok");
}

/// MiB that go each way: `GINNEL_TEST_SCALE` times as many.
const MIB: u64 = 64;

#[test]
fn hyper_serves_a_client_in_another_process() {
    let _limit = place::limit(4 * LIMIT);
    let address = address("http", "");
    let mut listener = Listener::bind(&address).unwrap();
    let child = Child::start(&format!("http {address}"), home());
    runtime().block_on(async move {
        let server = listener.accept_async().await.unwrap();
        exchange::serve(server).await.unwrap();
    });
    let mut child = child;
    child.reply_within(LIMIT).ok();
    child.finish();
}

/// The role: hyper's client.
pub(crate) fn client(address: &str) {
    let connected = async { exchange::ask(Stream::connect_async(address).await?, MIB * scale()).await };
    runtime().block_on(connected).unwrap();
    say("ok");
}

/// As hyper relies on: its first poll of a turn is told to wait, its second one finds room, and it waits for the call that the first was promised.
#[test]
fn who_was_told_to_wait_is_called_though_a_later_poll_was_done_before() {
    let _limit = place::limit(LIMIT);
    let runtime = runtime();
    let _guard = runtime.enter();
    for (mut client, mut server) in connections(4096) {
        let called = || {
            let calls = Arc::new(Calls::default());
            (Waker::from(calls.clone()), calls)
        };
        let (waker, calls) = called();
        let mut write =
            |bytes: &[u8]| AsyncWrite::poll_write(Pin::new(&mut client), &mut Context::from_waker(&waker), bytes);
        while write(&[7; 1000]).map(Result::unwrap).is_ready() {}
        std::io::Read::read_exact(&mut server, &mut [0; 4000]).unwrap();
        assert!(write(&[7; 10]).map(Result::unwrap).is_ready());
        assert_eq!(calls.0.load(SeqCst), 1, "room");

        let (waker, calls) = called();
        let mut read = || {
            let (mut byte, mut cx) = ([0], Context::from_waker(&waker));
            AsyncRead::poll_read(Pin::new(&mut client), &mut cx, &mut ReadBuf::new(&mut byte))
                .map(Result::unwrap)
                .is_ready()
        };
        assert!(!read());
        std::io::Write::write_all(&mut server, &[7; 2]).unwrap();
        assert!(read());
        assert_eq!(calls.0.load(SeqCst), 1, "bytes");
        assert!(read());
        assert_eq!(calls.0.load(SeqCst), 1, "it was not told to wait again");
    }
}
