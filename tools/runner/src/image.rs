//! The flat image of an ELF file: what a boot loader copies to memory and enters at its first byte.
#![forbid(unsafe_code)]

use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSection};
use thiserror::Error;

/// Offset and bytes of the magic number in the header of a Linux arm64 `Image` (Documentation/arch/arm64/booting.rst).
const MAGIC: (usize, &[u8]) = (0x38, b"ARM\x64");

/// Where that header says how far above a multiple of 2 MiB the image wants to be.
const TEXT_OFFSET: usize = 8;

/// More than any image has: a segment that ends beyond it was linked to a stray address.
const LIMIT: u64 = 512 << 20;

/// A file that no image can be made from.
#[derive(Debug, Error)]
pub enum ImageError {
    /// Not a 64-bit ELF file, or a damaged one.
    #[error("not a 64-bit ELF file: {0}")]
    Elf(#[from] object::Error),
    /// Nothing to load.
    #[error("no segment to load: was it linked with linker.ld?")]
    Empty,
    /// A segment whose bytes the file lacks.
    #[error("the bytes of the segment at {0:#x} lie beyond the file's end")]
    Truncated(u64),
    /// A segment far from the others.
    #[error("the segment at {address:#x} ends {end:#x} bytes after the lowest one starts: linked to a wrong address?")]
    Stray {
        /// Its load address.
        address: u64,
        /// Where it would end in the image.
        end: u64,
    },
    /// Two segments in one place.
    #[error("the segment at {0:#x} overlaps the one before it")]
    Overlap(u64),
    /// The image does not start with the header that boot loaders look for.
    #[error("its first bytes are no Linux arm64 Image header: was it linked with linker.ld?")]
    Header,
}

/// What the runner takes from an ELF file.
#[derive(Debug)]
pub struct Kernel {
    /// The segments' bytes, each at its distance from the lowest load address.
    pub image: Vec<u8>,
    /// The section `.ashlar.expect`, if there is one.
    pub expectations: Option<Vec<u8>>,
}

impl Kernel {
    /// The image, for a boot loader to put `offset` bytes above where it would.
    pub fn at_offset(&self, offset: u64) -> Vec<u8> {
        let mut image = self.image.clone();
        image[TEXT_OFFSET..][..8].copy_from_slice(&offset.to_le_bytes());
        image
    }

    /// Reads an ELF file.
    ///
    /// # Errors
    /// All that keeps it from being booted.
    pub fn parse(elf: &[u8]) -> Result<Self, ImageError> {
        let file = object::read::elf::ElfFile64::<Endianness>::parse(elf)?;
        let expectations = match file.section_by_name(crate::expect::SECTION) {
            Some(section) => Some(section.data()?.to_vec()),
            None => None,
        };
        Ok(Self { image: flatten(elf)?, expectations })
    }
}

fn flatten(elf: &[u8]) -> Result<Vec<u8>, ImageError> {
    let header = FileHeader64::<Endianness>::parse(elf)?;
    let endian = header.endian()?;
    let mut segments = Vec::new();
    for segment in header.program_headers(endian, elf)? {
        if segment.p_type(endian) == PT_LOAD && segment.p_memsz(endian) != 0 {
            let bytes = segment.data(endian, elf).map_err(|()| ImageError::Truncated(segment.p_paddr(endian)))?;
            segments.push((segment.p_paddr(endian), bytes));
        }
    }
    segments.sort_by_key(|(address, _)| *address);
    let lowest = segments.first().ok_or(ImageError::Empty)?.0;
    let mut image = Vec::new();
    for (address, bytes) in segments {
        let start = address - lowest;
        let end = start.saturating_add(bytes.len() as u64);
        if end > LIMIT {
            return Err(ImageError::Stray { address, end });
        }
        if start < image.len() as u64 {
            return Err(ImageError::Overlap(address));
        }
        // Memory that the file has no bytes for lies between segments only; what follows the last one is the
        // kernel's to clear, and the header's image size covers it.
        image.resize(start as usize, 0);
        image.extend_from_slice(bytes);
    }
    let (offset, magic) = MAGIC;
    if image.get(offset..offset + magic.len()) != Some(magic) {
        return Err(ImageError::Header);
    }
    Ok(image)
}
