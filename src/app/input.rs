//! The application's input: the files of the initrd.

use super::archive::{Archive, ArchiveError};
use crate::arch::aarch64::layout::linear;
use crate::arch::aarch64::{gate, memory};
use crate::mm::address::PhysAddr;
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;

/// Where the initrd lies until the application asks for it. Taken in kernel mode only.
static INITRD: Mutex<Option<Range<PhysAddr>>> = Mutex::new(None);

/// Says where the initrd lies: RAM that boot held back
/// ([`MemoryMap::hold`](crate::mm::frame::MemoryMap::hold)) and that the linear map shows.
///
/// # Safety
///
/// Nobody uses the range, and nobody gives it to the frame allocator.
pub unsafe fn install(initrd: Range<PhysAddr>) {
    *INITRD.lock() = Some(initrd);
}

/// The input files, where the boot loader put them. Dropping it gives their memory to the frame allocator.
///
/// ```ignore
/// let files = ashlar::input::files()?;
/// for (name, contents) in files.iter() {
///     println!("{name}: {} bytes", contents.len());
/// }
/// drop(files); // The memory can be used for something else now.
/// ```
pub struct Files {
    /// Empty without an initrd.
    range: Range<PhysAddr>,
    archive: Option<Archive<'static>>,
}

/// Why there are no input files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InputError {
    /// [`files`] was called before: there is one owner.
    Taken,
    /// The initrd at this physical address is not an archive that can be read.
    Archive {
        /// Where it begins.
        address: PhysAddr,
        /// What is wrong with it.
        error: ArchiveError,
    },
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => f.write_str("the input files were taken already"),
            Self::Archive { address, error } => write!(f, "input at {address}: {error}"),
        }
    }
}

impl core::error::Error for InputError {}

/// The input files: what the boot loader put into memory beside the kernel (`input=PATH` of the runner). Without an
/// initrd there are none. Whoever calls this first has them.
///
/// # Errors
///
/// They were taken already, or the initrd cannot be read; then its memory is free again.
pub fn files() -> Result<Files, InputError> {
    /// Whether anybody has called this.
    static IS_TAKEN: AtomicBool = AtomicBool::new(false);
    if IS_TAKEN.swap(true, Ordering::Relaxed) {
        return Err(InputError::Taken);
    }
    let Some(range) = gate::call(|| INITRD.lock().take()) else {
        return Ok(Files { range: PhysAddr(0)..PhysAddr(0), archive: None });
    };
    let (start, length) = (linear(range.start).0 as usize, (range.end - range.start) as usize);
    // SAFETY: who installed the range vouched that it is RAM in the linear map that nobody uses; `Files` keeps it so while
    // it lives, and lends the bytes for no longer.
    let bytes = unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(start), length) };
    let mut files = Files { range, archive: None };
    let checked = Archive::new(bytes).map_err(|error| InputError::Archive { address: files.range.start, error })?;
    files.archive = Some(checked);
    Ok(files)
}

impl Files {
    /// Name and contents of each regular file, in the archive's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.archive.iter().flat_map(|archive| archive.files())
    }

    /// Bytes of the archive; the files' contents together are a little less.
    pub fn archive_bytes(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let range = self.range.clone();
        gate::call(move || {
            if !range.is_empty() {
                memory::manager().frames().admit(range);
            }
        });
    }
}
