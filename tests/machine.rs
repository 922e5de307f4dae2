//! The machine as device trees describe it: QEMU's own, and one of a Raspberry Pi's shape.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::string::ToString;
use alloc::vec::Vec;
use ashlar::mm::address::PhysAddr;
use ashlar::platform::machine::{Conduit, Cpu, EnableMethod, Gic, Machine, Reason, Reserved, Uart, UartKind};
use core::ops::Range;

const VIRT: &[u8] = include_bytes!("data/virt.dtb");
const VIRT_GICV3: &[u8] = include_bytes!("data/virt-gicv3.dtb");
const VIRT_NUMA: &[u8] = include_bytes!("data/virt-numa.dtb");
const VIRT_SECURE: &[u8] = include_bytes!("data/virt-secure.dtb");
const PI4: &[u8] = include_bytes!("data/pi4.dtb");

/// Where the trees of these tests say that they lie.
const AT: PhysAddr = PhysAddr(0x4800_0000);

fn range(start: u64, end: u64) -> Range<PhysAddr> {
    PhysAddr(start)..PhysAddr(end)
}

fn parse(tree: &[u8], check: impl FnOnce(&Machine<'_>)) {
    let mut bytes = Vec::from(tree);
    match Machine::parse(&mut bytes, AT) {
        Ok(machine) => check(&machine),
        Err(error) => panic!("{error}"),
    }
}

fn virt() {
    parse(VIRT, |machine| {
        assert_eq!(machine.model, "linux,dummy-virt");
        assert_eq!(machine.bootargs, "");
        assert_eq!(machine.banks[..], [range(0x4000_0000, 0x8000_0000)]);
        assert_eq!(machine.ram(), 1 << 30);
        let tree = Reserved { range: AT..AT + VIRT.len() as u64, reason: Reason::Tree };
        assert_eq!(machine.reserved[..], [tree]);
        assert_eq!(machine.initrd, None);
        assert_eq!(
            machine.console,
            Some(Uart { kind: UartKind::Pl011, base: PhysAddr(0x900_0000), clock: Some(24_000_000) })
        );
        let (distributor, cpu_interface) = (range(0x800_0000, 0x801_0000), range(0x801_0000, 0x802_0000));
        assert_eq!(machine.gic, Some(Gic::V2 { distributor, cpu_interface }));
        assert_eq!(machine.psci, Some(Conduit::Hvc));
        assert_eq!(machine.cpus[..], [Cpu { mpidr: 0, enable: EnableMethod::Unknown }]);
        assert_eq!((machine.timer, machine.rtc), (Some(27), Some(PhysAddr(0x901_0000))));
        assert_eq!(machine.warnings.iter().count(), 0);
    });
}

/// Four cores, a GICv3, entered at EL2, so that PSCI is called by `SMC`.
fn virt_with_gicv3() {
    parse(VIRT_GICV3, |machine| {
        assert_eq!(machine.banks[..], [range(0x4000_0000, 0x1_4000_0000)]);
        let Some(Gic::V3 { distributor, redistributors }) = &machine.gic else { panic!("{:?}", machine.gic) };
        assert_eq!(*distributor, range(0x800_0000, 0x801_0000));
        assert_eq!(redistributors[..], [range(0x80a_0000, 0x900_0000)]);
        assert_eq!(machine.psci, Some(Conduit::Smc));
        let cpus: Vec<_> = (0..4).map(|mpidr| Cpu { mpidr, enable: EnableMethod::Psci }).collect();
        assert_eq!(machine.cpus[..], cpus);
        assert_eq!((machine.timer, machine.rtc), (Some(27), Some(PhysAddr(0x901_0000))));
        assert_eq!(machine.warnings.iter().count(), 0);
    });
}

/// Two memory nodes that touch become one bank.
fn virt_with_two_nodes() {
    parse(VIRT_NUMA, |machine| assert_eq!(machine.banks[..], [range(0x4000_0000, 0xc000_0000)]));
}

/// Secure RAM and the secure UART are disabled for a normal-world system.
fn virt_with_a_secure_world() {
    parse(VIRT_SECURE, |machine| {
        assert_eq!(machine.banks[..], [range(0x4000_0000, 0x4100_0000)]);
        assert_eq!(machine.console.as_ref().map(|uart| uart.base), Some(PhysAddr(0x900_0000)));
    });
}

fn pi4() {
    parse(PI4, |machine| {
        assert_eq!(machine.model, "Raspberry Pi 4 Model B");
        assert_eq!(machine.bootargs, "log=debug words=\"two words\"");
        let banks = [range(0, 0x3c00_0000), range(0x4000_0000, 0xfc00_0000), range(0x1_0000_0000, 0x1_ffff_ffff)];
        assert_eq!(machine.banks[..], banks);
        let reserved = [
            Reserved { range: range(0, 0x1000), reason: Reason::Firmware },
            Reserved { range: range(0x200_0000, 0x234_5678), reason: Reason::Initrd },
            Reserved { range: range(0x3bf0_0000, 0x3c00_0000), reason: Reason::Node { no_map: true } },
            Reserved { range: range(0x3be0_0000, 0x3be0_1000), reason: Reason::Node { no_map: false } },
            Reserved { range: range(0x3be0_2000, 0x3be0_4000), reason: Reason::Node { no_map: false } },
            Reserved { range: AT..AT + PI4.len() as u64, reason: Reason::Tree },
        ];
        assert_eq!(machine.reserved[..], reserved);
        assert_eq!(machine.initrd, Some(range(0x200_0000, 0x234_5678)));
        let free: Vec<_> = machine.free_memory().unwrap().iter().collect();
        let expected = [
            range(0x1000, 0x200_0000),
            range(0x234_6000, 0x3be0_0000),
            range(0x3be0_1000, 0x3be0_2000),
            range(0x3be0_4000, 0x3bf0_0000),
            range(0x4000_0000, 0x4800_0000),
            range(0x4800_1000, 0xfc00_0000),
            range(0x1_0000_0000, 0x1_ffff_f000),
        ];
        assert_eq!(free, expected);
        // stdout-path names the mini UART; uart3 comes first but is disabled.
        assert_eq!(machine.console, Some(Uart { kind: UartKind::Pl011, base: PhysAddr(0xfe20_1000), clock: None }));
        let (distributor, cpu_interface) = (range(0xff84_1000, 0xff84_2000), range(0xff84_2000, 0xff84_4000));
        assert_eq!(machine.gic, Some(Gic::V2 { distributor, cpu_interface }));
        assert_eq!(machine.psci, None);
        assert_eq!((machine.timer, machine.rtc), (Some(27), None));
        let raspberry = &machine.raspberry;
        assert_eq!(raspberry.mailbox, Some(PhysAddr(0xfe00_b880)));
        assert_eq!(raspberry.watchdog, Some(PhysAddr(0xfe10_0000)));
        assert_eq!(raspberry.pins, Some(PhysAddr(0xfe20_0000)));
        let cpu = |mpidr, release| Cpu { mpidr, enable: EnableMethod::SpinTable { release: PhysAddr(release) } };
        assert_eq!(machine.cpus[..], [cpu(0, 0xd8), cpu(1, 0xe0)]);
        let warnings: Vec<_> = machine.warnings.iter().map(|warning| warning.to_string()).collect();
        assert_eq!(warnings, ["/memory@0: bank of 0 bytes"]);
    });
}

/// The tree with other bytes in the place of some.
fn with(tree: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from(tree);
    let at = bytes.windows(old.len()).position(|window| window == old).expect("the tree has it");
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

/// Entries of `/memory@0`: two cells of address, one of size.
fn banks(entries: [[u32; 3]; 4]) -> Vec<u8> {
    entries.iter().flatten().flat_map(|cell| cell.to_be_bytes()).collect()
}

/// What the firmware fills in for each size of board: the VideoCore has 76 MiB below 1 GiB; the peripherals lie below 4 GiB.
fn boards_of_each_size() {
    let mine = banks([[0, 0, 0x3c00_0000], [0, 0x4000_0000, 0xbc00_0000], [1, 0, 0], [1, 0, 0xffff_ffff]]);
    let (low, all) = ([0, 0, 0x3b40_0000], [0, 0x4000_0000, 0xbc00_0000]);
    let (none, end) = ([0, 0, 0], PhysAddr(0x3b40_0000));
    let low_bank = PhysAddr(0)..end;
    for (gibibytes, entries, others) in [
        (1, [low, none, none, none], &[][..]),
        (2, [low, [0, 0x4000_0000, 0x4000_0000], none, none], &[range(0x4000_0000, 0x8000_0000)]),
        (4, [low, all, none, none], &[range(0x4000_0000, 0xfc00_0000)]),
        (
            8,
            [low, all, [1, 0, 0x8000_0000], [1, 0x8000_0000, 0x8000_0000]],
            &[range(0x4000_0000, 0xfc00_0000), range(0x1_0000_0000, 0x2_0000_0000)],
        ),
    ] {
        parse(&with(PI4, &mine, &banks(entries)), |machine| {
            let expected: Vec<_> = core::iter::once(low_bank.clone()).chain(others.iter().cloned()).collect();
            assert_eq!(machine.banks[..], expected, "{gibibytes} GB");
            let videocore =
                if gibibytes == 1 { 76 << 20 } else { (76 << 20) + if gibibytes == 2 { 0 } else { 64 << 20 } };
            assert_eq!(machine.ram(), (gibibytes << 30) - videocore);
        });
    }
}

/// What is at the peripherals' addresses is no RAM.
fn ram_ends_where_the_peripherals_begin() {
    let mine = banks([[0, 0, 0x3c00_0000], [0, 0x4000_0000, 0xbc00_0000], [1, 0, 0], [1, 0, 0xffff_ffff]]);
    let wrong = banks([[0, 0, 0x3b40_0000], [0, 0x4000_0000, 0xffff_f000], [0, 0, 0], [0, 0, 0]]);
    parse(&with(PI4, &mine, &wrong), |machine| {
        let expected = [range(0, 0x3b40_0000), range(0x4000_0000, 0xfc00_0000), range(0x1_0000_0000, 0x1_3fff_f000)];
        assert_eq!(machine.banks[..], expected);
        let warnings: Vec<_> = machine.warnings.iter().map(|warning| warning.to_string()).collect();
        let warning = "RAM from 0xfc000000, 0x4000000 bytes, is not used: a bus has its devices there";
        assert!(warnings.iter().any(|found| found == warning), "{warnings:?}");
    });
}

/// A second mailbox is somebody else's.
fn the_first_device_of_a_kind_counts() {
    parse(&with(PI4, b"brcm,bcm2711-gpio\0", b"brcm,bcm2835-mbox\0"), |machine| {
        assert_eq!((machine.raspberry.mailbox, machine.raspberry.pins), (Some(PhysAddr(0xfe00_b880)), None));
    });
}

/// The mini UART is the console only where `console=` says so.
fn the_console_is_named_by_a_boot_argument() {
    const BOOTARGS: &[u8] = b"log=debug words=\"two words\"\0";
    let mini = Some(Uart { kind: UartKind::Mini, base: PhysAddr(0xfe21_5040), clock: None });
    let pl011 = Some(Uart { kind: UartKind::Pl011, base: PhysAddr(0xfe20_1000), clock: None });
    for (argument, console, warning) in [
        (&b"console=serial1\0"[..], &mini, None),
        (b"console=/soc/serial@7e215040\0", &mini, None),
        (b"console=/soc/serial\0", &pl011, None),
        (b"console=serial0\0", &pl011, None),
        (b"console=ttyS0\0", &mini, None),
        (b"console=ttyS1,115200\0", &mini, None),
        (b"console=ttyAMA0\0", &pl011, None),
        (b"console=serial1,115200n8\0", &mini, None),
        (b"console=ttyUSB0\0", &pl011, Some("/ttyUSB0")),
        (b"console=serial7\0", &pl011, Some("/serial7")),
        (b"console=/soc/gpio@7e200000\0", &pl011, Some("/soc/gpio@7e200000")),
        (b"console=\0", &pl011, None),
    ] {
        let mut tree = with(PI4, BOOTARGS, &alloc::vec![b' '; BOOTARGS.len() - 1]);
        let at = tree.windows(BOOTARGS.len() - 1).position(|window| window.iter().all(|&byte| byte == b' '));
        let at = at.expect("just written");
        tree[at..at + argument.len()].copy_from_slice(argument);
        parse(&tree, |machine| {
            assert_eq!(&machine.console, console, "{argument:?}");
            let warnings: Vec<_> = machine.warnings.iter().map(|warning| warning.to_string()).collect();
            let found = warnings.iter().find(|warning| warning.starts_with("console="));
            let expected =
                warning.map(|node| alloc::format!("console= names {node}, which is no UART that is known; ignored"));
            assert_eq!(found, expected.as_ref());
        });
    }
}

/// What is in use counts, wherever it lies; the rest is the lowest RAM there is.
fn a_limit_keeps_what_is_in_use() {
    let image = range(0x8_0000, 0x18_0000);
    parse(PI4, |machine| {
        let within = |limit, image| -> Vec<_> { machine.ram_within(limit, image).unwrap().iter().collect() };
        let (initrd, tree) = (range(0x200_0000, 0x234_6000), range(0x4800_0000, 0x4800_1000));
        let used = 0x34_6000 + 0x1000;
        // The image lies among the lowest, as do the words that cores wait at.
        assert_eq!(within((16 << 20) + used, image.clone()), [range(0, 16 << 20), initrd.clone(), tree.clone()]);
        assert_eq!(within((48 << 20) + 0x1000, image.clone()), [range(0, 48 << 20), tree.clone()]);
        assert_eq!(within((48 << 20) + 0x1fff, image.clone()), [range(0, 48 << 20), tree.clone()], "whole frames");
        // All of the first bank, and some of the second.
        let more = within(0x3c00_0000 + 0x10_0000, image.clone());
        assert_eq!(more, [range(0, 0x3c00_0000), range(0x4000_0000, 0x400f_f000), tree.clone()]);
        // An image that lies high stays; what no limit has room for stays as well, alone.
        let high = range(0x5000_0000, 0x5010_0000);
        let with = [range(0, 1 << 20), initrd.clone(), tree.clone(), high.clone()];
        assert_eq!(within((2 << 20) + used, high.clone()), with);
        assert_eq!(within(4096, high.clone()), [range(0, 0x1000), initrd, tree, high]);
        // A limit that is none.
        let all: Vec<_> = machine.banks.iter().map(|bank| bank.start..PhysAddr(bank.end.0 & !0xfff)).collect();
        assert_eq!(within(u64::MAX, image.clone()), all);
        assert_eq!(within(machine.ram() & !0xfff, image.clone()), all);
    });
    parse(VIRT, |machine| {
        let image = range(0x4020_0000, 0x4030_0000);
        let within = machine.ram_within(64 << 20, image).unwrap();
        let tree = range(AT.0, AT.0 + (VIRT.len() as u64).next_multiple_of(4096));
        assert_eq!(within.total(), 64 << 20);
        assert_eq!(within.iter().last(), Some(tree));
    });
}

ashlar_test::tests! {
    virt,
    virt_with_gicv3,
    virt_with_two_nodes,
    virt_with_a_secure_world,
    pi4,
    boards_of_each_size,
    ram_ends_where_the_peripherals_begin,
    the_first_device_of_a_kind_counts,
    the_console_is_named_by_a_boot_argument,
    a_limit_keeps_what_is_in_use,
}
