//! `ashlar-runner ELF [WORD…]`: boots a kernel under QEMU, or on a board, and ends with its status. Cargo's runner for
//! `aarch64-unknown-none`.
//!
//! [`words::Options`] lists the words that describe the machine; all others are boot arguments for the guest. A
//! kernel that carries expectations ([`expect`]) is booted and checked as they say. With `into=DIR` nothing is booted:
//! [`boot_files`] are written. The runner's own statuses: 124 for a guest that ran past its timeout, 125 for one that
//! could not be started or ended without a status.
#![forbid(unsafe_code)]

mod boot_files;
mod expect;
mod guest;
mod image;
mod input;
mod qemu;
mod serial;
mod symbols;
mod words;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::expect::Expectations;
use crate::guest::{End, Outcome, Terms};
use crate::image::Kernel;
use crate::qemu::QemuError;
use crate::serial::{Board, SerialError};
use crate::symbols::Symbols;
use crate::words::{Options, Timeout};

const USAGE: &str = "usage: ashlar-runner ELF [WORD…]";

/// How long a test's kernel may run.
const TEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Statuses of the runner's own, as `timeout` and `env` have them.
const TIMED_OUT: u8 = 124;
const FAILED: u8 = 125;

/// Why a kernel was not booted.
#[derive(Debug, Error)]
enum Failure {
    #[error("{USAGE}")]
    Usage,
    #[error("`{}` is not UTF-8", .0.display())]
    Encoding(OsString),
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{}: {error}", path.display())]
    Image { path: PathBuf, error: image::ImageError },
    #[error(transparent)]
    Expectations(#[from] expect::ExpectError),
    #[error(transparent)]
    Words(#[from] words::WordError),
    #[error(transparent)]
    Input(#[from] input::InputError),
    #[error(transparent)]
    BootFiles(#[from] boot_files::BootFilesError),
    #[error(transparent)]
    Qemu(#[from] QemuError),
    #[error(transparent)]
    Serial(#[from] SerialError),
}

fn main() -> ExitCode {
    match run() {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("ashlar-runner: {failure}");
            ExitCode::from(FAILED)
        }
    }
}

fn run() -> Result<u8, Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let elf = PathBuf::from(arguments.next().ok_or(Failure::Usage)?);
    let words = arguments.map(|word| word.into_string().map_err(Failure::Encoding)).collect::<Result<Vec<_>, _>>()?;
    let bytes = fs::read(&elf).map_err(|error| Failure::File { path: elf.clone(), error })?;
    let kernel = Kernel::parse(&bytes).map_err(|error| Failure::Image { path: elf.clone(), error })?;
    let image = write_image(&elf, "img", &kernel.image)?;
    let boot = Boot { elf, kernel, image, words };
    let options = boot.options(&[])?;
    if let Some(directory) = &options.into {
        return boot.write_files(&options, directory).map(|()| 0);
    }
    match &boot.kernel.expectations {
        Some(section) => boot.check(&Expectations::parse(section)?),
        None => boot.attached(),
    }
}

/// Writes the image next to the ELF file, at once and as a whole: the same kernel may be booting in another process.
fn write_image(elf: &Path, extension: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
    let image = elf.with_extension(extension);
    let unfinished = elf.with_extension(format!("{extension}.{}", std::process::id()));
    fs::write(&unfinished, bytes)
        .and_then(|()| fs::rename(&unfinished, &image))
        .map_err(|error| Failure::File { path: image.clone(), error })?;
    Ok(image)
}

/// A kernel ready to boot.
struct Boot {
    elf: PathBuf,
    kernel: Kernel,
    image: PathBuf,
    /// The words from the command line.
    words: Vec<String>,
}

impl Boot {
    /// Boots the kernel at the user's terminal; its status is the result.
    fn attached(&self) -> Result<u8, Failure> {
        let (outcome, notes) = self.boot(&[], None, true)?;
        match outcome.end {
            End::Status(status) => Ok(status),
            end => Ok(report(&end, &notes)),
        }
    }

    /// Boots the kernel as often as its expectations say; 0 if all came out as expected.
    fn check(&self, expectations: &Expectations) -> Result<u8, Failure> {
        let mut failed = false;
        for run in &expectations.runs {
            let name = if run.is_empty() { "defaults".into() } else { run.join(" ") };
            if let Some(lack) = self.lack(run)? {
                println!("boot with {name} ... skipped: {lack}");
                continue;
            }
            let started = Instant::now();
            let (outcome, notes) = match self.boot(run, expectations.until(), false) {
                // Not every distribution's QEMU knows every board; where nobody reads the output, that is a failure.
                Err(Failure::Qemu(error @ QemuError::Old { board: true, .. })) if std::env::var_os("CI").is_none() => {
                    println!("boot with {name} ... skipped: {error}");
                    continue;
                }
                result => result?,
            };
            let mismatches = match outcome.end {
                End::Status(status) => expectations.mismatches(Some(status), &outcome.output),
                End::Stopped => expectations.mismatches(None, &outcome.output),
                _ => Vec::new(),
            };
            let end = outcome.end;
            let ended = matches!(end, End::Status(_) | End::Stopped);
            if ended && mismatches.is_empty() {
                for line in outcome.output.lines().filter(|line| line.starts_with("test ")) {
                    println!("{line}");
                }
                println!("boot with {name} ... ok ({:.1} s)", started.elapsed().as_secs_f32());
                continue;
            }
            failed = true;
            println!("{}\nboot with {name} ... FAILED", outcome.output.trim_end());
            for mismatch in mismatches {
                println!("  {mismatch}");
            }
            if !ended {
                report(&end, &notes);
            }
        }
        Ok(u8::from(failed))
    }

    /// What `run` asks for that a board does not have, if it would be booted on one.
    fn lack(&self, run: &[String]) -> Result<Option<serial::Lack>, Failure> {
        Ok(if self.options(run)?.is_board() { serial::lack(run) } else { None })
    }

    /// Boots the kernel with the words of `run` and the command line's; how it ended, and how it was started.
    fn boot(&self, run: &[String], until: Option<&str>, attached: bool) -> Result<(Outcome, String), Failure> {
        let options = self.options(run)?;
        if let Some(out) = &options.out {
            fs::create_dir_all(out).map_err(|error| Failure::File { path: out.clone(), error })?;
        }
        let initrd = self.initrd(&options)?;
        let timeout = match options.timeout {
            Some(Timeout::After(timeout)) => Some(timeout),
            Some(Timeout::Never) => None,
            None => (!options.gdb && (!attached || self.is_test())).then_some(TEST_TIMEOUT),
        };
        let here = here()?;
        let symbols = || Symbols::load(&self.elf, &here);
        if options.is_board() {
            if let Some(lack) = serial::lack(&self.words) {
                return Err(SerialError::from(lack).into());
            }
            let terms = serial::Terms { timeout, until, attached };
            let board = Board::new(&options)?;
            let ended = board.run(&options, &self.kernel.image, initrd.as_deref(), terms, symbols)?;
            return Ok((ended.outcome, ended.notes));
        }
        let image = match options.offset {
            _ if options.elf => self.elf.clone(),
            Some(offset) => write_image(&self.elf, &format!("{offset:x}.img"), &self.kernel.at_offset(offset))?,
            None => self.image.clone(),
        };
        let arguments = qemu::arguments(&options, &image, initrd.as_deref())?;
        qemu::check_version(&options.machine)?;
        if options.gdb {
            eprintln!("waiting for a debugger: gdb-multiarch {} -ex 'target remote :1234'", self.elf.display());
        }
        let terms = Terms { timeout, until, semihosting: options.semihosting, attached };
        let outcome =
            guest::run(Command::new(qemu::PROGRAM).args(&arguments), terms, symbols).map_err(QemuError::Start)?;
        let words: Vec<_> = arguments.iter().map(|word| shell_word(&word.to_string_lossy())).collect();
        Ok((outcome, format!("it was started as {} {}", qemu::PROGRAM, words.join(" "))))
    }

    /// Puts what a boot loader needs into `directory`, and boots nothing.
    fn write_files(&self, options: &Options, directory: &Path) -> Result<(), Failure> {
        let initrd = self.initrd(options)?;
        let command_line = options.command_line()?;
        Ok(boot_files::write(directory, &self.kernel.image, initrd.as_deref(), &command_line)?)
    }

    /// What the words ask for, with those of `run` before the command line's.
    fn options(&self, run: &[String]) -> Result<Options, Failure> {
        Ok(Options::parse(run.iter().chain(&self.words), &here()?)?)
    }

    /// The packed input files, if there are any.
    fn initrd(&self, options: &Options) -> Result<Option<PathBuf>, Failure> {
        let archive = |input| input::archive(input, &self.cache());
        Ok(options.input.as_ref().map(archive).transpose()?)
    }

    /// Whether cargo built it as a test: applications lie a directory higher.
    fn is_test(&self) -> bool {
        self.elf.parent().is_some_and(|parent| parent.ends_with("deps"))
    }

    /// Where packed input is kept: in the target directory, which cargo marks by a file.
    fn cache(&self) -> PathBuf {
        let marked = |directory: &&Path| directory.join("CACHEDIR.TAG").exists();
        let target = self.elf.ancestors().filter(marked).last();
        target.map_or_else(std::env::temp_dir, Path::to_path_buf).join("ashlar-input")
    }
}

/// Where relative paths start.
fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::File { path: ".".into(), error })
}

/// Says why a guest has no status, and how it was started; returns the runner's status for it.
fn report(end: &End, notes: &str) -> u8 {
    let status = match end {
        End::Status(status) => *status,
        End::Stopped => 0,
        End::Timeout(timeout) => {
            eprintln!(
                "ashlar-runner: the guest ran past its timeout of {} s and was ended (timeout=SECONDS changes it, 0 \
                 lifts it)",
                timeout.as_secs()
            );
            TIMED_OUT
        }
        End::None(why) => {
            eprintln!("ashlar-runner: {why}");
            FAILED
        }
    };
    eprintln!("ashlar-runner: {notes}");
    status
}

/// `word` as one types it for a shell.
fn shell_word(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=,./:+@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
