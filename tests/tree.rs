//! Broken device trees: each is refused with an error that says what and where, and none makes the reader panic.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod common;

use alloc::string::ToString;
use alloc::vec::Vec;
use ashlar::mm::address::PhysAddr;
use ashlar::platform::machine::{Cpu, EnableMethod, Machine, MachineError, Warning};
use ashlar::platform::tree::{self, Fault, HEADER_SIZE, MAX_DEPTH, MAX_SIZE, Part, TreeError};
use common::Random;
use core::fmt::Write;

const VIRT: &[u8] = include_bytes!("data/virt.dtb");
const VIRT_GICV3: &[u8] = include_bytes!("data/virt-gicv3.dtb");
const PI4: &[u8] = include_bytes!("data/pi4.dtb");

const AT: PhysAddr = PhysAddr(0x4800_0000);

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// Words of the header, by the names of the Devicetree Specification (5.2).
#[derive(Clone, Copy)]
enum Field {
    Magic,
    TotalSize,
    Structure,
    Strings,
    Reservations,
    Version,
    LastCompatible,
    StringsSize = 8,
    StructureSize,
}

fn get(tree: &[u8], field: Field) -> u32 {
    u32::from_be_bytes(*tree[field as usize * 4..].first_chunk().unwrap())
}

fn set(tree: &mut [u8], field: Field, value: u32) {
    tree[field as usize * 4..][..4].copy_from_slice(&value.to_be_bytes());
}

fn open(tree: &[u8]) -> Result<usize, TreeError> {
    tree::open(&mut Vec::from(tree)).map(|tree| tree.used)
}

/// Builds trees token by token, malformed ones too.
#[derive(Default)]
struct Builder {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Builder {
    fn word(mut self, word: u32) -> Self {
        self.structure.extend(word.to_be_bytes());
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.structure.extend(bytes);
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
        self
    }

    fn begin(self, name: &str) -> Self {
        self.word(BEGIN_NODE).bytes(name.as_bytes()).pad(name)
    }

    /// The terminator, where the padding did not bring it.
    fn pad(self, name: &str) -> Self {
        if name.len().is_multiple_of(4) { self.word(0) } else { self }
    }

    fn end(self) -> Self {
        self.word(END_NODE)
    }

    fn property(mut self, name: &str, value: &[u8]) -> Self {
        let offset = self.strings.len() as u32;
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        self.word(PROPERTY).word(value.len() as u32).word(offset).bytes(value)
    }

    fn cells(self, name: &str, cells: &[u32]) -> Self {
        let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.property(name, &value)
    }

    /// A root with two address cells and one size cell.
    fn root() -> Self {
        Self::default().begin("").cells("#address-cells", &[2]).cells("#size-cells", &[1])
    }

    fn memory(self, reg: &[u32]) -> Self {
        self.begin("memory@0").property("device_type", b"memory\0").cells("reg", reg).end()
    }

    /// The tree as it is, with nothing added to its structure block.
    fn raw(self) -> Vec<u8> {
        let structure = HEADER_SIZE + 16 + 8;
        let strings = structure + self.structure.len();
        let mut tree = alloc::vec![0; structure];
        tree.extend(&self.structure);
        tree.extend(&self.strings);
        let size = tree.len() as u32;
        set(&mut tree, Field::Magic, 0xd00d_feed);
        set(&mut tree, Field::TotalSize, size);
        set(&mut tree, Field::Structure, structure as u32);
        set(&mut tree, Field::Strings, strings as u32);
        set(&mut tree, Field::Reservations, 48);
        set(&mut tree, Field::Version, 17);
        set(&mut tree, Field::LastCompatible, 16);
        set(&mut tree, Field::StringsSize, self.strings.len() as u32);
        set(&mut tree, Field::StructureSize, self.structure.len() as u32);
        tree
    }

    /// The tree, its root closed.
    fn tree(self) -> Vec<u8> {
        self.end().word(END).raw()
    }
}

fn fault(tree: &[u8]) -> (Fault, alloc::string::String) {
    match open(tree) {
        Err(TreeError::Structure { fault, node, .. }) => (fault, node.to_string()),
        other => panic!("{other:?}"),
    }
}

fn machine_error(tree: &[u8]) -> MachineError {
    Machine::parse(&mut Vec::from(tree), AT).map(|machine| machine.banks).unwrap_err()
}

fn good_trees_are_good() {
    for tree in [VIRT, VIRT_GICV3, PI4] {
        assert_eq!(open(tree), Ok(tree.len()));
    }
    let built = Builder::root().memory(&[0, 0, 0x1000]).tree();
    assert_eq!(open(&built), Ok(built.len()));
    // What follows the last part holds nothing, although the header counts it.
    let mut padded = Vec::from(VIRT);
    let length = VIRT.len() + 4096;
    padded.resize(length, 0);
    set(&mut padded, Field::TotalSize, length as u32);
    assert_eq!(open(&padded), Ok(VIRT.len()));
    // Padding may count more than a tree may have; then not all of it need be there.
    padded.resize(MAX_SIZE, 0);
    set(&mut padded, Field::TotalSize, MAX_SIZE as u32 + 1);
    assert_eq!(open(&padded), Ok(VIRT.len()));
}

fn absent_and_alien() {
    assert_eq!(open(&[]), Err(TreeError::Truncated { needed: HEADER_SIZE, available: 0 }));
    assert_eq!(open(&[0; 64]), Err(TreeError::Absent));
    assert_eq!(open(b"ANDROID!").unwrap_err(), TreeError::Magic(0x414e_4452));
    let error = open(b"ANDROID!").unwrap_err().to_string();
    assert_eq!(error, "device tree: magic number is 0x414e4452 instead of 0xd00dfeed");
    // SAFETY: a null pointer is not read.
    let absent = unsafe { ashlar::platform::tree_at(core::ptr::null_mut(), 4096) };
    assert_eq!(absent.unwrap_err(), TreeError::Absent);
    let mut tree = Vec::from(VIRT);
    let (start, length) = (tree.as_mut_ptr(), tree.len());
    // SAFETY: `tree` is that long, and not used while the slice made from it is.
    let at = |mapped| unsafe { ashlar::platform::tree_at(start, mapped) }.map(|bytes| bytes.len());
    assert_eq!(at(length), Ok(length));
    assert_eq!(at(length - 1), Err(TreeError::Truncated { needed: length, available: length - 1 }));
}

fn bad_header() {
    let with = |field, value| {
        let mut tree = Vec::from(VIRT);
        set(&mut tree, field, value);
        open(&tree).unwrap_err()
    };
    let length = VIRT.len();
    assert_eq!(with(Field::TotalSize, 39), TreeError::Size(39));
    let truncated = TreeError::Truncated { needed: MAX_SIZE, available: length };
    assert_eq!(with(Field::TotalSize, MAX_SIZE as u32), truncated);
    assert_eq!(with(Field::TotalSize, u32::MAX), truncated);
    assert_eq!(with(Field::Version, 16), TreeError::Version { version: 16, compatible: 16 });
    assert_eq!(with(Field::LastCompatible, 18), TreeError::Version { version: 17, compatible: 18 });
    for (field, part) in [
        (Field::Structure, Part::Structure),
        (Field::StructureSize, Part::Structure),
        (Field::Strings, Part::Strings),
        (Field::StringsSize, Part::Strings),
        (Field::Reservations, Part::Reservations),
    ] {
        for value in [length as u32 + 8, 0xffff_fff8] {
            match with(field, value) {
                TreeError::OutOfBounds { part: named, .. } => assert_eq!(named, part),
                other => panic!("{other}"),
            }
        }
    }
    let offset = get(VIRT, Field::Structure) as usize + 2;
    assert_eq!(with(Field::Structure, offset as u32), TreeError::Misaligned { part: Part::Structure, offset });
    assert_eq!(with(Field::Reservations, 44), TreeError::Misaligned { part: Part::Reservations, offset: 44 });
    assert_eq!(with(Field::Strings, 8), TreeError::Overlap(Part::Header, Part::Strings));
    assert_eq!(with(Field::Strings, 0x100), TreeError::Overlap(Part::Structure, Part::Strings));
}

fn reservations_without_end() {
    let mut tree = Builder::root().tree();
    set(&mut tree, Field::Reservations, 40);
    tree[40..56].fill(0xff);
    tree[56..].iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = 1);
    assert_eq!(open(&tree), Err(TreeError::Reservations { offset: 40 }));
}

fn bad_tokens() {
    let in_node = || Builder::root().begin("bus").begin("device");
    assert_eq!(fault(&in_node().word(7).raw()), (Fault::Token(7), "/bus/device".to_string()));
    assert_eq!(fault(&in_node().raw()), (Fault::Cut, "/bus/device".to_string()));
    assert_eq!(fault(&in_node().end().end().word(END).raw()), (Fault::Unclosed, "/".to_string()));
    assert_eq!(fault(&Builder::default().word(END).raw()).0, Fault::Unclosed);
    assert_eq!(fault(&Builder::root().end().end().word(END).raw()).0, Fault::StrayEnd);
    assert_eq!(fault(&Builder::root().end().begin("").end().word(END).raw()).0, Fault::SecondRoot);
    assert_eq!(fault(&Builder::default().begin("root").tree()).0, Fault::NamedRoot);
    assert_eq!(fault(&Builder::default().cells("a", &[1]).tree()).0, Fault::StrayProperty);
    let late = Builder::root().begin("bus").begin("device").end().cells("a", &[1]).end().tree();
    assert_eq!(fault(&late), (Fault::LateProperty, "/bus".to_string()));
    assert_eq!(fault(&Builder::root().word(BEGIN_NODE).raw()).0, Fault::NodeName);
    assert_eq!(fault(&Builder::root().begin("a b").end().tree()).0, Fault::NameByte(b' '));
    assert_eq!(fault(&Builder::root().cells("a\u{7f}", &[]).tree()).0, Fault::NameByte(0x7f));
}

fn bad_properties() {
    let long = Builder::root().word(PROPERTY).word(1000).word(0).raw();
    assert_eq!(fault(&long).0, Fault::PropertyLength(1000));
    let huge = Builder::root().word(PROPERTY).word(u32::MAX).word(0).raw();
    assert_eq!(fault(&huge).0, Fault::PropertyLength(u32::MAX));
    for name in [1000, u32::MAX] {
        let nameless = Builder::root().word(PROPERTY).word(0).word(name).tree();
        assert_eq!(fault(&nameless).0, Fault::PropertyName(name));
    }
    let mut unterminated = Builder::root().cells("last", &[1]).tree();
    let shorter = get(&unterminated, Field::StringsSize) - 1;
    set(&mut unterminated, Field::StringsSize, shorter);
    assert!(matches!(fault(&unterminated).0, Fault::PropertyName(_)));
    let narrow = Builder::root().begin("bus").property("#size-cells", &[0, 1]).end().tree();
    assert_eq!(fault(&narrow), (Fault::CellCount(2), "/bus".to_string()));
    let error = open(&narrow).unwrap_err().to_string();
    assert_eq!(error, "device tree: cell count of 2 bytes instead of 4 at 0x70 in /bus");
}

fn too_deep() {
    let nested = |depth: usize| {
        let tree = (1..depth).fold(Builder::root(), |tree, _| tree.begin("n"));
        (1..depth).fold(tree, |tree, _| tree.end()).tree()
    };
    assert!(open(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(fault(&nested(MAX_DEPTH + 1)).0, Fault::Depth);
}

fn long_paths_are_cut() {
    let name = "n".repeat(30);
    let tree = (0..5).fold(Builder::root(), |tree, _| tree.begin(&name)).word(7).raw();
    let (_, node) = fault(&tree);
    assert_eq!(node, alloc::format!("/{name}/{name}…"));
}

/// QEMU overwrites nodes that it removes with `FDT_NOP`; the `fdt` crate sees nothing behind such a gap.
fn nops_hide_nothing() {
    let tree = Builder::default()
        .word(NOP)
        .begin("")
        .word(NOP)
        .cells("#address-cells", &[2])
        .word(NOP)
        .cells("#size-cells", &[1])
        .begin("first")
        .word(NOP)
        .end()
        .word(NOP)
        .word(NOP)
        .memory(&[0, 0x4000_0000, 0x1000])
        .word(NOP)
        .memory(&[0, 0x5000_0000, 0x1000])
        .word(NOP)
        .end()
        .word(NOP)
        .word(END)
        .raw();
    let mut bytes = tree.clone();
    let machine = Machine::parse(&mut bytes, AT).unwrap();
    let starts: Vec<_> = machine.banks.iter().map(|bank| bank.start.0).collect();
    assert_eq!(starts, [0x4000_0000, 0x5000_0000]);
}

fn bad_machines() {
    let one = |reg: &[u32]| machine_error(&Builder::root().memory(reg).tree());
    assert_eq!(machine_error(&Builder::root().tree()), MachineError::NoMemory);
    assert_eq!(one(&[0, 0, 0]), MachineError::NoMemory);
    assert_eq!(
        one(&[0, 0, 0x1000, 1]).to_string(),
        "device tree: /memory@0: reg of 16 bytes is not a whole number of entries"
    );
    assert!(matches!(one(&[]), MachineError::Reg { length: 0, .. }));
    assert_eq!(
        one(&[0xffff_ffff, 0xffff_f000, 0x2000]).to_string(),
        "device tree: /memory@0: 0x2000 bytes from 0xfffffffffffff000 reach past the last address"
    );
    let three = Builder::default().begin("").cells("#address-cells", &[3]).memory(&[0, 0, 0, 0x1000]).tree();
    assert!(matches!(machine_error(&three), MachineError::Cells { address: 3, size: 1, .. }));
    let bus = Builder::root().begin("bus").cells("ranges", &[0, 0, 0, 0, 0x1000]);
    let outside = bus.memory(&[0, 0x2000, 0x1000]).end().tree();
    assert_eq!(
        machine_error(&outside).to_string(),
        "device tree: /bus/memory@0: no ranges of its parents cover 0x2000"
    );
    let bus = Builder::root().begin("bus").cells("ranges", &[0, 0, 0]).memory(&[0, 0, 0x1000]).end().tree();
    assert!(matches!(machine_error(&bus), MachineError::Ranges { length: 12, .. }));
    let many: Vec<u32> = (0..100).flat_map(|index| [0, index * 0x1000, 0x1000]).collect();
    let reserved = Builder::root().memory(&[0, 0, 0x1000_0000]).begin("reserved-memory");
    let reserved = reserved.property("ranges", &[]).begin("all").cells("reg", &many).end().end().tree();
    assert!(matches!(machine_error(&reserved), MachineError::TooManyReserved { .. }));
}

/// What is said of `machine`, less that its tree has no timer, as most trees here.
fn warnings(machine: &Machine<'_>) -> Vec<Warning> {
    machine.warnings.iter().copied().filter(|warning| *warning != Warning::NoTimer).collect()
}

/// Banks in any order, touching, overlapping, empty, too many or out of reach.
fn odd_banks() {
    let banks = |reg: &[u32]| {
        let mut tree = Builder::root().memory(reg).tree();
        let machine = Machine::parse(&mut tree, AT).unwrap();
        let banks: Vec<_> = machine.banks.iter().map(|bank| (bank.start.0, bank.end.0)).collect();
        (banks, warnings(&machine))
    };
    let (found, warnings) = banks(&[0, 0x3000, 0x1000, 0, 0x1000, 0x1000, 0, 0x2000, 0x1000, 0, 0x8000, 0x1000]);
    assert_eq!(found, [(0x1000, 0x4000), (0x8000, 0x9000)]);
    assert_eq!(warnings, []);
    let (found, warnings) = banks(&[0, 0x1000, 0x3000, 0, 0x2000, 0x1000, 0, 0x3000, 0x4000]);
    assert_eq!(found, [(0x1000, 0x7000)]);
    let overlap = |start| Warning::OverlappingBanks { start: PhysAddr(start), size: 0x1000 };
    assert_eq!(warnings, [overlap(0x2000), overlap(0x3000)]);
    let (found, warnings) = banks(&[0x5f, 0xffff_f000, 0x3000, 0x80, 0, 0x1000]);
    assert_eq!(found, [(0x5f_ffff_f000, 0x60_0000_0000)]);
    let warnings: Vec<_> = warnings.iter().map(|warning| warning.to_string()).collect();
    assert_eq!(
        warnings,
        [
            "/memory@0: RAM from 0x6000000000, 0x2000 bytes, is ignored: past 0x6000000000",
            "/memory@0: RAM from 0x8000000000, 0x1000 bytes, is ignored: past 0x6000000000"
        ]
    );
    let many: Vec<u32> = (0..100).flat_map(|index| [0, index * 0x2000, 0x1000]).collect();
    let (found, warnings) = banks(&many);
    assert_eq!((found.len(), warnings.len()), (32, 1));
}

/// An initrd that makes no sense is left out, and not reserved.
fn odd_initrds() {
    for (start, end) in [(0x1000, 0x1000), (0x2000, 0x1000), (0xf000, 0x1_1000), (0x9000_0000, 0x9000_1000)] {
        let chosen = Builder::root().memory(&[0, 0, 0x1_0000]).begin("chosen");
        let chosen = chosen.cells("linux,initrd-start", &[start]).cells("linux,initrd-end", &[0, end]);
        let mut tree = chosen.end().tree();
        let machine = Machine::parse(&mut tree, AT).unwrap();
        assert_eq!((machine.initrd.clone(), machine.reserved.len()), (None, 1));
        assert_eq!(warnings(&machine), [Warning::Initrd]);
    }
    let chosen = Builder::root().memory(&[0, 0, 0x1_0000]).begin("chosen");
    let mut half = chosen.cells("linux,initrd-start", &[0x1000]).end().tree();
    assert_eq!(warnings(&Machine::parse(&mut half, AT).unwrap()), [Warning::Initrd]);
}

/// Parses `tree` and returns what `check` makes of the machine, and all its warnings as text.
fn parsed<T>(tree: Builder, check: impl Fn(&Machine<'_>) -> T) -> (T, Vec<alloc::string::String>) {
    let mut tree = tree.memory(&[0, 0, 0x1_0000]).tree();
    let machine = Machine::parse(&mut tree, AT).unwrap();
    (check(&machine), machine.warnings.iter().map(|warning| warning.to_string()).collect())
}

/// The virtual timer's is the third interrupt, or the one of that name; it is a PPI.
fn odd_timers() {
    let gic = |cells: &[u32]| {
        let gic = Builder::root().begin("gic").property("compatible", b"arm,gic-400\0");
        gic.cells("#interrupt-cells", cells).cells("reg", &[0, 0x1000, 0x1000, 0, 0x2000, 0x2000]).end()
    };
    let timer = |gic: Builder, interrupts: &[u32], names: &[u8]| {
        let timer = gic.begin("timer").property("compatible", b"vendor,timer\0arm,armv7-timer\0");
        let timer = timer.cells("interrupts", interrupts);
        let timer = if names.is_empty() { timer } else { timer.property("interrupt-names", names) };
        parsed(timer.end(), |machine| machine.timer)
    };
    let three = [1, 13, 8, 1, 14, 8, 1, 11, 8];
    let found = |ppi| (Some(ppi), Vec::new());
    assert_eq!(timer(gic(&[3]), &three, b""), found(27));
    assert_eq!(timer(gic(&[4]), &[1, 13, 8, 0, 1, 14, 8, 0, 1, 15, 8, 0], b""), found(31));
    assert_eq!(timer(gic(&[3]), &three, b"virt\0phys\0"), found(29));
    let unclear = (None, alloc::vec!["/timer: interrupts do not tell the virtual timer's PPI; ignored".to_string()]);
    for (cells, interrupts, names) in [
        (3, &three[..6], &b""[..]),
        (3, &three[..8], b""),
        (3, &[], b""),
        (3, &three, b"phys\0hyp\0"),
        (3, &[1, 13, 8, 1, 14, 8, 0, 11, 8], b""),
        (3, &[1, 13, 8, 1, 14, 8, 1, 16, 8], b""),
        (0, &three, b""),
        (u32::MAX, &three, b""),
    ] {
        assert_eq!(timer(gic(&[cells]), interrupts, names), unclear, "{cells} cells, {interrupts:?}");
    }
    assert_eq!(timer(gic(&[]), &three, b""), unclear);
    assert_eq!(timer(Builder::root(), &three, b""), unclear, "without a controller");
    let none = parsed(Builder::root(), |machine| machine.timer);
    assert_eq!(none, (None, alloc::vec!["no node is an arm,armv8-timer".to_string()]));
}

/// Each core once, by an affinity, with a way to start it that is known.
fn odd_cores() {
    let cpu = |tree: Builder, reg: u32, method: &[u8], release: &[u32]| {
        let cpu = tree.begin(&alloc::format!("cpu@{reg:x}")).property("device_type", b"cpu\0").cells("reg", &[reg]);
        cpu.property("enable-method", method).cells("cpu-release-addr", release).end()
    };
    let cpus = Builder::root().begin("cpus").cells("#address-cells", &[1]).cells("#size-cells", &[0]);
    let cpus = cpu(cpus, 0, b"psci\0", &[]);
    let cpus = cpu(cpus, 1, b"spin-table\0", &[0xe0]);
    let cpus = cpu(cpus, 0x102, b"spin-table\0", &[1, 0xe8]);
    let cpus = cpu(cpus, 1, b"psci\0", &[]);
    let cpus = cpu(cpus, 0x8000_0003, b"psci\0", &[]);
    let cpus = cpu(cpus, 4, b"spin-table\0", &[]);
    let cpus = cpu(cpus, 5, b"spin-table\0", &[0, 0xe4]);
    let cpus = cpu(cpus, 6, b"magic\0", &[0, 0xe8]);
    let (cpus, mut warnings) = parsed(cpus.end(), |machine| machine.cpus.clone());
    let spins = |release| EnableMethod::SpinTable { release: PhysAddr(release) };
    let expected = [
        (0, EnableMethod::Psci),
        (1, spins(0xe0)),
        (0x102, spins(0x1_0000_00e8)),
        (4, EnableMethod::Unknown),
        (5, EnableMethod::Unknown),
        (6, EnableMethod::Unknown),
    ];
    assert_eq!(cpus[..], expected.map(|(mpidr, enable)| Cpu { mpidr, enable }));
    assert_eq!(warnings.pop().as_deref(), Some("no node is an arm,armv8-timer"));
    let unknown = "enable-method is neither psci nor spin-table with a cpu-release-addr; not started";
    let expected = [
        "/cpus/cpu@1: a second core with MPIDR 0x1; ignored".to_string(),
        "/cpus/cpu@80000003: 0x80000003 is no core's affinity; ignored".to_string(),
        alloc::format!("/cpus/cpu@4: {unknown}"),
        alloc::format!("/cpus/cpu@5: {unknown}"),
        alloc::format!("/cpus/cpu@6: {unknown}"),
    ];
    assert_eq!(warnings, expected);
}

/// The first clock that has an address; a malformed one is no reason not to boot.
fn odd_clocks() {
    let rtc = |tree: Builder, name: &str, reg: &[u32]| {
        tree.begin(name).property("compatible", b"arm,pl031\0arm,primecell\0").cells("reg", reg).end()
    };
    let tree = rtc(Builder::root(), "rtc@1", &[1]);
    let tree = rtc(tree, "rtc@2", &[0, 0x2000, 0x1000]);
    let tree = rtc(tree, "rtc@3", &[0, 0x3000, 0x1000]);
    let (rtc, warnings) = parsed(tree, |machine| machine.rtc);
    assert_eq!(rtc, Some(PhysAddr(0x2000)));
    assert_eq!(warnings, ["/rtc@1: reg is malformed or leads nowhere; ignored", "no node is an arm,armv8-timer"]);
}

/// Which share of the places and samples is tried: an emulated machine is slow.
const STEP: usize = if cfg!(target_os = "none") { 23 } else { 1 };

/// A tree cut off anywhere is refused, also when its header agrees with what is left.
fn every_truncation() {
    for tree in [VIRT, PI4] {
        let mut bytes = Vec::from(tree);
        for length in (0..tree.len()).step_by(STEP) {
            bytes.copy_from_slice(tree);
            let cut = &mut bytes[..length];
            assert!(Machine::parse(cut, AT).is_err(), "{length} bytes");
            if length >= HEADER_SIZE {
                set(cut, Field::TotalSize, length as u32);
                let strings = (length as u32).saturating_sub(get(cut, Field::Strings));
                set(cut, Field::StringsSize, strings);
                let structure = (length as u32).saturating_sub(get(cut, Field::Structure));
                let whole = get(cut, Field::StructureSize);
                set(cut, Field::StructureSize, structure.min(whole));
                assert!(Machine::parse(cut, AT).is_err(), "{length} bytes, as the header says");
            }
        }
    }
}

/// What a parse must never do is panic; what it says is up to the damage, but it can be printed.
fn parse_and_print(bytes: &mut [u8]) -> bool {
    struct Sink;
    impl Write for Sink {
        fn write_str(&mut self, _: &str) -> core::fmt::Result {
            Ok(())
        }
    }
    match Machine::parse(bytes, AT) {
        Ok(machine) => {
            assert!(!machine.banks.is_empty());
            assert!(machine.banks.is_sorted_by(|one, next| one.end < next.start));
            for warning in machine.warnings.iter() {
                write!(Sink, "{warning}").unwrap();
            }
            true
        }
        Err(error) => {
            write!(Sink, "{error}").unwrap();
            false
        }
    }
}

/// One byte changed, at every offset of a small tree and at random ones of the others.
fn every_damaged_byte() {
    let mut random = Random::new(0x5eed_0001);
    let (mut good, mut bad) = (0, 0);
    let mut damage = |tree: &[u8], bytes: &mut [u8], offset: usize, value: u8| {
        bytes.copy_from_slice(tree);
        bytes[offset] = value;
        if parse_and_print(bytes) { good += 1 } else { bad += 1 }
    };
    let mut bytes = Vec::from(PI4);
    for (offset, &byte) in PI4.iter().enumerate().step_by(STEP) {
        for value in [0xff, byte ^ 1] {
            damage(PI4, &mut bytes, offset, value);
        }
    }
    for tree in [VIRT, VIRT_GICV3] {
        let mut bytes = Vec::from(tree);
        for _ in 0..1000 / STEP {
            let offset = random.index(tree.len());
            damage(tree, &mut bytes, offset, random.next() as u8);
        }
    }
    assert!(good > 50 && bad > 50, "{good} good, {bad} bad: this test tests nothing");
}

/// Several words replaced by small numbers, tokens and offsets: damage that gets past the first checks.
fn damaged_words() {
    let mut random = Random::new(0x5eed_0002);
    let mut bytes = Vec::from(PI4);
    for _ in 0..5000 / STEP {
        bytes.copy_from_slice(PI4);
        for _ in 0..1 + random.below(4) {
            let index = HEADER_SIZE / 4 + random.index((PI4.len() - HEADER_SIZE) / 4);
            let word = match random.below(4) {
                0 => [BEGIN_NODE, END_NODE, PROPERTY, NOP, END][random.index(5)],
                1 => random.below(64) as u32,
                2 => u32::MAX - random.below(64) as u32,
                _ => random.next() as u32,
            };
            bytes[index * 4..][..4].copy_from_slice(&word.to_be_bytes());
        }
        parse_and_print(&mut bytes);
    }
}

ashlar_test::tests! {
    good_trees_are_good,
    absent_and_alien,
    bad_header,
    reservations_without_end,
    bad_tokens,
    bad_properties,
    too_deep,
    long_paths_are_cut,
    nops_hide_nothing,
    bad_machines,
    odd_banks,
    odd_initrds,
    odd_timers,
    odd_cores,
    odd_clocks,
    every_truncation,
    every_damaged_byte,
    damaged_words,
}
