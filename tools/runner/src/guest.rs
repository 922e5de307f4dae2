//! One running guest: its console passed on with symbols, its time watched, its status made out.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::symbols::Symbols;

/// What a process gets to end by itself.
const GRACE: Duration = Duration::from_secs(5);
/// What a guest gets that has said what it was run until, to say what it should not.
pub const MOMENT: Duration = Duration::from_millis(300);

/// How a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With a status of its own.
    Status(u8),
    /// It said what it was run until, and was ended.
    Stopped,
    /// It was ended after this long.
    Timeout(Duration),
    /// Without a status; why.
    None(String),
}

/// A guest that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// All of its console output, with symbols.
    pub output: String,
    /// What QEMU said beside it, or the board before it, if not attached.
    pub said: String,
}

/// How a guest is to be run.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// It is ended after this long.
    pub timeout: Option<Duration>,
    /// It is ended in a moment when it has said this.
    pub until: Option<&'a str>,
    /// Its exit status is QEMU's, if it runs in QEMU.
    pub semihosting: bool,
    /// Its output goes to standard output as it comes, and it reads standard input.
    pub attached: bool,
}

/// Starts QEMU and stays until it has ended.
///
/// # Errors
/// QEMU can't be started or waited for, or standard output can't be written.
pub fn run(command: &mut Command, terms: Terms<'_>, symbols: impl Fn() -> Option<Symbols>) -> io::Result<Outcome> {
    let input = if terms.attached { Stdio::inherit() } else { Stdio::null() };
    let errors = if terms.attached { Stdio::inherit() } else { Stdio::piped() };
    let mut child = command.stdin(input).stdout(Stdio::piped()).stderr(errors).spawn()?;
    let mut deadline = terms.timeout.map(|timeout| Instant::now() + timeout);
    let chunks = read_in_background(child.stdout.take());
    let errors = read_in_background(child.stderr.take());
    let mut console = Console::new(symbols);
    let (mut timed_out, mut stopped) = (false, false);
    loop {
        match receive(&chunks, deadline) {
            Ok(chunk) => {
                let text = console.take(&chunk);
                if terms.attached {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&text)?;
                    stdout.flush()?;
                }
                if !stopped && terms.until.is_some_and(|text| console.has(text)) {
                    stopped = true;
                    deadline = Some(Instant::now() + MOMENT);
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                timed_out = !stopped;
                break;
            }
        }
    }
    let status = if timed_out || stopped { end(&mut child)? } else { child.wait()? };
    let output = console.finish();
    let end = match terms.timeout {
        _ if stopped => End::Stopped,
        Some(timeout) if timed_out => End::Timeout(timeout),
        _ => end_of(status, &output, terms.semihosting),
    };
    let said: Vec<u8> = errors.iter().flatten().collect();
    Ok(Outcome { end, output, said: String::from_utf8_lossy(&said).into_owned() })
}

fn read_in_background(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    if let Some(pipe) = pipe {
        read(pipe, move |chunk| sender.send(chunk).is_ok());
    }
    receiver
}

/// Reads `pipe` to its end, from another thread, and gives what comes to `take` until that wants no more.
pub fn read(mut pipe: impl Read + Send + 'static, take: impl Fn(Vec<u8>) -> bool + Send + 'static) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = pipe.read(&mut buffer) {
            if !take(buffer[..length].to_vec()) {
                break;
            }
        }
    });
}

fn receive(chunks: &Receiver<Vec<u8>>, deadline: Option<Instant>) -> Result<Vec<u8>, RecvTimeoutError> {
    match deadline {
        Some(deadline) => chunks.recv_timeout(deadline.saturating_duration_since(Instant::now())),
        None => chunks.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// Asks QEMU to end, so that it leaves the terminal as it was, and kills it if it doesn't.
fn end(child: &mut Child) -> io::Result<ExitStatus> {
    kill_process(Pid::from_child(child), Signal::TERM)?;
    if let Some(status) = wait(child)? {
        return Ok(status);
    }
    child.kill()?;
    child.wait()
}

/// Waits for the end of `child`, for a while.
///
/// # Errors
/// It can't be waited for.
pub fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let asked = Instant::now();
    loop {
        let status = child.try_wait()?;
        if status.is_some() || asked.elapsed() >= GRACE {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The guest's status: by semihosting it is QEMU's own; without, the last line says it.
fn end_of(status: ExitStatus, output: &str, semihosting: bool) -> End {
    let last = output.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let said = said_status(last);
    match (status.code(), said) {
        (Some(0), Some(said)) => End::Status(said),
        (Some(1), _) if output.is_empty() => End::None("QEMU could not run it".into()),
        (Some(code), None) if semihosting => End::Status(code as u8),
        (Some(0), None) => End::None("the guest switched off without a status".into()),
        (Some(code), _) => End::None(format!("QEMU ended with status {code}")),
        (None, _) => End::None(match status.signal() {
            Some(signal) => format!("QEMU was ended by signal {signal}"),
            None => "QEMU ended without a status".into(),
        }),
    }
}

/// How the line begins by which a guest without semihosting says its status.
pub const EXIT: &str = "ashlar: exit";

/// The status that `line` says, if it is exactly what the kernel prints: a damaged line says nothing.
pub fn said_status(line: &str) -> Option<u8> {
    let digits = line.strip_prefix(EXIT)?.strip_prefix(' ')?;
    digits.parse().ok().filter(|status: &u8| status.to_string() == digits)
}

/// The guest's output as it comes: passed on at once, with what a line's address means put before its end.
pub struct Console<F> {
    load: F,
    /// Loaded when the first address comes by: most guests never crash.
    symbols: Option<Option<Symbols>>,
    line: Vec<u8>,
    /// A carriage return that may belong to the line's end.
    held: bool,
    output: Vec<u8>,
}

impl<F: Fn() -> Option<Symbols>> Console<F> {
    /// A console that nothing has come from; `load` is called when the first address comes.
    pub fn new(load: F) -> Self {
        Self { load, symbols: None, line: Vec::new(), held: false, output: Vec::new() }
    }

    /// What to show for the next bytes of the guest's.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte == b'\n' {
                if let Some(text) = self.describe() {
                    shown.extend_from_slice(b" ");
                    shown.extend_from_slice(text.as_bytes());
                }
                self.line.clear();
            }
            if std::mem::take(&mut self.held) {
                shown.push(b'\r');
            }
            match byte {
                b'\r' => self.held = true,
                b'\n' => shown.push(byte),
                _ => {
                    shown.push(byte);
                    self.line.push(byte);
                }
            }
        }
        self.output.extend_from_slice(&shown);
        shown
    }

    fn describe(&mut self) -> Option<String> {
        let line = str::from_utf8(&self.line).ok().filter(|line| line.contains(" 0x"))?;
        self.symbols.get_or_insert_with(&self.load).as_ref()?.describe(line)
    }

    /// Whether `text` has come.
    pub fn has(&self, text: &str) -> bool {
        self.output.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// All that was shown.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Option<Duration>, semihosting: bool) -> Outcome {
        let terms = Terms { timeout, until: None, semihosting, attached: false };
        run(Command::new("sh").args(["-c", script]), terms, || None).unwrap()
    }

    #[test]
    fn the_status_comes_by_semihosting_or_by_the_last_line() {
        assert_eq!(shell("echo hello; exit 102", None, true).end, End::Status(102));
        assert_eq!(shell("echo 'ashlar: exit 7'", None, false).end, End::Status(7));
        assert_eq!(shell("printf 'ashlar: exit 7\\r\\n\\n'", None, true).end, End::Status(7));
    }

    #[test]
    fn a_status_is_said_exactly() {
        assert_eq!(said_status("ashlar: exit 0"), Some(0));
        assert_eq!(said_status("ashlar: exit 104"), Some(104));
        for line in ["", "ashlar: exit", "ashlar: exit ", "ashlar: exit 256", "ashlar: exit +1", "ashlar: exit 01"] {
            assert_eq!(said_status(line), None, "{line}");
        }
        for line in ["ashlar: exit 0 ", "ashlar: exit  0", " ashlar: exit 0", "ashlar: exit 1x", "xashlar: exit 1"] {
            assert_eq!(said_status(line), None, "{line}");
        }
    }

    #[test]
    fn no_status_is_told_apart() {
        for (script, semihosting, why) in [
            ("echo done", false, "the guest switched off without a status"),
            ("echo 'ashlar: exit 0'; echo more", false, "the guest switched off without a status"),
            ("echo; exit 3", false, "QEMU ended with status 3"),
            ("exit 1", true, "QEMU could not run it"),
            ("echo; kill -9 $$", true, "QEMU was ended by signal 9"),
        ] {
            assert_eq!(shell(script, None, semihosting).end, End::None(why.into()), "{script}");
        }
    }

    #[test]
    fn a_hung_guest_is_ended_and_its_output_kept() {
        let timeout = Duration::from_millis(300);
        let outcome = shell("echo before; exec sleep 60", Some(timeout), true);
        assert_eq!((outcome.end, outcome.output.as_str()), (End::Timeout(timeout), "before\n"));
    }

    #[test]
    fn a_guest_that_stays_on_is_ended_when_it_has_said_so() {
        let terms = Terms { timeout: None, until: Some("no further"), semihosting: false, attached: false };
        for (script, output) in [
            ("printf 'and no '; printf further; exec sleep 60", "and no further"),
            ("printf 'no further'; sleep 0.1; echo '?'; exec sleep 60", "no further?\n"),
        ] {
            let outcome = run(Command::new("sh").args(["-c", script]), terms, || None).unwrap();
            assert_eq!((outcome.end, outcome.output.as_str()), (End::Stopped, output));
        }
    }

    #[test]
    fn what_qemu_says_is_kept_apart() {
        let outcome = shell("echo guest; echo emulator >&2; exit 1", None, true);
        assert_eq!((outcome.output.as_str(), outcome.said.as_str()), ("guest\n", "emulator\n"));
    }

    #[test]
    fn output_is_passed_on_without_waiting_for_the_line() {
        let mut console = Console::new(|| None);
        assert_eq!(console.take(b"> "), b"> ");
        assert_eq!(console.take(b"yes\r"), b"yes");
        assert_eq!(console.take(b"\n\r"), b"\r\n");
        assert_eq!(console.take(b"x"), b"\rx");
        assert_eq!(console.finish(), "> yes\r\n\rx");
    }

    #[test]
    fn an_address_gets_its_symbol_before_the_line_ends() {
        let program = std::env::current_exe().unwrap();
        let mut console = Console::new(|| Symbols::load(&program, std::path::Path::new("/")));
        let elf = std::fs::read(&program).unwrap();
        let file = object::read::elf::ElfFile64::<object::Endianness>::parse(&*elf).unwrap();
        let main = object::Object::symbols(&file)
            .find(|symbol| object::ObjectSymbol::name(symbol) == Ok("main"))
            .map(|symbol| object::ObjectSymbol::address(&symbol))
            .unwrap();
        let shown = String::from_utf8(console.take(format!("pc {main:#x}\r\n").as_bytes())).unwrap();
        assert!(shown.starts_with(&format!("pc {main:#x} ")) && shown.ends_with("\r\n"), "{shown}");
        assert!(shown.contains("main+0x0"), "{shown}");
    }
}
