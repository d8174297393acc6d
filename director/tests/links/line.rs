//! Serial lines: pseudo terminals.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use director::heartbeat::transport::Links;
use director::model::heartbeat::Link;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::rig::{AGAIN, DEADLINE, heard, members, problems, readable};

/// The far end of a line: what this director writes is read here.
struct Line {
    far: OwnedFd,
    path: PathBuf,
}

impl Line {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("line{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        Self { far: Self::plug(&path), path }
    }

    /// Makes the device and what stands at its far end.
    fn plug(path: &PathBuf) -> OwnedFd {
        let far = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        rustix::io::ioctl_fionbio(&far, true).expect("not blocking");
        grantpt(&far).expect("granted");
        unlockpt(&far).expect("unlocked");
        let near = ptsname(&far, Vec::new()).expect("a name");
        _ = std::fs::remove_file(path);
        symlink(near.to_str().expect("text"), path).expect("a link");
        far
    }

    fn link(&self) -> Link {
        Link::Serial { device: self.path.clone(), baud: 19200 }
    }

    /// What was written and not read yet, at most so much.
    fn read(&self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let length = rustix::io::read(&self.far, &mut bytes[..]).unwrap_or(0);
        bytes.truncate(length);
        bytes
    }

    /// Writes all, for `links` to read, and returns what they found.
    fn write(&self, mut bytes: &[u8], links: &mut Links) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            bytes = &bytes[rustix::io::write(&self.far, bytes).unwrap_or(0)..];
            if readable(links, DEADLINE) {
                messages.extend(heard(links));
            }
        }
        messages
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Even while panicking: nothing to be done about a failure.
        _ = std::fs::remove_file(&self.path);
    }
}

/// Carries bytes from one end to the other until something is found there.
fn carry(from: &Line, sender: &mut Links, to: &Line, receiver: &mut Links) -> Vec<Vec<u8>> {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        let mut ready = [PollFd::new(&from.far, PollFlags::IN)];
        poll(&mut ready, Some(&Timespec::try_from(AGAIN).expect("a short time"))).expect("polling");
        sender.flush(0);
        let messages = to.write(&from.read(4096), receiver);
        if !messages.is_empty() {
            return messages;
        }
    }
    panic!("nothing came: {:?}, {:?}", sender.status(0), receiver.status(0));
}

/// Two directors and their ends of the line.
fn line() -> ([Line; 2], [Links; 2]) {
    let lines = [Line::new(), Line::new()];
    let members = members(lines.iter().map(Line::link));
    let links = [0, 1].map(|place| {
        let (links, problems) = Links::open(&members[place], &members);
        assert_eq!(problems, []);
        links
    });
    (lines, links)
}

#[test]
fn a_line_carries_all_bytes_both_ways() {
    let (lines, [mut one, mut two]) = line();
    let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    one.send(0, &all);
    assert_eq!(carry(&lines[0], &mut one, &lines[1], &mut two), [&all[..]]);
    two.send(0, b"answer");
    assert_eq!(carry(&lines[1], &mut two, &lines[0], &mut one), [b"answer"]);
    assert_eq!(one.status(0).name, format!("serial {}", lines[0].path.display()));
}

#[test]
fn noise_on_a_line_spoils_no_later_message() {
    let (lines, [mut one, mut two]) = line();
    // A wrong escape within a frame.
    lines[1].write(b"\xc0noise\xdb\x01noise", &mut two);
    one.send(0, b"clear");
    assert_eq!(carry(&lines[0], &mut one, &lines[1], &mut two), [b"clear"]);
    assert_eq!(two.status(0).garbled, 1);
}

#[test]
fn a_slow_line_gets_the_newest_message() {
    let (lines, [mut one, mut two]) = line();
    const LAST: u32 = 5000;
    let message = |number: u32| [number.to_be_bytes().to_vec(), vec![0xc0; 200]].concat();
    for number in 0..=LAST {
        one.send(0, &message(number));
    }
    let status = one.status(0);
    assert!(status.replaced > 0, "{status:?}");
    assert_eq!(status.send_errors, 0);
    assert!(one.descriptors().next().expect("open").wants_write);
    let mut numbers = Vec::new();
    while numbers.last() != Some(&LAST) {
        for found in carry(&lines[0], &mut one, &lines[1], &mut two) {
            let number = u32::from_be_bytes(found[..4].try_into().expect("four bytes"));
            assert_eq!(found, message(number), "it is whole");
            numbers.push(number);
        }
    }
    assert!(numbers.is_sorted_by(|earlier, later| earlier < later), "{numbers:?}");
    let status = one.status(0);
    assert_eq!(numbers.len() as u64 + status.replaced, u64::from(LAST) + 1);
    assert_eq!(numbers.len() as u64, status.sent);
    assert_eq!(two.status(0).garbled, 0);
    assert!(!one.descriptors().next().expect("open").wants_write);
}

#[test]
fn a_line_that_hung_up_is_opened_again() {
    let ([mut left, right], [mut one, mut two]) = line();
    one.send(0, b"hello");
    assert_eq!(carry(&left, &mut one, &right, &mut two), [b"hello"]);
    // The device goes away: closing the far end is what hangs up.
    std::fs::remove_file(&left.path).expect("removed");
    left.far =
        rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty()).expect("open");
    assert!(readable(&one, DEADLINE), "hanging up wakes");
    assert_eq!(heard(&mut one), [b""; 0]);
    assert!(!one.status(0).open);
    let gone = [Some("the device went away".into()), Some("there is no such device".into())];
    assert_eq!(problems(one.repair()), gone);
    assert_eq!(problems(one.repair()), []);
    left.far = Line::plug(&left.path);
    assert_eq!(problems(one.repair()), [None]);
    one.send(0, b"again");
    assert_eq!(carry(&left, &mut one, &right, &mut two), [b"again"]);
    two.send(0, b"again here");
    assert_eq!(carry(&right, &mut two, &left, &mut one), [b"again here"]);
}

#[test]
fn a_file_is_no_line() {
    let path = std::env::temp_dir().join(format!("file{}", std::process::id()));
    File::create(&path).expect("a file");
    let members = members([Link::Serial { device: path.clone(), baud: 19200 }]);
    let (_links, changes) = Links::open(&members[0], &members);
    std::fs::remove_file(path).expect("removed");
    assert_eq!(problems(changes), [Some("this is not a serial device".into())]);
}
