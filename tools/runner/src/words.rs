//! The words after the ELF file: those that describe the machine, and those that go on to the guest's boot arguments.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::board;

/// What `loader=` says for the boot loader that `tools/fetch` brings.
pub const U_BOOT: &str = "u-boot";

/// What the words of one boot ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `machine=`: QEMU's name of the machine, or [`board::SERIAL`].
    pub machine: String,
    /// `memory=`, in bytes; a multiple of 1 KiB. `None` is the machine's default: 1 GiB, or all that a board has.
    pub memory: Option<u64>,
    /// `cores=`. `None` is the machine's default: one, or all that a board has. What a test needs a single core for is the
    /// exception, so that it says `cores=1`; all others see a board as it is.
    pub cores: Option<u32>,
    /// `cpu=`: QEMU's name of the processor. `None` is a Cortex-A72.
    pub cpu: Option<String>,
    /// `el=`: the exception level the guest is entered at, 1 or 2. `None` is 1, or as a board has it.
    pub exception_level: Option<u8>,
    /// `offset=`: how far above the machine's load base the image is put, a multiple of 4 KiB.
    pub offset: Option<u64>,
    /// `image=elf`: QEMU is given the ELF file, not the flat image that boot loaders know.
    pub elf: bool,
    /// `loader=`: a boot loader's image, which QEMU starts and offers the kernel to; `u-boot` is the one that `tools/fetch u-boot` brings.
    pub loader: Option<PathBuf>,
    /// `gic=`: the version of the interrupt controller, 2 or 3. `None` is 2.
    pub gic: Option<u8>,
    /// `input=`: what to pack into the initrd.
    pub input: Option<Input>,
    /// `out=`: an absolute path of the host's, for the guest's output files.
    pub out: Option<PathBuf>,
    /// `into=`: a directory for the files that a boot loader needs, in place of a boot.
    pub into: Option<PathBuf>,
    /// `dtb=`: a device tree to use in place of QEMU's own.
    pub device_tree: Option<PathBuf>,
    /// `timeout=`. `None` leaves it to the runner.
    pub timeout: Option<Timeout>,
    /// `icount=on`: one virtual nanosecond is one guest instruction, the same on every run.
    pub icount: bool,
    /// `gdb=on`: QEMU waits for a debugger.
    pub gdb: bool,
    /// `semihosting=off` turns it off.
    pub semihosting: bool,
    /// `tlb=PRESET[,KEY=VALUE…]`: QEMU counts what that processor's TLBs would miss.
    pub tlb: Option<String>,
    /// `qemu="…"`: further arguments for QEMU.
    pub qemu: Vec<String>,
    /// `port=`: the serial port that a board's console is at.
    pub port: Option<PathBuf>,
    /// `baud=`: that port's rate.
    pub baud: u32,
    /// `boot=`: the directory that a board boots from.
    pub boot: Option<PathBuf>,
    /// `reset="…"`: the shell's command that makes a board start anew.
    pub reset: Option<String>,
    /// Words for the guest.
    pub boot_arguments: Vec<String>,
}

/// Files for the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// `input=default`: text that is on a developer's machine anyway.
    Default,
    /// A file, or a directory with all files below it.
    Path(PathBuf),
}

/// How long a guest may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// `timeout=0`.
    Never,
    /// `timeout=SECONDS`.
    After(Duration),
}

/// A word, or a line of words, that the runner can't follow.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WordError {
    /// A value outside of what its key takes.
    #[error("`{word}`: want {want}")]
    Value {
        /// The whole word.
        word: String,
        /// What would have been right.
        want: &'static str,
    },
    /// The boot arguments have no way to write a double quote.
    #[error("`{0}`: a double quote can't be passed to the guest")]
    Quote(String),
    /// A quote that is never closed.
    #[error("`{0}`: a double quote is not closed")]
    Unclosed(String),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            machine: "virt".into(),
            memory: None,
            cores: None,
            cpu: None,
            exception_level: None,
            offset: None,
            elf: false,
            loader: None,
            gic: None,
            input: None,
            out: None,
            into: None,
            device_tree: None,
            timeout: None,
            icount: false,
            gdb: false,
            semihosting: true,
            tlb: None,
            qemu: Vec::new(),
            port: None,
            baud: 115_200,
            boot: None,
            reset: None,
            boot_arguments: Vec::new(),
        }
    }
}

impl Options {
    /// Reads `words`; where a key is given twice, the later one counts. Relative paths start at `directory`.
    ///
    /// # Errors
    /// A word whose value its key doesn't take.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a String>, directory: &Path) -> Result<Self, WordError> {
        let mut options = Self::default();
        for word in words {
            let Some((key, value)) = word.split_once('=') else {
                options.boot_arguments.push(word.clone());
                continue;
            };
            let wrong = |want| WordError::Value { word: word.clone(), want };
            let on_or_off = || match value {
                "on" => Ok(true),
                "off" => Ok(false),
                _ => Err(wrong("on or off")),
            };
            let path = |want| if value.is_empty() { Err(wrong(want)) } else { Ok(Some(directory.join(value))) };
            match key {
                "machine" => options.machine = value.into(),
                "cpu" => options.cpu = Some(value.into()),
                "memory" => {
                    options.memory = Some(size(value).ok_or_else(|| wrong("a size in whole KiB, such as 64M or 1G"))?);
                }
                "cores" => {
                    let cores = value.parse().ok().filter(|cores| (1..=512).contains(cores));
                    options.cores = Some(cores.ok_or_else(|| wrong("a number of cores from 1 to 512"))?);
                }
                "el" => options.exception_level = Some(one_of(value, [1, 2]).ok_or_else(|| wrong("1 or 2"))?),
                "offset" => {
                    let offset = size(value).filter(|offset| offset.is_multiple_of(4096));
                    options.offset = Some(offset.ok_or_else(|| wrong("a multiple of 4K"))?);
                }
                "image" => {
                    options.elf = match value {
                        "flat" => false,
                        "elf" => true,
                        _ => return Err(wrong("flat or elf")),
                    }
                }
                "loader" if value == U_BOOT => options.loader = Some(U_BOOT.into()),
                "loader" => options.loader = path("a boot loader's file, or `u-boot`")?,
                "gic" => options.gic = Some(one_of(value, [2, 3]).ok_or_else(|| wrong("2 or 3"))?),
                "input" if value == "default" => options.input = Some(Input::Default),
                "input" => options.input = path("a file, a directory, or `default`")?.map(Input::Path),
                "out" => options.out = path("a directory")?,
                "into" => options.into = path("a directory")?,
                "dtb" => options.device_tree = path("a device tree's file")?,
                "timeout" => {
                    let seconds = value.parse().map_err(|_| wrong("whole seconds, or 0 for no timeout"))?;
                    options.timeout = Some(match seconds {
                        0 => Timeout::Never,
                        _ => Timeout::After(Duration::from_secs(seconds)),
                    });
                }
                "icount" => options.icount = on_or_off()?,
                "gdb" => options.gdb = on_or_off()?,
                "semihosting" => options.semihosting = on_or_off()?,
                "tlb" if !value.is_empty() => options.tlb = Some(value.into()),
                "tlb" => return Err(wrong("a processor, such as a72")),
                "qemu" => options.qemu.extend(value.split_whitespace().map(String::from)),
                "port" => options.port = path("a serial port's path")?,
                "baud" => {
                    let baud = value.parse().ok().filter(|baud| *baud != 0);
                    options.baud = baud.ok_or_else(|| wrong("a rate, such as 115200"))?;
                }
                "boot" => options.boot = path("the directory that the board boots from")?,
                "reset" if !value.trim().is_empty() => options.reset = Some(value.into()),
                "reset" => return Err(wrong("a command for the shell")),
                "thp" => options.boot_arguments.push(format!("transparent_hugepage={value}")),
                _ => options.boot_arguments.push(word.clone()),
            }
        }
        if options.is_serial() {
            options.semihosting = false;
        }
        Ok(options)
    }

    /// Whether the machine is a board at a serial port.
    pub fn is_serial(&self) -> bool {
        self.machine == board::SERIAL
    }

    /// How many cores the machine starts with.
    pub fn cores_at_start(&self) -> u32 {
        self.cores.unwrap_or_else(|| board::find(&self.machine).map_or(1, |board| board.cores))
    }

    /// The guest's boot arguments as one line.
    ///
    /// # Errors
    /// [`WordError::Quote`] for a word with a double quote in it.
    pub fn command_line(&self) -> Result<String, WordError> {
        // What the runner says comes first: the guest heeds the later word, which is the user's.
        let mut words = board::find(&self.machine).map_or_else(Vec::new, |board| board.boot_arguments(self));
        if self.semihosting {
            words.push("semihosting=on".into());
        }
        if let Some(out) = &self.out {
            words.push(quote(&format!("out={}", out.display()))?);
        }
        for word in &self.boot_arguments {
            words.push(quote(word)?);
        }
        Ok(words.join(" "))
    }
}

fn one_of<const N: usize>(value: &str, allowed: [u8; N]) -> Option<u8> {
    value.parse().ok().filter(|number| allowed.contains(number))
}

/// Bytes of a size with a binary suffix, if they are whole KiB and not none.
fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" | "k" | "KiB" => 10,
        "M" | "m" | "MiB" => 20,
        "G" | "g" | "GiB" => 30,
        "T" | "t" | "TiB" => 40,
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    (bytes != 0 && bytes.is_multiple_of(1024)).then_some(bytes)
}

/// `word` as the boot arguments have it: double quotes around the value, or around a word without one, keep blanks.
fn quote(word: &str) -> Result<String, WordError> {
    if word.contains('"') {
        return Err(WordError::Quote(word.into()));
    }
    if !word.is_empty() && !word.contains(char::is_whitespace) {
        return Ok(word.into());
    }
    Ok(match word.split_once('=') {
        Some((key, value)) if !key.contains(char::is_whitespace) => format!("{key}=\"{value}\""),
        _ => format!("\"{word}\""),
    })
}

/// Cuts `line` into words at blanks that are not within double quotes; the quotes go.
///
/// # Errors
/// [`WordError::Unclosed`] if the last quote has no partner.
pub fn split(line: &str) -> Result<Vec<String>, WordError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            _ if letter.is_whitespace() && !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    if quoted { Err(WordError::Unclosed(line.into())) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, WordError> {
        Options::parse(&split(line).unwrap(), Path::new("/here"))
    }

    #[test]
    fn machine_words_stay_and_others_go_on() {
        let options = parse("memory=64M cores=4 el=2 gic=3 icount=on thp=never log=debug hello timeout=5").unwrap();
        assert_eq!(options.memory, Some(64 << 20));
        assert_eq!((options.cores, options.exception_level, options.gic), (Some(4), Some(2), Some(3)));
        assert!(options.icount);
        assert_eq!(options.timeout, Some(Timeout::After(Duration::from_secs(5))));
        assert_eq!(options.command_line().unwrap(), "semihosting=on transparent_hugepage=never log=debug hello");
    }

    #[test]
    fn the_later_word_counts() {
        assert_eq!(parse("memory=1G memory=16M").unwrap().memory, Some(16 << 20));
        assert_eq!(parse("timeout=7 timeout=0").unwrap().timeout, Some(Timeout::Never));
    }

    #[test]
    fn a_board_is_used_in_part_by_boot_arguments() {
        let line = |words| parse(words).unwrap().command_line().unwrap();
        assert_eq!(line("memory=64M cores=2 semihosting=off"), "");
        assert_eq!(line("machine=raspi4b memory=960M cores=4"), "semihosting=on");
        let said = "machine=raspi4b memory=64M cores=2 maxcpus=1";
        assert_eq!(line(said), "mem=65536K maxcpus=2 semihosting=on maxcpus=1");
    }

    #[test]
    fn blanks_survive_the_way_to_the_guest() {
        let options = parse(r#"semihosting=off query="large pages" "two words" empty="" """#).unwrap();
        assert_eq!(options.boot_arguments, ["query=large pages", "two words", "empty=", ""]);
        let line = options.command_line().unwrap();
        assert_eq!(line, r#"query="large pages" "two words" empty= """#);
        assert_eq!(split(&line).unwrap(), options.boot_arguments);
    }

    #[test]
    fn paths_start_at_the_directory() {
        let options = parse("input=texts out=results into=card dtb=/a/b.dtb").unwrap();
        assert_eq!(options.input, Some(Input::Path("/here/texts".into())));
        assert_eq!(options.into, Some("/here/card".into()));
        assert_eq!(options.device_tree, Some("/a/b.dtb".into()));
        assert_eq!(options.command_line().unwrap(), "semihosting=on out=/here/results");
        assert_eq!(parse("input=default").unwrap().input, Some(Input::Default));
    }

    #[test]
    fn a_board_has_a_port_and_no_host() {
        let options = parse(r#"port=/dev/ttyUSB0 boot=card reset="plug off; plug on" a=b machine=serial"#).unwrap();
        assert_eq!((options.port, options.boot), (Some("/dev/ttyUSB0".into()), Some("/here/card".into())));
        assert_eq!((options.baud, options.reset.as_deref()), (115_200, Some("plug off; plug on")));
        assert!(!options.semihosting);
        assert_eq!(options.boot_arguments, ["a=b"]);
        assert_eq!(parse("baud=9600").unwrap().baud, 9600);
    }

    #[test]
    fn wrong_values_are_named() {
        for word in [
            "memory=1Q",
            "memory=0",
            "memory=100",
            "offset=6K",
            "cores=0",
            "el=3",
            "gic=x",
            "into=",
            "icount=yes",
            "timeout=-1",
            "port=",
            "baud=0",
            "boot=",
            "reset=",
        ] {
            let error = parse(word).unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{word}`: want ")), "{error}");
        }
        let quoted = Options { boot_arguments: vec!["a\"b".into()], ..Options::default() };
        assert_eq!(quoted.command_line(), Err(WordError::Quote("a\"b".into())));
        assert_eq!(split("a \"b c"), Err(WordError::Unclosed("a \"b c".into())));
    }

    #[test]
    fn sizes_have_binary_suffixes() {
        assert_eq!(size("2048"), Some(2048));
        assert_eq!(size("1G"), Some(1 << 30));
        assert_eq!(size("64GiB"), Some(64 << 30));
        assert_eq!(size("G"), None);
        assert_eq!(size("99999999999T"), None);
    }
}
