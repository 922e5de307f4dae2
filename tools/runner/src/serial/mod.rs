//! A guest on a board: started from files in a directory, heard at a serial port.
#![forbid(unsafe_code)]

mod keyboard;
mod listener;
mod port;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;

use crate::board::SERIAL;
use crate::boot_files::{self, BootFilesError};
use crate::guest::{self, Console, End, MOMENT, Outcome, Terms};
use crate::serial::keyboard::{Keyboard, Typed};
use crate::serial::listener::{Heard, Listener};
use crate::serial::port::Port;
use crate::symbols::Symbols;
use crate::words::Options;

/// After so long without a byte, a line that could have been the exit line was the last one.
const SILENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether the reset command has ended.
const TICK: Duration = Duration::from_millis(50);

/// What sets our boot arguments off from the firmware's, which come first.
const MARK: &str = "--";
/// What the firmware's settings say where there are input files.
const INPUT_LINE: &str = "initramfs initramfs.cpio followkernel";

/// A board that no guest could be started on.
#[derive(Debug, Error)]
pub enum SerialError {
    /// A word that is needed.
    #[error("machine={machine} needs {0}", machine = SERIAL)]
    Missing(&'static str),
    /// The port can't be used.
    #[error(transparent)]
    Port(#[from] port::PortError),
    /// The files can't be put where the board boots from.
    #[error(transparent)]
    Files(#[from] BootFilesError),
    /// There is nothing that a board boots from: where a card belongs, no directory is made.
    #[error("{}: {error}: is the card mounted?", path.display())]
    Directory {
        /// What `boot=` says.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The firmware would leave the input files out.
    #[error("{}: want a line `{INPUT_LINE}`, or the guest gets no input files", .0.display())]
    NoInput(PathBuf),
    /// The reset command can't be started.
    #[error("reset: sh: {0}")]
    Reset(io::Error),
    /// The user's terminal.
    #[error("standard output: {0}")]
    Output(io::Error),
}

/// A board, and how it is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    port: PathBuf,
    baud: u32,
    directory: PathBuf,
    reset: Option<String>,
}

/// A guest's end, and what can be said about one without a status.
pub struct Ended {
    /// How it ended, and what it said from its first line on; or all that came, if that line did not.
    pub outcome: Outcome,
    /// How it was started, and what may be wrong.
    pub notes: String,
}

/// What happens while a guest runs.
enum Event {
    Received(io::Result<Vec<u8>>),
    Typed(Typed),
}

/// Where a guest's output goes, and where its input comes from.
struct Ends<'a> {
    output: Option<&'a mut dyn Write>,
    /// And whether it is a person's.
    input: Option<(Box<dyn Read + Send>, bool)>,
}

impl Board {
    /// The board that `options` name.
    ///
    /// # Errors
    /// [`SerialError::Missing`].
    pub fn new(options: &Options) -> Result<Self, SerialError> {
        let port = options.port.clone().ok_or(SerialError::Missing("port=PATH, such as port=/dev/ttyUSB0"))?;
        let directory = options.boot.clone().ok_or(SerialError::Missing(
            "boot=DIR, the directory that the board boots from: a TFTP server's, or that of a mounted card",
        ))?;
        Ok(Self { port, baud: options.baud, directory, reset: options.reset.clone() })
    }

    /// Puts `image` and the archive `input` where the board boots from, with the boot arguments `arguments`; starts the
    /// board, and stays until its guest has ended.
    ///
    /// # Errors
    /// The board could not be started, or standard output can't be written.
    pub fn run(
        &self,
        arguments: &str,
        image: &[u8],
        input: Option<&Path>,
        terms: Terms<'_>,
        symbols: impl Fn() -> Option<Symbols>,
    ) -> Result<Ended, SerialError> {
        let listener = Listener::new();
        // Of the words with its key the last one counts.
        let arguments = format!("{MARK} {arguments} {}", listener.argument());
        let port = Port::open(&self.port, self.baud)?;
        self.check_directory(input.is_some())?;
        boot_files::write(&self.directory, image, input, &arguments)?;
        let keyboard = terms.attached.then(Keyboard::new);
        let mut stdout = io::stdout();
        let ends = Ends {
            output: terms.attached.then_some(&mut stdout),
            input: keyboard.as_ref().map(|keyboard| (Box::new(io::stdin()) as _, keyboard.is_terminal())),
        };
        self.play(port, listener, terms, ends, symbols)
    }

    /// Whether the board can boot from there, as far as can be seen: its settings may lie elsewhere.
    fn check_directory(&self, has_input: bool) -> Result<(), SerialError> {
        fs::read_dir(&self.directory)
            .map_err(|error| SerialError::Directory { path: self.directory.clone(), error })?;
        let path = self.directory.join("config.txt");
        let Ok(settings) = fs::read_to_string(&path) else { return Ok(()) };
        match has_input && !settings.lines().any(|line| line.trim() == INPUT_LINE) {
            true => Err(SerialError::NoInput(path)),
            false => Ok(()),
        }
    }

    /// Starts the board, whose files are there, and stays until its guest has ended. The time that `terms` give counts from
    /// the reset command, or else from the first byte, to the guest's first line, and again from there.
    fn play(
        &self,
        mut port: Port,
        listener: Listener,
        terms: Terms<'_>,
        ends: Ends<'_>,
        symbols: impl Fn() -> Option<Symbols>,
    ) -> Result<Ended, SerialError> {
        let (sender, events) = mpsc::channel();
        let mut keys = Keys::new(&port);
        if let Some((input, is_terminal)) = ends.input {
            keys.held = (!is_terminal).then(Vec::new);
            let sender = sender.clone();
            keyboard::listen(input, is_terminal, move |typed| sender.send(Event::Typed(typed)).is_ok());
        }
        // What an earlier guest has sent, in as far as it is here; the rest comes before this one's first line.
        port.discard().map_err(|error| port::PortError::Other { port: self.port.clone(), error })?;
        port.listen(move |received| sender.send(Event::Received(received)).is_ok());
        let mut reset = self.reset.as_deref().map(Reset::start).transpose().map_err(SerialError::Reset)?;
        if reset.is_none() {
            eprintln!(
                "ashlar-runner: switch the board at {} on now, or reset it; it boots from {}",
                self.port.display(),
                self.directory.display()
            );
        }
        let mut line = Line { listener, before: Vec::new(), console: Console::new(symbols), output: ends.output };
        let mut started = reset.is_some().then(Instant::now);
        let mut last_byte = Instant::now();
        // Since it has said what it was run until.
        let mut stopped: Option<Instant> = None;
        let end = loop {
            match events.recv_timeout(TICK) {
                Ok(Event::Received(Ok(bytes))) => {
                    last_byte = Instant::now();
                    started.get_or_insert(last_byte);
                    let had_begun = line.listener.has_begun();
                    if let Some(end) = line.take(&bytes).map_err(SerialError::Output)? {
                        break if stopped.is_some() { End::Stopped } else { end };
                    }
                    if stopped.is_none() && terms.until.is_some_and(|text| line.console.has(text)) {
                        stopped = Some(last_byte);
                    }
                    if !had_begun && line.listener.has_begun() {
                        started = Some(last_byte);
                        keys.release();
                    }
                }
                Ok(Event::Received(Err(error))) => {
                    break End::None(format!("{}: the port is gone: {error}", self.port.display()));
                }
                Ok(Event::Typed(Typed::Bytes(bytes))) => keys.send(bytes),
                Ok(Event::Typed(Typed::Interrupt)) => {
                    break End::None("ended by Ctrl-C: what runs on the board runs on".into());
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The port's thread says why before it ends.
                Err(RecvTimeoutError::Disconnected) => break End::None("the port is not read any more".into()),
            }
            if stopped.is_some_and(|since| since.elapsed() >= MOMENT) {
                break End::Stopped;
            }
            if line.listener.has_begun()
                && last_byte.elapsed() >= SILENCE
                && let Some(damaged) = line.listener.looks_like_exit()
            {
                break End::None(format!("the exit line is damaged, and nothing came after it: `{damaged}`"));
            }
            if let Some(failed) = reset.as_mut().and_then(Reset::failure)
                && !line.listener.has_begun()
            {
                break End::None(format!("the reset command failed: {failed}"));
            }
            if let Some(timeout) = terms.timeout
                && started.is_some_and(|started| started.elapsed() >= timeout)
            {
                break End::Timeout(timeout);
            }
        };
        drop(port);
        drop(reset);
        let notes = self.notes(&line, &end);
        Ok(Ended { outcome: line.finish(end), notes })
    }

    /// What the user may want to know of a guest without a status.
    fn notes<F>(&self, line: &Line<'_, F>, end: &End) -> String {
        let port = self.port.display();
        let mut notes = match &self.reset {
            Some(reset) => format!("it was started by {reset}"),
            None => "it was started by hand".into(),
        };
        if line.listener.has_begun() || !matches!(end, End::Timeout(_)) {
            return notes;
        }
        let directory = self.directory.display();
        notes += &match line.before.is_empty() {
            true => {
                format!("; nothing came from {port}: is it wired, and does {directory}/config.txt say enable_uart=1?")
            }
            false => format!(
                "; its first line, `{}`, did not come: does the board boot from {directory}, and send at {} baud?",
                line.listener.first(),
                self.baud
            ),
        };
        if let Some(other) = line.listener.looks_like_exit() {
            notes += &format!(" The last line that came, `{other}`, may be another boot's");
        }
        notes
    }
}

/// What is received, as it comes.
struct Line<'a, F> {
    listener: Listener,
    /// What came before the first line, made harmless.
    before: Vec<u8>,
    console: Console<F>,
    output: Option<&'a mut dyn Write>,
}

impl<F: Fn() -> Option<Symbols>> Line<'_, F> {
    /// Takes what was received; whether that was the guest's end.
    fn take(&mut self, bytes: &[u8]) -> io::Result<Option<End>> {
        let mut rest = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            let had_begun = self.listener.has_begun();
            match self.listener.hear(byte) {
                None => {}
                Some(Heard::Begin) if had_begun => {
                    self.guest(&bytes[rest..=at])?;
                    return Ok(Some(End::None("the board was reset, and the guest began anew".into())));
                }
                Some(Heard::Begin) => {
                    self.other(&bytes[rest..=at])?;
                    // Shown already, with what stood before it.
                    self.console.take(format!("{}\n", self.listener.first()).as_bytes());
                    rest = at + 1;
                }
                Some(Heard::Exit(status)) => {
                    self.guest(&bytes[rest..=at])?;
                    return Ok(Some(End::Status(status)));
                }
            }
        }
        match self.listener.has_begun() {
            true => self.guest(&bytes[rest..])?,
            false => self.other(&bytes[rest..])?,
        }
        Ok(None)
    }

    /// The guest's own.
    fn guest(&mut self, bytes: &[u8]) -> io::Result<()> {
        let shown = self.console.take(bytes);
        self.show(&shown)
    }

    /// What came before it: shown, since the firmware may say what is wrong, but nothing that a terminal would obey.
    fn other(&mut self, bytes: &[u8]) -> io::Result<()> {
        let plain = |byte: &u8| byte.is_ascii_graphic() || b" \t\r\n".contains(byte);
        let shown: Vec<_> = bytes.iter().map(|byte| if plain(byte) { *byte } else { b'.' }).collect();
        self.before.extend_from_slice(&shown);
        self.show(&shown)
    }

    fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(output) = &mut self.output else { return Ok(()) };
        output.write_all(bytes)?;
        output.flush()
    }

    fn finish(self, end: End) -> Outcome {
        let before = String::from_utf8_lossy(&self.before).into_owned();
        match self.listener.has_begun() {
            true => Outcome { end, output: self.console.finish(), said: before },
            false => Outcome { end, output: before, said: String::new() },
        }
    }
}

/// What is typed, on its way to the port.
struct Keys {
    port: Sender<Vec<u8>>,
    /// What waits for the guest's first line: a pipe's contents are here before there is anybody to read them.
    held: Option<Vec<u8>>,
}

impl Keys {
    fn new(port: &Port) -> Self {
        let mut writer = port.writer();
        let (sender, receiver) = mpsc::channel::<Vec<u8>>();
        thread::spawn(move || {
            // A port that is gone is noticed where it is read.
            while receiver.recv().is_ok_and(|bytes| writer.write_all(&bytes).is_ok()) {}
        });
        Self { port: sender, held: None }
    }

    fn send(&mut self, bytes: Vec<u8>) {
        match &mut self.held {
            Some(held) => held.extend(bytes),
            None => {
                let _ = self.port.send(bytes);
            }
        }
    }

    fn release(&mut self) {
        if let Some(held) = self.held.take() {
            let _ = self.port.send(held);
        }
    }
}

/// The running reset command. It is read meanwhile: a command that powers a board up may return when that has booted, and an
/// emulator's when the guest has ended.
struct Reset(Child);

impl Reset {
    fn start(command: &str) -> io::Result<Self> {
        let mut shell = Command::new("sh");
        // Its own group, to be ended with all that it has started; its words do not mix with the guest's.
        shell.args(["-c", command]).process_group(0).stdin(Stdio::null()).stdout(io::stderr());
        Ok(Self(shell.spawn()?))
    }

    /// How it failed, if it did.
    fn failure(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten().filter(|status| !status.success())
    }
}

impl Drop for Reset {
    /// Lets it end, or ends it.
    fn drop(&mut self) {
        let group = Pid::from_child(&self.0);
        for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
            if let Some(signal) = signal {
                let _ = kill_process_group(group, signal);
            }
            if !matches!(guest::wait(&mut self.0), Ok(None)) {
                return;
            }
        }
    }
}
