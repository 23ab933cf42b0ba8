//! Bad input: names, options, files, directories, limits. Each is refused at once, by the right kind of error, which names the
//! object and says what to do; and what was there before is there afterwards.
#![allow(unsafe_code)] // mkfifo and chown.

use crate::child::{Child, Reply};
use crate::place::{self, LIMIT, address, file_of, home, name_of, skipped, stamped, within};
use ginnel::ErrorKind::{InvalidAddress, InvalidOption, NotALink, PermissionDenied};
use ginnel::{ErrorKind, Link, Mode, SendFailure, Sender};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

/// By when everything here must have failed.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Checks a refusal: its kind, and that its text names what it is about and says what to do.
#[track_caller]
fn refused<T>(what: &str, result: Result<T, ginnel::Error>, kinds: &[ErrorKind], names: &str) {
    let error = result.err().unwrap_or_else(|| panic!("{what}: this should have failed"));
    assert!(kinds.contains(&error.kind()), "{what}: {:?} is none of {kinds:?}: {error}", error.kind());
    assert!(error.to_string().contains(names), "{what}: `{error}` does not name {names}");
    assert!(!error.remedy_text().is_empty(), "{what}: `{error}` says no remedy");
}

#[test]
fn bad_names_are_refused() {
    home();
    let long = format!("shm:{}", "n".repeat(201));
    let names = [
        "shm:",
        "shm:/",
        "shm:a/b",
        "shm:..",
        "shm:.",
        "shm:a\0b",
        "shm:a\nb",
        "shm:?capacity=1",
        &long,
        "",
        ":x",
        "a",
    ];
    for name in names.iter().chain(&["http:x", "shm", "SHM:x", "shm:../up"]) {
        let shown: String = name.chars().take(20).take_while(|c| !c.is_control()).collect();
        refused(name, Link::new(name), &[InvalidAddress], &shown);
        refused(name, Sender::open(name), &[InvalidAddress], &shown);
    }
    let longest = format!("shm:{}?capacity=1&max=1", "n".repeat(200));
    drop(Sender::open(&longest).unwrap());
    for odd in ["shm:-rf", "shm: ", "shm:%2e%2e", "shm:\u{fc}nder&=#", "shm:...", "shm:a:b"] {
        drop(Sender::create(&format!("{odd}?capacity=1&max=1")).unwrap());
    }
}

#[test]
fn bad_options_are_refused() {
    let name = address("options", "");
    let bad = [
        ("capacity=0", "capacity"),
        ("capacity=3", "4"),
        ("capacity=9223372036854775808", "capacity"),
        ("capacity=18446744073709551616", "capacity"),
        ("capacity=-1", "capacity"),
        ("capacity=1e3", "capacity"),
        ("capacity", "capacity"),
        ("max=0", "max"),
        ("max=2GiB", "max"),
        ("max=17179869184G", "max"),
        ("memory=1", "memory"),
        ("memory=2TiB", "memory"),
        ("max=1GiB&memory=64MiB", "memory"),
        ("participants=0", "participants"),
        ("participants=1", "participants"),
        ("participants=65535", "participants"),
        ("participants=4294967296", "participants"),
        ("participants=2&senders=3", "senders"),
        ("participants=2&receivers=3", "receivers"),
        ("full=maybe", "drop-oldest"),
        ("wait=long", "adaptive"),
        ("follow=perhaps", "follow"),
        ("colour=red", "capacity, max"),
        ("=", "capacity, max"),
    ];
    for (option, word) in bad {
        let begin = Instant::now();
        refused(option, Sender::open(&format!("{name}?{option}")), &[InvalidOption], word);
        assert!(begin.elapsed() < AT_ONCE, "{option}");
        assert!(!file_of(&name).exists(), "{option}: a file was left");
    }
    let link = Link::new(&name).unwrap();
    for (what, link) in
        [("capacity", link.clone().capacity(1 << 63)), ("max", link.clone().max(0)), ("memory", link.memory(u64::MAX))]
    {
        refused(what, link.sender(), &[InvalidOption], what);
    }
}

#[test]
fn messages_above_the_largest_are_refused() {
    for max in [1, 112, 113, 5000] {
        let link = Link::new(&address("largest", "capacity=4")).unwrap().max(max);
        let (sender, receiver) = (link.sender().unwrap(), link.receiver().unwrap());
        let len = max as usize + 1;
        let too_large = stamped(1, len);
        let errors = [
            sender.send(&too_large).unwrap_err(),
            sender.try_send(&too_large).unwrap_err(),
            sender.send_timeout(&too_large, LIMIT).unwrap_err(),
            sender.loan(len).unwrap_err(),
            sender.loan(usize::MAX).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error.reason(), SendFailure::TooLarge { max: m, .. } if *m == max), "{error}");
            assert!(error.to_string().contains(sender.address()) && error.to_string().contains("?max="), "{error}");
            assert!(!error.to_string().contains("?max=0"), "{error}");
        }
        sender.send(&too_large[..len - 1]).unwrap();
        assert_eq!(*receiver.recv().unwrap(), too_large[..len - 1]);
    }
}

// ---- not a link in its place

/// Everything about a thing that must not change.
fn facts(path: &Path) -> (u64, u32, u64, u64, u32, Vec<u8>) {
    let m = fs::symlink_metadata(path).unwrap();
    let small = m.is_file() && m.len() < 1 << 20;
    let bytes = if small { fs::read(path).unwrap() } else { Vec::new() };
    (m.ino(), m.mode(), m.len(), m.nlink(), m.uid(), bytes)
}

/// Every way to reach for a link, on a name where something else stands.
fn is_left_alone(what: &str, address: &str, kinds: &[ErrorKind]) {
    let (path, name) = (file_of(address), name_of(address));
    let before = facts(&path);
    let begin = Instant::now();
    within(LIMIT, || {
        let link = Link::new(address).unwrap();
        for mode in [Mode::Open, Mode::Create, Mode::Join] {
            refused(what, link.clone().mode(mode).sender(), kinds, name);
            refused(what, link.clone().mode(mode).receiver(), kinds, name);
        }
        refused(what, link.unlink(false), kinds, name);
        refused(what, link.unlink(true), kinds, name);
        refused(&format!("{what}, info"), link.info(), kinds, name);
    });
    assert!(begin.elapsed() < AT_ONCE, "{what}: {:?}", begin.elapsed());
    assert!(facts(&path) == before, "{what}: it was changed");
}

/// The header of a valid link, and how long its file is.
fn image() -> (Vec<u8>, u64) {
    let address = address("image", "capacity=4&max=4096&memory=64KiB&participants=4");
    let _link = Sender::create(&address).unwrap();
    let file = File::open(file_of(&address)).unwrap();
    let mut header = vec![0; 4096];
    file.read_exact_at(&mut header, 0).unwrap();
    header[128..].fill(0); // as it was born: nobody has joined
    (header, file.metadata().unwrap().len())
}

fn put(path: &Path, header: &[u8], len: u64) {
    let file = File::create_new(path).unwrap();
    file.set_len(len).unwrap();
    file.write_all_at(header, 0).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn other_things_are_no_links() {
    let (header, len) = image();
    let path = |address: &str| file_of(address);
    let empty = address("empty-file", "");
    put(&path(&empty), b"", 0);
    is_left_alone("empty file", &empty, &[NotALink]);

    let text = address("text-file", "");
    put(&path(&text), b"my diary, the only copy\n", 24);
    is_left_alone("text file", &text, &[NotALink]);

    let directory = address("directory", "");
    fs::create_dir(path(&directory)).unwrap();
    is_left_alone("directory", &directory, &[NotALink]);

    let fifo = address("fifo", "");
    let name = CString::new(path(&fifo).as_os_str().as_bytes()).unwrap();
    // SAFETY: a string that lives during the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    is_left_alone("fifo", &fifo, &[NotALink]);

    let linked = address("two-names", "");
    put(&path(&linked), &header, len);
    let second = address("second-name", "");
    fs::hard_link(path(&linked), path(&second)).unwrap();
    is_left_alone("hard link", &linked, &[NotALink]);
    is_left_alone("hard link", &second, &[NotALink]);

    let open = address("open-to-all", "");
    put(&path(&open), &header, len);
    fs::set_permissions(path(&open), fs::Permissions::from_mode(0o666)).unwrap();
    is_left_alone("mode 0666", &open, &[NotALink, PermissionDenied]);
}

#[test]
fn symbolic_links_and_sockets_are_no_links() {
    let socket = address("socket", "");
    let _listener = std::os::unix::net::UnixListener::bind(file_of(&socket)).unwrap();
    is_left_alone("socket", &socket, &[NotALink]);
    let valid = address("valid", "");
    let _sender = Sender::open(&valid).unwrap();
    for (name, target) in
        [("symlink", file_of(&valid)), ("dangling", "nowhere".into()), ("outside", "/etc/passwd".into())]
    {
        let link = address(name, "");
        symlink(target, file_of(&link)).unwrap();
        is_left_alone(name, &link, &[NotALink]);
    }
}

/// What is no link is the error in its place when links are listed or cleaned, and stays.
#[test]
fn the_list_names_what_is_no_link() {
    let directory = place::new_directory();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("a-text"), "a diary").unwrap();
    fs::create_dir(at("b-directory")).unwrap();
    let odd = directory.path().join(std::ffi::OsStr::from_bytes(b"c-\xFF\xFE"));
    fs::write(&odd, "no name of a link").unwrap();
    let mut child = scripted(directory.path());
    child.must("sender open shm:d-link?capacity=1&max=1");
    let listed = child.must("list");
    for (entry, name) in listed.split(';').zip(["a-text", "b-directory", "c-"]) {
        assert!(entry.starts_with("NotALink:") && entry.contains(name), "{listed}");
    }
    assert!(listed.ends_with("shm:d-link Live 0 Sender+"), "{listed}");
    assert_eq!(child.must("clean real").matches("NotALink:").count(), 3);
    assert!(at("a-text").exists() && at("b-directory").exists() && odd.exists());
}

#[test]
fn a_link_of_another_length_is_refused() {
    let (header, len) = image();
    let whole = address("whole", "");
    put(&file_of(&whole), &header, len);
    drop(Sender::join(&whole).unwrap()); // and as it was empty, that removed it
    for bad in [
        0,
        1,
        7,
        8,
        11,
        12,
        83,
        84,
        85,
        127,
        128,
        4095,
        4096,
        4097,
        len / 2,
        len - 4096,
        len - 1,
        len + 1,
        2 * len,
        1 << 40,
    ] {
        let address = address("length", "");
        put(&file_of(&address), &header[..header.len().min(bad as usize)], bad);
        is_left_alone(&format!("{bad} of {len} bytes"), &address, &[NotALink]);
        fs::remove_file(file_of(&address)).unwrap();
    }
}

#[test]
fn every_bit_of_the_header_counts() {
    let (header, len) = image();
    let address = address("bit", "");
    for bit in 0..84 * 8 {
        let mut bad = header.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        put(&file_of(&address), &bad, len);
        let what = format!("bit {bit}");
        refused(&what, Sender::open(&address), &[NotALink], name_of(&address));
        refused(&what, Link::new(&address).unwrap().info(), &[NotALink], name_of(&address));
        assert_eq!(fs::metadata(file_of(&address)).unwrap().len(), len, "{what}");
        fs::remove_file(file_of(&address)).unwrap();
    }
}

/// The checksum of the format, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

/// Headers that are sound by their checksum, and yet impossible: written by an enemy, or by another version.
#[test]
fn a_good_checksum_makes_no_link() {
    let (header, len) = image();
    assert_eq!(header[80..84], crc32(&header[..80]).to_le_bytes(), "this test knows the format");
    let words: [(&str, usize, &[u64]); 8] = [
        ("capacity", 16, &[0, 3, 5, 8, 1 << 26, 1 << 27, 1 << 63, u64::MAX]),
        ("max", 24, &[0, 112, 8192, 1 << 30, 1 << 31, u64::MAX]),
        ("memory", 32, &[0, 4096, (1 << 40) + 1, 1 << 41, u64::MAX]),
        ("bytes", 56, &[0, 1, 4096, len - 1, len + 4096, u64::MAX]),
        ("participants, full", 40, &[0, 1, 0xFFFE, 0xFFFF, 0xFFFF_FFFF, 4 | 3 << 32, 4 | 0xFFFF_FFFF << 32]),
        ("senders, receivers", 48, &[5, 5 << 32, u64::MAX]),
        ("shape", 72, &[99, u64::MAX]),
        ("version, features", 8, &[0, 1, 3, 0xFFFF_FFFF, 2 | 2 << 32, 2 | 0x8000_0000 << 32]),
    ];
    for (field, at, values) in words {
        for value in values {
            let mut bad = header[..84].to_vec();
            bad[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let crc = crc32(&bad[..80]);
            bad[80..84].copy_from_slice(&crc.to_le_bytes());
            let address = address("enemy", "");
            put(&file_of(&address), &bad, len);
            is_left_alone(&format!("{field} = {value:#x}"), &address, &[NotALink]);
            fs::remove_file(file_of(&address)).unwrap();
        }
    }
    let mut other_version = header[..84].to_vec();
    other_version[8] = 1;
    let address = address("version", "");
    put(&file_of(&address), &other_version, len);
    refused("version 1", Sender::open(&address), &[NotALink], "version 1");
}

#[test]
fn a_file_of_another_user_is_refused() {
    let (header, len) = image();
    let address = address("foreign", "");
    put(&file_of(&address), &header, len);
    if std::os::unix::fs::chown(file_of(&address), Some(65534), Some(65534)).is_err() {
        return skipped("only root gives files away");
    }
    is_left_alone("file of another user", &address, &[PermissionDenied]);
}

// ---- directories and limits, in other processes

fn scripted(directory: &Path) -> Child {
    let mut child = Child::start("script", directory);
    child.reply().ok();
    child
}

/// Checks a refusal that a child reports.
#[track_caller]
fn says(reply: &Reply, kind: &str, names: &str) {
    let [is, _, remedy, text] = reply.err();
    assert_eq!(is, kind, "{text}");
    assert!(text.contains(names), "`{text}` does not name {names}");
    assert!(!remedy.is_empty(), "`{text}` says no remedy");
}

#[test]
fn bad_directories_are_refused() {
    let parent = place::new_directory();
    let at = |name: &str| parent.path().join(name);
    fs::create_dir(at("good")).unwrap();
    fs::set_permissions(at("good"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(at("file"), "a file").unwrap();
    symlink(at("good"), at("symlink")).unwrap();
    for (name, mode) in [("open-to-all", 0o777), ("open-to-group", 0o770), ("sticky", 0o1777)] {
        fs::create_dir(at(name)).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut child = scripted(&at("good"));
    child.must("sender open shm:x?capacity=1&max=1");
    for name in ["file", "symlink", "open-to-all", "open-to-group", "sticky"] {
        child.must(&format!("dir {}", at(name).display()));
        for order in
            ["sender open shm:x", "receiver join shm:x", "list", "clean real", "info shm:x", "unlink force shm:x"]
        {
            says(&child.ask(order), "PermissionDenied", name);
        }
    }
    assert_eq!(fs::read(at("file")).unwrap(), b"a file");
    child.must(&format!("dir {}", at("new").display()));
    assert_eq!(child.must("list"), "");
    assert!(!at("new").exists(), "looking does not make it");
    child.must("sender open shm:x?capacity=1&max=1");
    assert_eq!(fs::metadata(at("new")).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn a_directory_without_a_parent_is_refused() {
    let parent = place::new_directory();
    let mut child = scripted(&parent.path().join("missing/links"));
    says(&child.ask("sender open shm:x"), "NotFound", "missing/links");
    says(&child.ask("sender join shm:x"), "NotFound", "shm:x");
}

#[test]
fn a_directory_on_another_file_system_works_or_says_why() {
    let parent = tempfile::tempdir_in("/tmp").unwrap();
    let mut child = scripted(parent.path());
    let reply = child.ask("sender open shm:x?capacity=1&max=1");
    if !reply.text().starts_with("ok") {
        says(&reply, "Unsupported", "shm:x");
    }
    child.must("dir /proc");
    assert!(child.ask("sender open shm:x").text().starts_with("err "));
}

#[test]
fn other_users_are_kept_out_and_keep_theirs() {
    let directory = place::new_directory();
    let mut child = scripted(directory.path());
    child.must("sender open shm:mine?capacity=1&max=1"); // by the one who started it
    if !child.ask("become 65534").text().starts_with("ok") {
        return skipped("only root becomes another user");
    }
    for order in ["sender open shm:x", "receiver join shm:mine", "list", "clean real", "unlink force shm:mine"] {
        says(&child.ask(order), "PermissionDenied", &directory.path().display().to_string());
    }
    // One that the other user may enter, but does not own.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    says(&child.ask("sender open shm:x"), "PermissionDenied", "user 0");
    // Its own works, though its process was another user's when it began.
    let theirs = tempfile::tempdir_in("/dev/shm").unwrap();
    std::os::unix::fs::chown(theirs.path(), Some(65534), Some(65534)).unwrap();
    child.must(&format!("dir {}", theirs.path().display()));
    child.must("sender open shm:theirs?capacity=4&max=1000&memory=64KiB");
    child.must("receiver open shm:theirs");
    child.must("send 1 500 7");
    assert_eq!(child.must("recv 1"), "7");
    let mut owner = scripted(theirs.path());
    says(&owner.ask("sender join shm:theirs"), "PermissionDenied", "user 65534"); // not even root
}

/// Whatever descriptor it is that is missing, opening says so, and leaves nothing that stands in the way.
#[test]
fn without_descriptors() {
    let directory = place::new_directory();
    let mut refusals = 0;
    for limit in 3..40 {
        let mut child = scripted(directory.path());
        child.must(&format!("limit nofile {limit}"));
        let reply = child.ask("sender open shm:x?capacity=4&max=64");
        if reply.text().starts_with("ok") {
            child.must("send 1 10 1");
            break;
        }
        says(&reply, "NoDescriptors", "");
        refusals += 1;
        child.must("limit nofile 1000");
        child.must("sender open shm:x?capacity=4&max=64");
        child.must("send 1 10 1");
        child.must("receiver open shm:x");
        assert_eq!(child.must("recv 1"), "1");
    }
    assert!((1..30).contains(&refusals), "{refusals}");
}

/// Address space: refused, with the remedy; and the advice that it gives works.
#[test]
fn without_address_space() {
    let directory = place::new_directory();
    let mut child = scripted(directory.path());
    child.must("limit as 2000000000");
    says(&child.ask("sender open shm:x?memory=4GiB"), "NoSpace", "shm:x");
    child.must("sender open shm:x?memory=1MiB&max=64KiB");
}

/// The size of files: the kernel would also kill the process by SIGXFSZ.
#[test]
fn without_file_size() {
    let directory = place::new_directory();
    let mut child = scripted(directory.path());
    child.must("limit fsize 1000000");
    says(&child.ask("sender open shm:x"), "NoSpace", "shm:x");
    child.must("sender open shm:x?capacity=4&max=64");
}

#[test]
fn on_a_full_file_system() {
    let directory = place::new_directory();
    let at = directory.path().display();
    let mut child = scripted(directory.path());
    let mounted = child.ask(&format!("tmpfs {at} 65536"));
    if !mounted.text().starts_with("ok") {
        return skipped(mounted.text());
    }
    let reply = child.ask("sender open shm:x");
    says(&reply, "NoSpace", "shm:x");
    let text = &reply.err()[3];
    assert!(text.contains("65536 free") && text.contains(" bytes"), "{text}");
    assert_eq!(child.must("list"), "", "nothing is left of it");
    child.must("sender open shm:x?capacity=4&max=64&participants=4"); // what the remedy says works
    child.must("send 3 64 0");
}

#[test]
fn on_a_file_system_that_fills_up() {
    let directory = place::new_directory();
    let mut child = scripted(directory.path());
    let mounted = child.ask(&format!("tmpfs {} 1048576", directory.path().display()));
    if !mounted.text().starts_with("ok") {
        return skipped(mounted.text());
    }
    child.must("sender open shm:x?capacity=16&max=4MiB&memory=4MiB&participants=4");
    child.must("receiver open shm:x");
    for round in 0..10 {
        let [kind, _, _, text] = child.ask("send 1 4194304 9").err();
        assert!(
            kind.starts_with("NoSpace") && text.contains("shm:x") && text.contains("ginnel clean"),
            "{kind}: {text}"
        );
        child.must(&format!("send 2 64 {round}"));
        child.must(&format!("send 2 20000 {round}"));
        child.must("recv 4");
    }
}
