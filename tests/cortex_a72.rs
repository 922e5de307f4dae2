//! Nothing is used that a Cortex-A72 lacks: FEAT_BBM, range invalidations, hardware access and dirty flags, LSE's atomic operations.
//!
//! On the host: by its identification registers, by the descriptors that can be made, and by the sources, in which every
//! instruction of these features would be assembly. In the guest: the flags are off, on a core that has them too. That LSE's operations
//! are behind a look at the registers shows as every guest test that runs on a Cortex-A72: there they are undefined.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run", "run cpu=max el=2", "run machine=raspi4b dtb=tests/data/pi4.dtb", "output test result: ok");

extern crate alloc;

use alloc::vec::Vec;
use ashlar::arch::aarch64::descriptor::{KernelMemory, encode, kernel_leaf};
use ashlar::arch::aarch64::features;
use ashlar::mm::address::{Frame, PhysAddr};
use ashlar::mm::mmu::{Access, Attributes, Entry, Level};

/// `ID_AA64ISAR0_EL1` of a Cortex-A72 with and without the cryptography extension (TRM 100095, 4.3.29; the BCM2711's is without), and
/// of cores that came later.
fn only_later_cores_have_atomic_operations() {
    for (core, isar0, has_lse) in [
        ("Cortex-A53", 0x1_1120, false),
        ("Cortex-A72", 0x1_0000, false),
        ("Cortex-A72 with cryptography", 0x1_1120, false),
        ("Cortex-A76", 0x1000_1021_1120, true),
        ("Neoverse N1", 0x1000_1021_1120, true),
        ("none, a reserved value", 0x10_0000, false),
        ("FEAT_LSE128", 0x30_0000, true),
    ] {
        assert_eq!(features::has_lse(isar0), has_lse, "{core}");
    }
}

/// What a descriptor of the first Armv8-A may have: not DBM (bit 51, FEAT_HAFDBS), not nT (bit 16 of a block, FEAT_BBM), not GP (bit 50).
/// Software's own bits are 58 to 55.
fn descriptors_have_no_bit_of_later_features() {
    let accesses = [Access::NONE, Access::READ, Access::READ_WRITE, Access::READ_EXECUTE];
    // As many address bits as an A72 has.
    let frame = Frame(((1 << 44) - 1) >> 12 & !511);
    let mut made = Vec::new();
    for access in accesses {
        for accessed in [false, access.read] {
            let attributes = Attributes { access, accessed };
            made.push((encode(Entry::Block { frame, attributes }, Level::Two), 0x1f_ffff));
            for contiguous in [false, true] {
                made.push((encode(Entry::Page { frame, attributes, contiguous }, Level::Three), 0xfff));
            }
        }
    }
    for memory in [KernelMemory::Data, KernelMemory::Device] {
        for (level, low) in [(Level::One, 0x3fff_ffff), (Level::Two, 0x1f_ffff), (Level::Three, 0xfff)] {
            made.push((kernel_leaf(memory, PhysAddr(((1 << 44) - 1) & !0x3fff_ffff), level), low));
        }
    }
    for level in [Level::One, Level::Two] {
        made.push((encode(Entry::Table(frame), level), 0xfff));
    }
    for (descriptor, low) in made {
        let address = ((1 << 44) - 1) & !low;
        // Valid to nG; contiguous, PXN, UXN; software's four.
        let allowed = 0xfff | address | 0b111 << 52 | 0b1111 << 55;
        assert_eq!(descriptor & !allowed, 0, "{descriptor:#x}");
    }
}

#[cfg(not(target_os = "none"))]
mod host {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// All there is of invalidations in the first Armv8-A for EL1 (Arm ARM C5.5, without FEAT_TLBIOS and FEAT_TLBIRANGE).
    const INVALIDATIONS: [&str; 12] = [
        "vmalle1",
        "vae1",
        "aside1",
        "vaae1",
        "vale1",
        "vaale1",
        "vmalle1is",
        "vae1is",
        "aside1is",
        "vaae1is",
        "vale1is",
        "vaale1is",
    ];
    /// How the instructions of FEAT_LSE begin (Arm ARM C3.2.11 to C3.2.14).
    const ATOMICS: [&str; 12] =
        ["cas", "swp", "ldadd", "ldclr", "ldeor", "ldset", "ldsmax", "ldsmin", "ldumax", "ldumin", "stadd", "stset"];
    /// Where a feature is looked for before it is used.
    const GUARDED: &str = "atomics.rs";

    fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("the sources are here").flatten() {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "s") {
                found.push(path);
            }
        }
    }

    /// The words of assembly in `text`: of whole files of it, and of what stands in quotes in Rust's. Comments are left out.
    fn words(text: &str, is_rust: bool) -> Vec<String> {
        let mut words = Vec::new();
        for line in text.lines() {
            let line = line.split("//").next().unwrap_or_default();
            let parts: Vec<&str> = line.split('"').collect();
            for (index, part) in parts.iter().enumerate() {
                if !is_rust || index % 2 == 1 {
                    words.extend(
                        part.split(|letter: char| !letter.is_ascii_alphanumeric()).map(str::to_ascii_lowercase),
                    );
                }
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    pub fn the_sources_have_no_instruction_of_later_features() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        ["arch/aarch64", "platform", "src"].iter().for_each(|directory| sources(&root.join(directory), &mut files));
        let (mut invalidations, mut guarded) = (0, 0);
        for path in files {
            let text = fs::read_to_string(&path).expect("it is text");
            let words = words(&text, path.extension().is_some_and(|extension| extension == "rs"));
            for pair in words.windows(2).filter(|pair| pair[0] == "tlbi") {
                assert!(INVALIDATIONS.contains(&pair[1].as_str()), "{}: tlbi {}", path.display(), pair[1]);
                invalidations += 1;
            }
            let is_atomic = |word: &&String| {
                let rest = ATOMICS.iter().find_map(|start| word.strip_prefix(start));
                // Order, and size: `casal`, `ldaddab`.
                rest.is_some_and(|rest| {
                    ["", "a", "l", "al"]
                        .iter()
                        .any(|order| rest.strip_prefix(order).is_some_and(|size| ["", "b", "h"].contains(&size)))
                })
            };
            for word in words.iter().filter(is_atomic) {
                assert!(path.ends_with(GUARDED), "{}: {word}", path.display());
                guarded += 1;
            }
        }
        // Both are there to be found.
        assert!(invalidations >= 8 && guarded >= 5, "{invalidations}, {guarded}");
    }

    pub fn the_search_finds_what_it_looks_for() {
        let found = words(r#"asm!("tlbi rvae1is, {}", in(reg) tlbi); // "casal""#, true);
        assert_eq!(found, ["tlbi", "rvae1is"]);
        assert_eq!(words("1:  casal x0, x1, [x2] // swp", false), ["1", "casal", "x0", "x1", "x2"]);
    }
}
#[cfg(not(target_os = "none"))]
use host::*;

#[cfg(target_os = "none")]
mod guest {
    use aarch64_cpu::registers::{Readable, TCR_EL1};
    use ashlar::arch::aarch64::gate;

    /// HA and HD of TCR_EL1 (Arm ARM D24.2.188): without them a core that could sets no flag by itself.
    pub fn hardware_flags_are_off() {
        assert_eq!(gate::call(|| TCR_EL1.get()) & (1 << 39 | 1 << 40), 0);
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    only_later_cores_have_atomic_operations,
    descriptors_have_no_bit_of_later_features,
    #[cfg(not(target_os = "none"))]
    the_sources_have_no_instruction_of_later_features,
    #[cfg(not(target_os = "none"))]
    the_search_finds_what_it_looks_for,
    #[cfg(target_os = "none")]
    hardware_flags_are_off,
}
