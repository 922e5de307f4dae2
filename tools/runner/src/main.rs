//! `ashlar-runner ELF [WORD…]`: boots a kernel under QEMU, or on a board, and ends with its status. Cargo's runner for
//! `aarch64-unknown-none`.
//!
//! [`words::Options`] lists the words that describe the machine; all others are boot arguments for the guest. A
//! kernel that carries expectations ([`expect`]) is booted and checked as they say. With `into=DIR` nothing is booted:
//! [`boot_files`] are written. The runner's own statuses: 124 for a guest that ran past its timeout, 125 for one that
//! could not be started or ended without a status.
#![forbid(unsafe_code)]

mod board;
mod boot_files;
mod expect;
mod guest;
mod image;
mod input;
mod qemu;
mod schedule;
mod serial;
mod symbols;
mod tlb;
mod words;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::num::NonZero;
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
use crate::tlb::{Model, ModelError};
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
    #[error("{} is missing: run tools/setup --boards, which brings it", .0.display())]
    NoTree(PathBuf),
    #[error("no boot loader starts {0}")]
    Loader(&'static str),
    #[error("{} is missing: tools/fetch u-boot brings it", .0.display())]
    NoLoader(PathBuf),
    #[error(transparent)]
    Lack(#[from] board::Lack),
    #[error("it is for machine={0}")]
    OtherMachine(String),
    #[error(transparent)]
    BootFiles(#[from] boot_files::BootFilesError),
    #[error(transparent)]
    Qemu(#[from] QemuError),
    #[error(transparent)]
    Serial(#[from] SerialError),
    #[error(transparent)]
    Model(#[from] ModelError),
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
    let here = std::env::current_dir().map_err(|error| Failure::File { path: ".".into(), error })?;
    let boot = Boot { elf, kernel, image, words, here };
    let options = boot.read(&[])?;
    if let Some(directory) = &options.into {
        return boot.write_files(directory, &options).map(|()| 0);
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
    /// The directory that this process is in.
    here: PathBuf,
}

/// One boot, ready to start.
struct Plan {
    machine: Machine,
    terms: Terms<'static>,
    /// Others may run beside it.
    shares: bool,
}

/// What it is to run on.
enum Machine {
    /// An emulated one; QEMU's arguments.
    Qemu { arguments: Vec<OsString>, waits_for_debugger: bool, model: Option<Model> },
    /// One at a serial port; the guest's boot arguments and input.
    Board { board: Board, arguments: String, initrd: Option<PathBuf> },
}

/// Why a boot is left out that can't be had here; any other failure is the file's.
fn skipped(failure: Failure) -> Result<Result<Plan, Failure>, Failure> {
    match failure {
        // Not every distribution's QEMU knows every board; where nobody reads the output, that is a failure.
        Failure::Qemu(QemuError::Old { board: true, .. }) if std::env::var_os("CI").is_none() => Ok(Err(failure)),
        Failure::Lack(_) | Failure::OtherMachine(_) | Failure::Loader(_) => Ok(Err(failure)),
        Failure::Model(ModelError::Turns) => Ok(Err(failure)),
        _ => Err(failure),
    }
}

/// Prints what came of a boot; whether it is what was expected.
fn tell(name: &str, outcome: &Outcome, notes: &str, took: Duration, expectations: &Expectations) -> bool {
    let Outcome { end, output, said } = outcome;
    // None of a guest without an end of its own.
    let mismatches = match end {
        End::Status(status) => Some(expectations.mismatches(Some(*status), output)),
        End::Stopped => Some(expectations.mismatches(None, output)),
        _ => None,
    };
    if mismatches.as_ref().is_some_and(Vec::is_empty) {
        for line in output.lines().filter(|line| line.starts_with("test ")) {
            println!("{line}");
        }
        println!("boot with {name} ... ok ({:.1} s)", took.as_secs_f32());
        return true;
    }
    for text in [output, said].map(|text| text.trim_end()).iter().filter(|text| !text.is_empty()) {
        println!("{text}");
    }
    println!("boot with {name} ... FAILED");
    for mismatch in mismatches.into_iter().flatten() {
        println!("  {mismatch}");
    }
    report(end, notes);
    false
}

impl Boot {
    /// Boots the kernel at the user's terminal; its status is the result.
    fn attached(&self) -> Result<u8, Failure> {
        let plan = self.plan(&[], true)?;
        let (outcome, notes) = self.run(&plan, None)?;
        Ok(report(&outcome.end, &notes))
    }

    /// Boots the kernel as often as its expectations say; 0 if all came out as expected. Boots of a single core go side by
    /// side, one for each of the host's.
    fn check(&self, expectations: &Expectations) -> Result<u8, Failure> {
        let mut boots = Vec::new();
        for run in &expectations.runs {
            let name = if run.is_empty() { "defaults".into() } else { run.join(" ") };
            boots.push((name, self.plan(run, false).map_or_else(skipped, |plan| Ok(Ok(plan)))?));
        }
        let (mut failed, mut ran, mut failure) = (false, false, None);
        let at_once = std::thread::available_parallelism().map_or(1, NonZero::get);
        schedule::run(
            &boots,
            at_once,
            |(_, plan)| plan.as_ref().map_or(true, |plan| plan.shares),
            |(_, plan)| {
                let started = Instant::now();
                plan.as_ref().ok().map(|plan| (self.run(plan, expectations.until()), started.elapsed()))
            },
            |(name, plan), result| match (plan, result) {
                (Ok(_), Some((Ok((outcome, notes)), took))) => {
                    ran = true;
                    failed |= !tell(name, &outcome, &notes, took, expectations);
                }
                (_, Some((Err(error), _))) => failure = Some(error),
                (Err(why), _) => println!("boot with {name} ... skipped: {why}"),
                (Ok(_), None) => {}
            },
        );
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !ran {
            println!("nothing of {} could be run: every boot was skipped", self.elf.display());
        }
        Ok(u8::from(failed))
    }

    /// What `run` and the words from the command line ask for, where the machine has it.
    fn options(&self, run: &[String]) -> Result<Options, Failure> {
        let mut options = self.read(run)?;
        if let Some(board) = board::find(&options.machine) {
            board.check(&options)?;
            if let (Some(emulation), None) = (&board.emulation, &options.device_tree) {
                options.device_tree = Some(self.brought(emulation.tree, Failure::NoTree)?);
            }
        }
        let unloadable = [
            (options.elf, "an ELF file"),
            (board::find(&options.machine).is_some(), "a board"),
            (options.machine.contains("secure=on"), "a machine whose flash is the secure world's"),
        ];
        if let (Some(_), Some((_, what))) = (&options.loader, unloadable.iter().find(|(is, _)| *is)) {
            return Err(Failure::Loader(what));
        }
        if options.loader.as_deref() == Some(Path::new(words::U_BOOT)) {
            options.loader = Some(self.brought("u-boot.bin", Failure::NoLoader)?);
        }
        // A line that names its machine, or brings its tree, is about that one; so is one about how an ELF file is entered.
        let meant = Options::parse(run, &self.here)?;
        let is_particular =
            meant.elf || run.iter().any(|word| word.starts_with("machine=") || word.starts_with("dtb="));
        if is_particular && meant.machine != options.machine {
            return Err(Failure::OtherMachine(meant.machine));
        }
        Ok(options)
    }

    /// What booting with `run` and the words from the command line takes.
    fn plan(&self, run: &[String], attached: bool) -> Result<Plan, Failure> {
        let options = self.options(run)?;
        let timeout = match options.timeout {
            Some(Timeout::After(timeout)) => Some(timeout),
            Some(Timeout::Never) => None,
            None => {
                let timeout = if options.tlb.is_some() { TEST_TIMEOUT * tlb::SLOWER } else { TEST_TIMEOUT };
                (!options.gdb && (!attached || self.is_test())).then_some(timeout)
            }
        };
        let terms = Terms { timeout, until: None, semihosting: options.semihosting, attached };
        let initrd = self.initrd(&options)?;
        if options.is_serial() {
            let board = Board::new(&options)?;
            let machine = Machine::Board { board, arguments: options.command_line()?, initrd };
            return Ok(Plan { machine, terms, shares: false });
        }
        if let Some(out) = &options.out {
            fs::create_dir_all(out).map_err(|error| Failure::File { path: out.clone(), error })?;
        }
        let image = match options.offset {
            _ if options.elf => self.elf.clone(),
            Some(offset) => write_image(&self.elf, &format!("{offset:x}.img"), &self.kernel.at_offset(offset))?,
            None => self.image.clone(),
        };
        let mut arguments = qemu::arguments(&options, &image, initrd.as_deref())?;
        qemu::check_version(&options.machine)?;
        let model = Model::new(&options, &self.target_directory().join("tlb"), &self.elf, attached)?;
        arguments.extend(model.iter().flat_map(Model::arguments));
        Ok(Plan {
            machine: Machine::Qemu { arguments, waits_for_debugger: options.gdb, model },
            terms,
            // Several cores have the host for themselves; there is one port for debuggers, and one file of a name.
            shares: options.cores_at_start() == 1 && !options.gdb && options.out.is_none(),
        })
    }

    /// Boots as `plan` says: what came of it, and how it was started.
    fn run(&self, plan: &Plan, until: Option<&str>) -> Result<(Outcome, String), Failure> {
        let terms = Terms { until, ..plan.terms };
        let symbols = || Symbols::load(&self.elf, &self.here);
        match &plan.machine {
            Machine::Board { board, arguments, initrd } => {
                let ended = board.run(arguments, &self.kernel.image, initrd.as_deref(), terms, symbols)?;
                Ok((ended.outcome, ended.notes))
            }
            Machine::Qemu { arguments, waits_for_debugger, model } => {
                if *waits_for_debugger {
                    let elf = self.elf.display();
                    eprintln!("waiting for a debugger: gdb-multiarch {elf} -ex 'target remote :1234'");
                }
                let mut outcome = guest::run(Command::new(qemu::PROGRAM).args(arguments), terms, symbols)
                    .map_err(QemuError::Start)?;
                if let Some(model) = model {
                    model.conclude(&mut outcome, terms.attached, symbols);
                }
                let words: Vec<_> = arguments.iter().map(|word| shell_word(&word.to_string_lossy())).collect();
                Ok((outcome, format!("it was started as {} {}", qemu::PROGRAM, words.join(" "))))
            }
        }
    }

    /// Puts what a boot loader needs into `directory`, and boots nothing.
    fn write_files(&self, directory: &Path, options: &Options) -> Result<(), Failure> {
        let initrd = self.initrd(options)?;
        Ok(boot_files::write(directory, &self.kernel.image, initrd.as_deref(), &options.command_line()?)?)
    }

    /// What the words ask for, with those of `run` before the command line's.
    fn read(&self, run: &[String]) -> Result<Options, Failure> {
        Ok(Options::parse(run.iter().chain(&self.words), &self.here)?)
    }

    /// The packed input files, if there are any.
    fn initrd(&self, options: &Options) -> Result<Option<PathBuf>, Failure> {
        let archive = |input| input::archive(input, &self.target_directory().join("ashlar-input"));
        Ok(options.input.as_ref().map(archive).transpose()?)
    }

    /// A file that `tools/fetch` brings.
    fn brought(&self, name: &str, missing: fn(PathBuf) -> Failure) -> Result<PathBuf, Failure> {
        let file = self.target_directory().join("boards").join(name);
        if file.exists() { Ok(file) } else { Err(missing(file)) }
    }

    /// Whether cargo built it as a test: applications lie a directory higher.
    fn is_test(&self) -> bool {
        self.elf.parent().is_some_and(|parent| parent.ends_with("deps"))
    }

    /// The target directory, which cargo marks by a file; packed input and the boards' trees are kept there.
    fn target_directory(&self) -> PathBuf {
        let marked = |directory: &&Path| directory.join("CACHEDIR.TAG").exists();
        let target = self.elf.ancestors().filter(marked).last();
        target.map_or_else(std::env::temp_dir, Path::to_path_buf)
    }
}

/// The runner's status for a guest that ended so. Of one without a status it says why, and how it was started.
fn report(end: &End, notes: &str) -> u8 {
    let status = match end {
        End::Status(status) => return *status,
        End::Stopped => return 0,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel in a target directory of its own, and words from the command line.
    fn boot(name: &str, words: &str) -> Boot {
        let target = std::env::temp_dir().join(format!("ashlar-runner-{name}-{}", std::process::id()));
        let deps = target.join("aarch64-unknown-none/debug/deps");
        fs::create_dir_all(&deps).unwrap();
        fs::write(target.join("CACHEDIR.TAG"), "").unwrap();
        Boot {
            elf: deps.join("kernel-0"),
            kernel: Kernel { image: Vec::new(), expectations: None },
            image: deps.join("kernel-0.img"),
            words: words::split(words).unwrap(),
            here: "/here".into(),
        }
    }

    fn options(boot: &Boot, run: &str) -> Result<Options, Failure> {
        boot.options(&words::split(run).unwrap())
    }

    #[test]
    fn a_board_has_the_tree_that_was_brought_for_it() {
        let boot = boot("tree", "machine=raspi4b");
        let tree = boot.target_directory().join("boards/bcm2711-rpi-4-b.dtb");
        let missing = options(&boot, "cores=2").unwrap_err();
        assert_eq!(
            missing.to_string(),
            format!("{} is missing: run tools/setup --boards, which brings it", tree.display())
        );
        assert!(skipped(missing).is_err(), "it can be had");
        fs::create_dir_all(tree.parent().unwrap()).unwrap();
        fs::write(&tree, "").unwrap();
        assert_eq!(options(&boot, "cores=2").unwrap().device_tree, Some(tree));
        let own = options(&boot, "machine=raspi4b dtb=own.dtb").unwrap();
        assert_eq!(own.device_tree, Some("/here/own.dtb".into()));
        fs::remove_dir_all(boot.target_directory()).unwrap();
    }

    #[test]
    fn what_a_board_lacks_is_skipped() {
        let boot = boot("lack", "machine=raspi4b dtb=own.dtb");
        let reason = |run| skipped(options(&boot, run).unwrap_err()).unwrap().map(|_| ()).unwrap_err().to_string();
        assert_eq!(reason("memory=1G"), "machine=raspi4b has 960 MiB of RAM");
        assert_eq!(reason("dtb=virt.dtb gic=2"), "it is for machine=virt");
        assert_eq!(reason("machine=virt"), "it is for machine=virt");
        assert!(skipped(options(&boot, "memory=1Q").unwrap_err()).is_err(), "a mistake is no lack");
        fs::remove_dir_all(boot.target_directory()).unwrap();
    }

    #[test]
    fn the_command_line_overrides_what_a_board_lacks() {
        let boot = boot("override", "machine=raspi4b dtb=own.dtb memory=64M cores=4 gic=2 cpu=cortex-a72 el=2");
        let options = options(&boot, "memory=4G cores=8 gic=3 cpu=max el=1").unwrap();
        assert_eq!((options.memory, options.cores_at_start()), (Some(64 << 20), 4));
        fs::remove_dir_all(boot.target_directory()).unwrap();
    }
}
