//! Boards: machines that are as they are, so that words for the machine ask for what a board has, or for nothing.
#![forbid(unsafe_code)]

use thiserror::Error;

use crate::words::Options;

/// The name of a board that is not emulated: a Raspberry Pi 4 at a serial port.
pub const SERIAL: &str = "serial";

/// A board.
#[derive(Debug, PartialEq, Eq)]
pub struct Board {
    /// `machine=`: QEMU's name, or [`SERIAL`].
    pub machine: &'static str,
    /// RAM that the guest is told of, in bytes.
    pub memory: u64,
    /// Cores.
    pub cores: u32,
    /// QEMU's name of the processor.
    cpu: &'static str,
    /// What emulating it takes.
    pub emulation: Option<Emulation>,
}

/// What is to be known of a board that QEMU emulates.
#[derive(Debug, PartialEq, Eq)]
pub struct Emulation {
    /// QEMU's property for how many cores are switched on at the start. Those that are not would spin, each in a thread
    /// of QEMU's, or take their share of counted instructions.
    pub enabled_cores: &'static str,
    /// QEMU's property for how often the counter ticks in a second.
    pub counter_frequency: &'static str,
    /// Its device tree, which QEMU lacks, in `boards` of the target directory.
    pub tree: &'static str,
}

const BOARDS: [Board; 2] = [
    Board {
        machine: "raspi4b",
        // QEMU writes no more than the first bank into the tree, whatever the board has.
        memory: 960 << 20,
        cores: 4,
        cpu: "cortex-a72",
        emulation: Some(Emulation {
            enabled_cores: "bcm2838.enabled-cpus",
            counter_frequency: "cortex-a72-arm-cpu.cntfrq",
            tree: "bcm2711-rpi-4-b.dtb",
        }),
    },
    Board {
        machine: SERIAL,
        // What the smallest one leaves beside its graphics processor: nobody asks how large this one is.
        memory: 944 << 20,
        cores: 4,
        cpu: "cortex-a72",
        emulation: None,
    },
];

/// What a board is asked for and hasn't got.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Lack {
    /// More RAM.
    #[error("machine={0} has {1} MiB of RAM")]
    Memory(&'static str, u64),
    /// More cores.
    #[error("machine={0} has {1} cores")]
    Cores(&'static str, u32),
    /// Another processor.
    #[error("machine={0} has the processor {1}")]
    Cpu(&'static str, &'static str),
    /// Another entry than at EL2.
    #[error("machine={0} enters the image at EL2")]
    ExceptionLevel(&'static str),
    /// Another interrupt controller.
    #[error("machine={0} has an interrupt controller of version 2")]
    Gic(&'static str),
    /// An argument of QEMU's that makes the machine another one.
    #[error("machine={0} takes no {1}")]
    Argument(&'static str, String),
    /// What only an emulator can do, or its host.
    #[error("machine={0} takes no {1}=: {2}")]
    Word(&'static str, &'static str, &'static str),
}

/// The board of that name; `None` for a machine that is as one asks for.
pub fn find(machine: &str) -> Option<&'static Board> {
    BOARDS.iter().find(|board| board.machine == machine)
}

impl Board {
    /// Checks that the board has what `options` ask for.
    ///
    /// # Errors
    /// The first [`Lack`].
    pub fn check(&self, options: &Options) -> Result<(), Lack> {
        let Board { machine, memory, cores, cpu, .. } = *self;
        let emulated = [
            ("dtb", options.device_tree.is_some(), "its firmware hands over its own device tree"),
            ("offset", options.offset.is_some(), "its firmware puts the image where it does"),
            ("image", options.elf, "its firmware takes the flat image"),
            ("loader", options.loader.is_some(), "its firmware starts what is in its directory"),
            ("icount", options.icount, "it is no emulator"),
            ("gdb", options.gdb, "it is no emulator"),
            ("qemu", !options.qemu.is_empty(), "it is no emulator"),
            ("tlb", options.tlb.is_some(), "it is no emulator"),
            ("out", options.out.is_some(), "it has no host to call"),
        ];
        if let (None, Some((word, _, why))) = (&self.emulation, emulated.iter().find(|(_, wanted, _)| *wanted)) {
            return Err(Lack::Word(machine, word, why));
        }
        if options.memory.is_some_and(|wanted| wanted > memory) {
            return Err(Lack::Memory(machine, memory >> 20));
        }
        if options.cores.is_some_and(|wanted| wanted > cores) {
            return Err(Lack::Cores(machine, cores));
        }
        if options.cpu.as_ref().is_some_and(|wanted| wanted != cpu) {
            return Err(Lack::Cpu(machine, cpu));
        }
        if options.exception_level == Some(1) {
            return Err(Lack::ExceptionLevel(machine));
        }
        if options.gic == Some(3) {
            return Err(Lack::Gic(machine));
        }
        let following = options.qemu.iter().skip(1).map(Some).chain([None]);
        for (word, value) in options.qemu.iter().zip(following) {
            let refused = match word.trim_start_matches('-') {
                "M" | "machine" | "m" | "smp" | "cpu" => true,
                // Nothing can be plugged into it but what goes to its USB; the loader is no device at all.
                "device" => !value.is_some_and(|value| value.starts_with("usb-") || value.starts_with("loader")),
                _ => false,
            };
            if refused && word.starts_with('-') {
                let argument = value.map_or_else(|| word.clone(), |value| format!("{word} {value}"));
                return Err(Lack::Argument(machine, argument));
            }
        }
        Ok(())
    }

    /// Boot arguments by which the guest keeps to a part of the board, as other machines are built with less.
    pub fn boot_arguments(&self, options: &Options) -> Vec<String> {
        let memory = options.memory.filter(|memory| *memory < self.memory);
        let cores = options.cores.filter(|cores| *cores < self.cores);
        let memory = memory.map(|bytes| format!("mem={}K", bytes >> 10));
        memory.into_iter().chain(cores.map(|cores| format!("maxcpus={cores}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::split;
    use std::path::Path;

    fn lack(words: &str) -> Option<String> {
        lack_of("raspi4b", words)
    }

    fn lack_of(machine: &str, words: &str) -> Option<String> {
        let options = Options::parse(&split(words).unwrap(), Path::new("/here")).unwrap();
        find(machine).unwrap().check(&options).err().map(|lack| lack.to_string())
    }

    #[test]
    fn hardware_is_no_emulator() {
        for words in
            ["", "memory=64M cores=2 el=2 gic=2 cpu=cortex-a72 semihosting=off", "gdb=off icount=off image=flat"]
        {
            assert_eq!(lack_of(SERIAL, words), None, "{words}");
        }
        for (word, why) in [
            ("dtb=t.dtb", "takes no dtb=: its firmware hands over its own device tree"),
            ("offset=4K", "takes no offset=: its firmware puts the image where it does"),
            ("image=elf", "takes no image=: its firmware takes the flat image"),
            ("loader=u-boot", "takes no loader=: its firmware starts what is in its directory"),
            ("icount=on", "takes no icount=: it is no emulator"),
            ("gdb=on", "takes no gdb=: it is no emulator"),
            ("qemu=-s", "takes no qemu=: it is no emulator"),
            ("tlb=a72", "takes no tlb=: it is no emulator"),
            ("out=target", "takes no out=: it has no host to call"),
            ("cores=8", "has 4 cores"),
            ("el=1", "enters the image at EL2"),
        ] {
            assert_eq!(lack_of(SERIAL, word), Some(format!("machine=serial {why}")));
        }
    }

    #[test]
    fn what_a_board_has_can_be_asked_for() {
        assert_eq!(find("virt"), None);
        for words in ["", "memory=960M cores=4 el=2 gic=2 cpu=cortex-a72", "memory=16M cores=1 icount=on offset=4K"] {
            assert_eq!(lack(words), None, "{words}");
        }
        for words in
            [r#"qemu="-initrd file -serial null""#, r#"qemu="-device loader,file=x""#, r#"qemu="-device usb-kbd""#]
        {
            assert_eq!(lack(words), None, "{words}");
        }
    }

    #[test]
    fn what_it_lacks_is_named() {
        for (words, why) in [
            ("memory=961M", "has 960 MiB of RAM"),
            ("cores=5", "has 4 cores"),
            ("cpu=max", "has the processor cortex-a72"),
            ("el=1", "enters the image at EL2"),
            ("gic=3", "has an interrupt controller of version 2"),
            (r#"qemu="-d int -smp 2""#, "takes no -smp 2"),
            (r#"qemu="-device virtio-rng-pci""#, "takes no -device virtio-rng-pci"),
            (r#"qemu="-device""#, "takes no -device"),
        ] {
            assert_eq!(lack(words), Some(format!("machine=raspi4b {why}")), "{words}");
        }
    }
}
