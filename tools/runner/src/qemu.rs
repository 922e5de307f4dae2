//! QEMU's command line for a boot.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use thiserror::Error;

use crate::board;
use crate::words::{Options, WordError};

/// The emulator's program.
pub const PROGRAM: &str = "qemu-system-aarch64";

/// From here on memory is only reserved as the guest touches it, so that a large machine fits on a small host.
const LARGE_MEMORY: u64 = 8 << 30;

/// How often the counter ticks in a second of which each instruction is a nanosecond.
const COUNTED_FREQUENCY: u32 = 1_000_000_000;

/// QEMU that can't be used.
#[derive(Debug, Error)]
pub enum QemuError {
    /// Not installed.
    #[error("{PROGRAM} is not installed: run tools/setup, which brings it")]
    Missing,
    /// Can't be started.
    #[error("{PROGRAM}: {0}")]
    Start(#[from] io::Error),
    /// Older than what the machine needs.
    #[error("{PROGRAM} is version {found}, and machine={machine} needs {wanted} or newer: run tools/setup --boards")]
    Old {
        /// What is installed.
        found: String,
        /// What would do.
        wanted: &'static str,
        /// For which machine.
        machine: String,
        /// That machine is an emulated board, not the one QEMU is made for.
        board: bool,
    },
}

/// Asks the installed QEMU for its version and compares it with what `machine` needs.
///
/// # Errors
/// [`QemuError`]; a version that can't be made out passes.
pub fn check_version(machine: &str) -> Result<(), QemuError> {
    let Some(found) = installed()? else { return Ok(()) };
    let board = board::find(machine).is_some();
    let (wanted, least) = if board { ("9.0", (9, 0)) } else { ("7.2", (7, 2)) };
    if found < least {
        return Err(QemuError::Old {
            found: format!("{}.{}", found.0, found.1),
            wanted,
            machine: machine.into(),
            board,
        });
    }
    Ok(())
}

/// The installed QEMU's version, asked for once: a test may boot often.
fn installed() -> Result<Option<(u32, u32)>, QemuError> {
    static VERSION: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    if let Some(known) = VERSION.get() {
        return Ok(*known);
    }
    let output = Command::new(PROGRAM).arg("--version").output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => QemuError::Missing,
        _ => QemuError::Start(error),
    })?;
    Ok(*VERSION.get_or_init(|| version(&String::from_utf8_lossy(&output.stdout))))
}

/// Major and minor number in `QEMU emulator version 10.0.2 (…)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_once("version ")?.1.split(['.', ' ', '-', '\n']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The arguments that boot `image` as `options` have it.
///
/// # Errors
/// A boot argument that can't be written.
pub fn arguments(options: &Options, image: &Path, initrd: Option<&Path>) -> Result<Vec<OsString>, WordError> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    let mut machine = options.machine.clone();
    if let Some(board) = board::find(&machine).and_then(|board| board.emulation.as_ref()) {
        // It is as it is, and refuses to be told how large.
        if options.icount {
            add(&["-global", &format!("{}={COUNTED_FREQUENCY}", board.counter_frequency)]);
        }
        if let Some(cores) = options.cores {
            add(&["-global", &format!("{}={cores}", board.enabled_cores)]);
        }
        add(&["-M", &machine]);
    } else {
        machine += &format!(",gic-version={}", options.gic.unwrap_or(2));
        if options.exception_level == Some(2) {
            machine += ",virtualization=on";
        }
        let frequency = if options.icount { format!(",cntfrq={COUNTED_FREQUENCY}") } else { String::new() };
        add(&["-cpu", &format!("{}{frequency}", options.cpu.as_deref().unwrap_or("cortex-a72"))]);
        let bytes = options.memory.unwrap_or(1 << 30);
        let size = format!("{}K", bytes >> 10);
        add(&["-m", &size]);
        if bytes >= LARGE_MEMORY {
            add(&["-object", &format!("memory-backend-ram,id=ram,size={size},reserve=off")]);
            machine += ",memory-backend=ram";
        }
        add(&["-M", &machine, "-smp", &options.cores.unwrap_or(1).to_string()]);
    }
    add(&["-nic", "none", "-display", "none", "-monitor", "none"]);
    // The board's second UART is the mini UART.
    if board::find(&options.machine).is_some() && options.boot_arguments.iter().any(|word| word == "console=serial1") {
        add(&["-serial", "null"]);
    }
    add(&["-serial", "stdio", "-no-reboot"]);
    if options.semihosting {
        add(&["-semihosting-config", "enable=on,target=native"]);
    }
    if options.icount {
        add(&["-icount", "shift=0,sleep=off", "-seed", "1", "-rtc", "base=2025-01-01T00:00:00,clock=vm"]);
    }
    if options.gdb {
        add(&["-S", "-s"]);
    }
    if let Some(loader) = &options.loader {
        arguments.extend(["-bios".into(), loader.into()]);
    }
    arguments.extend(["-kernel".into(), image.into()]);
    if let Some(initrd) = initrd {
        arguments.extend(["-initrd".into(), initrd.into()]);
    }
    if let Some(tree) = &options.device_tree {
        arguments.extend(["-dtb".into(), tree.into()]);
    }
    arguments.extend(["-append".into(), options.command_line()?.into()]);
    arguments.extend(options.qemu.iter().map(OsString::from));
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::split;

    fn line(words: &str, initrd: Option<&str>) -> String {
        let options = Options::parse(&split(words).unwrap(), Path::new("/here")).unwrap();
        let arguments = arguments(&options, Path::new("k.img"), initrd.map(Path::new)).unwrap();
        let words: Vec<_> = arguments.iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn the_default_machine() {
        assert_eq!(
            line("", None),
            "-cpu cortex-a72 -m 1048576K -M virt,gic-version=2 -smp 1 -nic none -display none -monitor none \
             -serial stdio -no-reboot -semihosting-config enable=on,target=native -kernel k.img \
             -append semihosting=on"
        );
    }

    #[test]
    fn every_word_has_its_argument() {
        let line = line(
            "el=2 gic=3 cores=4 cpu=max semihosting=off gdb=on dtb=t.dtb loader=u.bin qemu=\"-d int\" a=b",
            Some("i"),
        );
        for part in [
            "-cpu max ",
            "-M virt,gic-version=3,virtualization=on ",
            "-smp 4 ",
            "-S -s ",
            "-bios /here/u.bin -kernel",
            "-initrd i -dtb /here/t.dtb -append a=b -d int",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!line.contains("semihosting"));
    }

    #[test]
    fn exact_runs_and_large_memory() {
        let line = line("icount=on memory=64G", None);
        assert!(line.contains("-cpu cortex-a72,cntfrq=1000000000 "), "{line}");
        assert!(line.contains("-icount shift=0,sleep=off -seed 1 -rtc base=2025-01-01T00:00:00,clock=vm"), "{line}");
        assert!(line.contains("-m 67108864K -object memory-backend-ram,id=ram,size=67108864K,reserve=off"), "{line}");
        assert!(line.contains("-M virt,gic-version=2,memory-backend=ram"), "{line}");
    }

    #[test]
    fn a_board_keeps_its_own() {
        let all = line("machine=raspi4b el=2", None);
        assert!(all.starts_with("-M raspi4b -nic none"), "{all}");
        let part = line("machine=raspi4b memory=64M cores=2 icount=on", None);
        let globals =
            "-global cortex-a72-arm-cpu.cntfrq=1000000000 -global bcm2838.enabled-cpus=2 -M raspi4b -nic none";
        assert!(part.starts_with(globals), "{part}");
        assert!(part.ends_with("-append mem=65536K maxcpus=2 semihosting=on"), "{part}");
    }

    #[test]
    fn versions() {
        assert_eq!(version("QEMU emulator version 10.0.2 (Debian 1:10.0.2)"), Some((10, 0)));
        assert_eq!(version("QEMU emulator version 7.2\n"), Some((7, 2)));
        assert_eq!(version("something else"), None);
    }
}
