//! A thread plays the board, at the other end of a pseudo terminal.

use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::listener::Listener;
use super::port::{Port, PortError};
use super::{Board, End, Ended, Ends, Terms};

/// Long enough to never pass in a test that does not wait for it.
const LONG: Duration = Duration::from_secs(60);

/// A directory of the test's own, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("ashlar-runner-serial-{}-{number}", process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The board's end of a wire, and the path of the other one.
fn wire() -> (File, PathBuf) {
    let board = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&board).unwrap();
    unlockpt(&board).unwrap();
    let path = ptsname(&board, Vec::new()).unwrap().into_string().unwrap();
    (board.into(), path.into())
}

/// How a board is played with.
struct Play {
    timeout: Duration,
    until: Option<&'static str>,
    input: Option<&'static str>,
    /// Follows the command that sets the board off.
    reset: &'static str,
    /// Sent before the port is opened, and between that and the reset.
    stale: &'static str,
}

impl Default for Play {
    fn default() -> Self {
        Self { timeout: LONG, until: None, input: None, reset: "", stale: "" }
    }
}

impl Play {
    /// Lets `act` be the board that boots with the word `5f`, from its reset on; the wire that it returns stays. What came of
    /// it, and what was shown.
    fn run(self, act: impl FnOnce(File) -> Option<File> + Send + 'static) -> (Ended, String) {
        let scratch = Scratch::new();
        let (mut wire, path) = wire();
        let flag = scratch.path("reset");
        let board = Board {
            port: path.clone(),
            baud: 115_200,
            directory: scratch.0.clone(),
            reset: Some(format!("touch '{}'; {}", flag.display(), self.reset)),
        };
        wire.write_all(self.stale.as_bytes()).unwrap();
        let port = Port::open(&path, board.baud).unwrap();
        wire.write_all(self.stale.as_bytes()).unwrap();
        let acting = thread::spawn(move || {
            let started = Instant::now();
            while !flag.exists() && started.elapsed() < LONG {
                thread::sleep(Duration::from_millis(5));
            }
            act(wire)
        });
        let mut shown = Vec::new();
        let ends = Ends {
            output: Some(&mut shown),
            input: self.input.map(|input| (Box::new(Cursor::new(input)) as Box<dyn Read + Send>, false)),
        };
        let terms = Terms { timeout: Some(self.timeout), until: self.until, semihosting: false, attached: true };
        let ended = board.play(port, Listener::of("5f"), terms, ends, || None).unwrap();
        acting.join().unwrap();
        (ended, String::from_utf8(shown).unwrap())
    }
}

#[test]
fn the_status_is_the_exit_lines() {
    let (ended, shown) = Play::default().run(|mut wire| {
        wire.write_all(b"ashlar: begin 5f\nhello\nashlar: exit 7\n").unwrap();
        Some(wire)
    });
    let all = "ashlar: begin 5f\nhello\nashlar: exit 7\n";
    assert_eq!((ended.outcome.end, ended.outcome.output.as_str(), shown.as_str()), (End::Status(7), all, all));
}

#[test]
fn lines_come_in_pieces() {
    let (ended, _) = Play::default().run(|mut wire| {
        for &byte in b"ashlar: begin 5f\r\nashlar: exit 103\r\n" {
            wire.write_all(&[byte]).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        Some(wire)
    });
    assert_eq!(ended.outcome.end, End::Status(103));
    assert_eq!(ended.outcome.output, "ashlar: begin 5f\nashlar: exit 103\r\n");
}

#[test]
fn what_comes_before_does_not_count() {
    let stale = "test result: ok\nashlar: exit 0\n";
    let (ended, shown) = Play { stale, ..Play::default() }.run(|mut wire| {
        wire.write_all(b"ashlar: exit 1\nashlar: begin 4e\nashlar: exit 2\n\xff\x1b[2J\0").unwrap();
        wire.write_all(b"ashlar: begin 5f\nashlar: exit 3\n").unwrap();
        Some(wire)
    });
    assert_eq!(ended.outcome.end, End::Status(3));
    assert_eq!(ended.outcome.output, "ashlar: begin 5f\nashlar: exit 3\n");
    assert!(!shown.contains("exit 0") && shown.contains("exit 2\n..[2J.ashlar: begin 5f\n"), "{shown:?}");
}

#[test]
fn a_guest_that_stays_on_is_left_when_it_has_said_so() {
    let (ended, _) = Play { until: Some("no further"), ..Play::default() }.run(|mut wire| {
        wire.write_all(b"no further\nashlar: begin 5f\nand no further").unwrap();
        Some(wire)
    });
    assert_eq!((ended.outcome.end, ended.outcome.output.as_str()), (End::Stopped, "ashlar: begin 5f\nand no further"));
}

#[test]
fn a_guest_that_does_not_end_is_given_up() {
    let timeout = Duration::from_secs(1);
    let (ended, _) = Play { timeout, ..Play::default() }.run(|mut wire| {
        thread::sleep(Duration::from_millis(700));
        wire.write_all(b"ashlar: begin 5f\n").unwrap();
        thread::sleep(Duration::from_millis(700));
        wire.write_all(b"hello\n").unwrap();
        Some(wire)
    });
    assert_eq!(
        (ended.outcome.end, ended.outcome.output.as_str()),
        (End::Timeout(timeout), "ashlar: begin 5f\nhello\n")
    );
}

#[test]
fn a_guest_that_does_not_begin_is_explained() {
    let timeout = Duration::from_millis(600);
    let (ended, _) = Play { timeout, ..Play::default() }.run(Some);
    assert_eq!(ended.outcome.end, End::Timeout(timeout));
    assert!(ended.notes.contains("nothing came from /dev/pts/"), "{}", ended.notes);
    let (ended, _) = Play { timeout, ..Play::default() }.run(|mut wire| {
        wire.write_all(b"ashlar: device tree: bad\nashlar: exit 104\n").unwrap();
        Some(wire)
    });
    assert_eq!(ended.outcome.output, "ashlar: device tree: bad\nashlar: exit 104\n");
    assert!(ended.notes.contains("`ashlar: begin 5f`, did not come"), "{}", ended.notes);
    assert!(ended.notes.contains("`ashlar: exit 104`, may be another boot's"), "{}", ended.notes);
}

#[test]
fn a_damaged_exit_line_ends_a_guest_that_is_silent() {
    let (ended, _) = Play::default().run(|mut wire| {
        wire.write_all(b"ashlar: begin 5f\nashlar: exit \x01\n").unwrap();
        Some(wire)
    });
    let End::None(why) = ended.outcome.end else { panic!("{:?}", ended.outcome.end) };
    assert!(why.ends_with(r"nothing came after it: `ashlar: exit \u{1}`"), "{why}");
}

#[test]
fn a_board_that_starts_anew_is_noticed() {
    let (ended, _) = Play::default().run(|mut wire| {
        wire.write_all(b"ashlar: begin 5f\nhello\nashlar: begin 5f\nashlar: exit 0\n").unwrap();
        Some(wire)
    });
    assert_eq!(ended.outcome.end, End::None("the board was reset, and the guest began anew".into()));
}

#[test]
fn a_port_that_goes_is_named() {
    let (ended, _) = Play::default().run(|mut wire| {
        wire.write_all(b"ashlar: begin 5f\nhello\n").unwrap();
        // What is in the wire is lost when it goes.
        thread::sleep(Duration::from_millis(500));
        None
    });
    let End::None(why) = ended.outcome.end else { panic!("{:?}", ended.outcome.end) };
    assert!(why.starts_with("/dev/pts/") && why.contains(": the port is gone"), "{why}");
    assert_eq!(ended.outcome.output, "ashlar: begin 5f\nhello\n");
}

#[test]
fn what_is_typed_arrives_once_there_is_a_reader() {
    let (ended, _) = Play { input: Some("large pages\n"), ..Play::default() }.run(|mut wire| {
        thread::sleep(Duration::from_millis(300));
        wire.write_all(b"ashlar: begin 5f\n> ").unwrap();
        let mut typed = [0; 12];
        wire.read_exact(&mut typed).unwrap();
        wire.write_all(&typed).unwrap();
        wire.write_all(b"ashlar: exit 0\n").unwrap();
        Some(wire)
    });
    assert_eq!(ended.outcome.end, End::Status(0));
    assert!(ended.outcome.output.contains("> large pages\n"), "{}", ended.outcome.output);
}

#[test]
fn a_reset_that_fails_is_said() {
    let (ended, _) = Play { reset: "exit 3", ..Play::default() }.run(Some);
    let End::None(why) = ended.outcome.end else { panic!("{:?}", ended.outcome.end) };
    assert!(why.contains("the reset command failed: exit status: 3"), "{why}");
}

#[test]
fn a_reset_that_runs_on_is_ended() {
    let started = Instant::now();
    let (ended, _) = Play { reset: "sleep 300; true", ..Play::default() }.run(|mut wire| {
        wire.write_all(b"ashlar: begin 5f\nashlar: exit 0\n").unwrap();
        Some(wire)
    });
    assert_eq!(ended.outcome.end, End::Status(0));
    assert!(started.elapsed() < LONG);
}

#[test]
fn ports_that_cannot_be_used_are_named() {
    let scratch = Scratch::new();
    let missing = scratch.path("ttyUSB0");
    let error = Port::open(&missing, 115_200).unwrap_err();
    assert!(matches!(error, PortError::Missing(_)) && error.to_string().contains("ttyUSB0: there is no such port"));
    let file = scratch.path("file");
    fs::write(&file, "").unwrap();
    for path in [&file, &scratch.0] {
        let error = Port::open(path, 115_200).unwrap_err();
        assert!(matches!(error, PortError::NoPort(_)), "{error}");
    }
    let (_wire, path) = wire();
    let port = Port::open(&path, 115_200).unwrap();
    let error = Port::open(&path, 115_200).unwrap_err();
    assert!(matches!(error, PortError::Used(_)), "{error}");
    drop(port);
    Port::open(&path, 115_200).unwrap();
}

#[test]
fn the_directory_is_looked_at_before_the_board_is_started() {
    let scratch = Scratch::new();
    let card = scratch.path("card");
    let board = Board { port: "port".into(), baud: 1, directory: card.clone(), reset: None };
    let error = board.check_directory(false).unwrap_err().to_string();
    assert!(error.starts_with(card.to_str().unwrap()) && error.ends_with("is the card mounted?"), "{error}");
    fs::create_dir(&card).unwrap();
    board.check_directory(true).unwrap();
    fs::write(card.join("config.txt"), "enable_uart=1\n").unwrap();
    board.check_directory(false).unwrap();
    let error = board.check_directory(true).unwrap_err().to_string();
    assert!(error.contains("card/config.txt: want a line `initramfs "), "{error}");
    fs::write(card.join("config.txt"), "enable_uart=1\ninitramfs initramfs.cpio followkernel\n").unwrap();
    board.check_directory(true).unwrap();
}
