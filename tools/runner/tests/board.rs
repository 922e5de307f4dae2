//! Kernels run on a board that the runner knows by a serial port alone: QEMU, started by the reset command, at the other
//! end of a wire that two pseudo terminals and two threads are.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, process, thread};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// One end of the wire: what is written to the file comes out at the path.
struct Terminal {
    ours: File,
    path: PathBuf,
    /// Held open, so that one who opens the path may leave and another one come.
    _theirs: File,
}

impl Terminal {
    fn new() -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let path = PathBuf::from(ptsname(&ours, Vec::new()).unwrap().into_string().unwrap());
        let theirs = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut settings = tcgetattr(&theirs).unwrap();
        settings.make_raw();
        tcsetattr(&theirs, OptionalActions::Now, &settings).unwrap();
        Self { ours: ours.into(), path, _theirs: theirs }
    }

    /// Passes on what comes out of this end, until the process ends.
    fn pass_on(&self, other: &Self) {
        let (mut from, mut to) = (self.ours.try_clone().unwrap(), other.ours.try_clone().unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                to.write_all(&buffer[..length]).unwrap();
            }
        });
    }
}

/// Runs cargo with this runner: its status, and what was printed.
fn cargo(words: &[&str], board: &[String]) -> (Option<i32>, String) {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_NONE_RUNNER", env!("CARGO_BIN_EXE_ashlar-runner"))
        .args(words)
        .args(["--quiet", "--target", "aarch64-unknown-none", "--"])
        .args(board)
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), printed.concat())
}

#[test]
fn applications_and_tests_run_on_a_board() {
    let (mut host, board) = (Terminal::new(), Terminal::new());
    board.pass_on(&host);
    host.pass_on(&board);
    let card = env::temp_dir().join(format!("ashlar-runner-board-{}", process::id()));
    fs::create_dir_all(&card).unwrap();
    let reset = format!(
        "exec qemu-system-aarch64 -M virt,virtualization=on -cpu cortex-a72 -smp 4 -m 1G -nic none -display none \
         -monitor none -chardev serial,id=line,path={} -serial chardev:line -kernel '{card}/kernel8.img' \
         -append \"$(cat '{card}/cmdline.txt')\"",
        board.path.display(),
        card = card.display(),
    );
    let words = [
        "machine=serial".into(),
        format!("port={}", host.path.display()),
        format!("boot={}", card.display()),
        format!("reset={reset}"),
        "timeout=120".into(),
    ];
    // Of an earlier boot.
    host.ours.write_all(b"ashlar: exit 9\n").unwrap();

    let (status, printed) = cargo(&["run", "--release", "-p", "hello"], &words);
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("Hello from Ashlar.\nashlar: exit 0\n"), "{printed}");

    let (status, printed) = cargo(&["test", "--test", "boot"], &words);
    assert_eq!(status, Some(0), "{printed}");
    assert!(printed.contains("boot with el=2 ... ok"), "{printed}");
    assert!(printed.contains("boot with memory=16M ... ok"), "{printed}");
    assert!(printed.contains("boot with el=1 ... skipped: machine=serial enters the image at EL2"), "{printed}");
    fs::remove_dir_all(card).unwrap();
}
