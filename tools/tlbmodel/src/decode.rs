//! Instructions that have to do with translation (Arm ARM C5.1, D24).
#![forbid(unsafe_code)]

use crate::walk::canonical;

/// What an instruction is to the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// A hint that nothing else uses, at any exception level a NOP: the model's own.
    Marker(Marker),
    /// Writes a register of the translation's from general register `from`.
    Write {
        /// Which.
        register: Register,
        /// The general register's number.
        from: u8,
    },
    /// Invalidates entries.
    Invalidate {
        /// Which, and where.
        operation: Operation,
        /// The general register's number.
        from: u8,
    },
    /// Works on the line at an address in a register: QEMU makes no memory access of it, a core translates it.
    Line {
        /// Stores zeros there (DC ZVA, GVA, GZVA).
        zeroes: bool,
        /// The general register's number.
        from: u8,
    },
}

/// What the guest says of itself: `hint #0x70`, `#0x71` and `#0x72`, with a name for what follows in x0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// Counting begins, from zero.
    Start = 0,
    /// One line of what was counted.
    Report = 1,
    /// Nothing is counted from here on.
    Stop = 2,
}

/// Registers that say how addresses are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// SCTLR_EL1.
    Sctlr = 0,
    /// TCR_EL1.
    Tcr = 1,
    /// TTBR0_EL1.
    Ttbr0 = 2,
    /// TTBR1_EL1.
    Ttbr1 = 3,
}

/// A TLBI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What its operand names.
    pub kind: Kind,
    /// On all cores.
    pub broadcast: bool,
}

/// What a TLBI's operand names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A page, in the operand's address space or in `any`; `last`: of the last level alone.
    Address {
        /// VAA and VAAL.
        any: bool,
        /// VAL and VAAL.
        last: bool,
    },
    /// A range of pages, likewise (FEAT_TLBIRANGE).
    Range {
        /// RVAA and RVAAL.
        any: bool,
        /// RVAL and RVAAL.
        last: bool,
    },
    /// An address space.
    Asid,
    /// Everything.
    All,
}

/// Entries that an invalidation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// By address.
    Pages {
        /// An address in the first page.
        first: u64,
        /// The last page's last address.
        last: u64,
        /// In this address space, or in all of them; global entries in any case.
        asid: Option<u16>,
        /// Tables that lead there stay.
        leaves: bool,
        /// Named as a range.
        range: bool,
    },
    /// What is not global of an address space.
    Asid(u16),
    /// Everything.
    All,
}

impl Operation {
    /// What it is for, given its operand.
    pub fn scope(self, operand: u64) -> Scope {
        let asid = (operand >> 48) as u16;
        let in_space = |any: bool| (!any).then_some(asid);
        match self.kind {
            Kind::All => Scope::All,
            Kind::Asid => Scope::Asid(asid),
            Kind::Address { any, last: leaves } => {
                let first = canonical((operand & ((1 << 44) - 1)) << 12);
                Scope::Pages { first, last: first | 0xfff, asid: in_space(any), leaves, range: false }
            }
            Kind::Range { any, last: leaves } => {
                // BaseADDR in units of pages, of which there are (NUM + 1) * 2^(5 * SCALE + 1).
                let first = ((operand & ((1 << 37) - 1)) << 27) as i64 >> 15;
                let (number, scale) = (operand >> 39 & 0x1f, operand >> 44 & 3);
                let pages = (number + 1) << (5 * scale + 1);
                let last = (first as u64).saturating_add((pages << 12) - 1);
                Scope::Pages { first: first as u64, last, asid: in_space(any), leaves, range: true }
            }
        }
    }
}

/// The instruction of this encoding, if it is one of those.
pub fn decode(word: u32) -> Option<Instruction> {
    let from = (word & 0x1f) as u8;
    let operation = [word >> 16 & 7, word >> 12 & 0xf, word >> 8 & 0xf, word >> 5 & 7];
    // HINT #imm is 0xd503201f with the number in bits 11 to 5.
    match word & !0xfe0 {
        0xd503_201f => {
            let marker = match word >> 5 & 0x7f {
                0x70 => Marker::Start,
                0x71 => Marker::Report,
                0x72 => Marker::Stop,
                _ => return None,
            };
            return Some(Instruction::Marker(marker));
        }
        _ if word & 0xfff8_0000 == 0xd508_0000 => {}
        // MSR, op0 3.
        _ if word & 0xfff8_0000 == 0xd518_0000 => {
            // op1 5 names them from EL2, where EL1's own names mean EL2's.
            let register = match operation {
                [0 | 5, 1, 0, 0] => Register::Sctlr,
                [0 | 5, 2, 0, 0] => Register::Ttbr0,
                [0 | 5, 2, 0, 1] => Register::Ttbr1,
                [0 | 5, 2, 0, 2] => Register::Tcr,
                _ => return None,
            };
            return Some(Instruction::Write { register, from });
        }
        _ => return None,
    }
    // SYS: op1, CRn, CRm, op2.
    match operation {
        [3, 7, 4, 1 | 3 | 4] => return Some(Instruction::Line { zeroes: true, from }),
        // DC IVAC; IC IVAU; DC CVAC, CVAU, CVAP, CVADP, CIVAC.
        [0, 7, 6, 1] | [3, 7, 5 | 10 | 11 | 12 | 13 | 14, 1] => {
            return Some(Instruction::Line { zeroes: false, from });
        }
        _ => {}
    }
    // TLBI; CRn 9 are those that don't wait for accesses with the XS attribute.
    let [level, 8 | 9, place, which] = operation else { return None };
    let (any, last) = (which & 2 != 0, which & 4 != 0);
    let kind = match (level, place, which) {
        // Outer shareable, inner shareable, this core.
        (0, 1 | 3 | 7, 0) => Kind::All,
        (0, 1 | 3 | 7, 1 | 3 | 5 | 7) => Kind::Address { any, last },
        (0, 1 | 3 | 7, 2) => Kind::Asid,
        (0, 2 | 5 | 6, 1 | 3 | 5 | 7) => Kind::Range { any, last },
        // ALLE1 and VMALLS12E1, from EL2.
        (4, 1 | 3 | 7, 4 | 6) => Kind::All,
        _ => return None,
    };
    Some(Instruction::Invalidate { operation: Operation { kind, broadcast: !matches!(place, 6 | 7) }, from })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlbi(word: u32) -> (Kind, bool, u8) {
        match decode(word) {
            Some(Instruction::Invalidate { operation, from }) => (operation.kind, operation.broadcast, from),
            other => panic!("{word:#x}: {other:?}"),
        }
    }

    // Words as an assembler makes them.
    #[test]
    fn invalidations() {
        let address = |any, last| Kind::Address { any, last };
        assert_eq!(tlbi(0xd508_871f), (Kind::All, false, 31)); // tlbi vmalle1
        assert_eq!(tlbi(0xd508_831f), (Kind::All, true, 31)); // tlbi vmalle1is
        assert_eq!(tlbi(0xd508_8320), (address(false, false), true, 0)); // tlbi vae1is, x0
        assert_eq!(tlbi(0xd508_8720), (address(false, false), false, 0)); // tlbi vae1, x0
        assert_eq!(tlbi(0xd508_8343), (Kind::Asid, true, 3)); // tlbi aside1is, x3
        assert_eq!(tlbi(0xd508_8361), (address(true, false), true, 1)); // tlbi vaae1is, x1
        assert_eq!(tlbi(0xd508_83a9), (address(false, true), true, 9)); // tlbi vale1is, x9
        assert_eq!(tlbi(0xd508_83e2), (address(true, true), true, 2)); // tlbi vaale1is, x2
        assert_eq!(tlbi(0xd508_8120), (address(false, false), true, 0)); // tlbi vae1os, x0
        assert_eq!(tlbi(0xd508_8220), (Kind::Range { any: false, last: false }, true, 0)); // tlbi rvae1is, x0
        assert_eq!(tlbi(0xd508_86e5), (Kind::Range { any: true, last: true }, false, 5)); // tlbi rvaale1, x5
        assert_eq!(tlbi(0xd50c_839f), (Kind::All, true, 31)); // tlbi alle1is
        assert_eq!(decode(0xd50c_8320), None); // tlbi vae2is, x0: another regime
    }

    #[test]
    fn registers_lines_and_markers() {
        let write = |register, from| Some(Instruction::Write { register, from });
        assert_eq!(decode(0xd518_2009), write(Register::Ttbr0, 9)); // msr ttbr0_el1, x9
        assert_eq!(decode(0xd518_2021), write(Register::Ttbr1, 1)); // msr ttbr1_el1, x1
        assert_eq!(decode(0xd518_2040), write(Register::Tcr, 0)); // msr tcr_el1, x0
        assert_eq!(decode(0xd518_1000), write(Register::Sctlr, 0)); // msr sctlr_el1, x0
        assert_eq!(decode(0xd538_1000), None); // mrs x0, sctlr_el1
        assert_eq!(decode(0xd51c_1000), None); // msr sctlr_el2, x0
        assert_eq!(decode(0xd50b_7423), Some(Instruction::Line { zeroes: true, from: 3 })); // dc zva, x3
        assert_eq!(decode(0xd50b_7b24), Some(Instruction::Line { zeroes: false, from: 4 })); // dc cvau, x4
        assert_eq!(decode(0xd50b_7525), Some(Instruction::Line { zeroes: false, from: 5 })); // ic ivau, x5
        assert_eq!(decode(0xd503_2e1f), Some(Instruction::Marker(Marker::Start))); // hint #0x70
        assert_eq!(decode(0xd503_2e3f), Some(Instruction::Marker(Marker::Report))); // hint #0x71
        assert_eq!(decode(0xd503_2e5f), Some(Instruction::Marker(Marker::Stop))); // hint #0x72
        assert_eq!(decode(0xd503_201f), None); // nop
        assert_eq!(decode(0xd503_3f9f), None); // dsb sy
    }

    #[test]
    fn operands() {
        let broadcast = true;
        let page = Operation { kind: Kind::Address { any: false, last: true }, broadcast };
        let scope = page.scope(7 << 48 | 0xfff_ff80_0123);
        let Scope::Pages { first, last, asid: Some(7), leaves: true, range: false } = scope else {
            panic!("{scope:?}")
        };
        assert_eq!((first, last), (0xffff_fff8_0012_3000, 0xffff_fff8_0012_3fff));
        let range = Operation { kind: Kind::Range { any: true, last: false }, broadcast };
        // SCALE 1, NUM 7: 8 * 2^6 pages, 2 MiB.
        let scope = range.scope(1 << 44 | 7 << 39 | 0x40_0200);
        let Scope::Pages { first, last, asid: None, leaves: false, range: true } = scope else { panic!("{scope:?}") };
        assert_eq!((first, last), (0x4_0020_0000, 0x4_003f_ffff));
        let asid = Operation { kind: Kind::Asid, broadcast };
        assert_eq!(asid.scope(3 << 48), Scope::Asid(3));
    }
}
