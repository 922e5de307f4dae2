//! Debian's kernel.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Has `tools/fetch` bring the kernel, unless it is there; returns its image and its version.
pub fn fetch(target: &Path) -> Result<(PathBuf, String)> {
    let status = Command::new("tools/fetch").arg("kernel").status().context("tools/fetch")?;
    ensure!(status.success(), "there is no Linux to compare with");
    let image = target.join("boards/vmlinuz");
    let version = image.with_extension("version");
    let version = fs::read_to_string(&version).with_context(|| version.display().to_string())?;
    Ok((image, version.trim().to_owned()))
}

const PAGE_TEST: u32 = 0xf240_2c1f; // tst x0, #0xfff

/// How many instructions the kernel's `clear_page` runs for each `dc zva`: the length of the loop that ends with the end of a page.
/// `None` if there is no such loop.
pub fn zeroing_instructions(image: &[u8]) -> Option<u32> {
    let words: Vec<u32> =
        image.chunks_exact(4).filter_map(|word| Some(u32::from_le_bytes(word.try_into().ok()?))).collect();
    // `dc zva, x0`; a few others; `tst x0, #0xfff`; `b.ne` back to it.
    let at_zva = |at: &usize| words[*at] == 0xd50b_7420;
    (0..words.len()).filter(at_zva).find_map(|at| {
        let end = (at + 1..(at + 8).min(words.len() - 1)).find(|&end| words[end] == PAGE_TEST)? + 1;
        // A conditional branch, by so many words, if not equal.
        let back = 0x5400_0001 | ((at as u32).wrapping_sub(end as u32) & 0x7_ffff) << 5;
        (words[end] == back).then(|| (end - at + 1) as u32)
    })
}

#[cfg(test)]
mod tests {
    use super::zeroing_instructions;

    #[test]
    fn the_loop_is_recognized() {
        // dc zva, x0; add x0, x0, x1; tst x0, #0xfff; b.ne -12
        let code = [0xd503_201f_u32, 0xd50b_7420, 0x8b01_0000, 0xf240_2c1f, 0x54ff_ffa1, 0xd65f_03c0];
        let image = |code: &[u32]| code.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(zeroing_instructions(&image(&code)), Some(4));
        assert_eq!(zeroing_instructions(&image(&code[..3])), None);
        assert_eq!(zeroing_instructions(&[]), None);
    }
}
