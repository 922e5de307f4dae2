//! The reader of the initrd's archive: whole, damaged at every byte, cut off everywhere.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use ashlar::app::archive::{Archive, ArchiveError};

const FILE: u32 = 0o100_644;

/// Appends an entry as the kernel's documentation lays it out (Documentation/driver-api/early-userspace/buffer-format.rst).
fn entry(archive: &mut Vec<u8>, name: &[u8], mode: u32, contents: &[u8]) {
    let header = format!(
        "070701{:08x}{mode:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
        1,
        0,
        0,
        1,
        0,
        contents.len(),
        0,
        0,
        0,
        0,
        name.len() + 1,
        0
    );
    archive.extend_from_slice(header.as_bytes());
    archive.extend_from_slice(name);
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(contents);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

fn sample() -> Vec<u8> {
    let mut archive = Vec::new();
    entry(&mut archive, b"directory", 0o40_755, b"");
    entry(&mut archive, b"directory/a", FILE, b"first");
    entry(&mut archive, b"empty", FILE, b"");
    entry(&mut archive, b"link", 0o120_777, b"directory/a");
    entry(&mut archive, "größe".as_bytes(), FILE, &[0, 1, 2, 255]);
    entry(&mut archive, b"TRAILER!!!", 0, b"");
    archive
}

fn files(bytes: &[u8]) -> Result<Vec<(&str, &[u8])>, ArchiveError> {
    Archive::new(bytes).map(|archive| archive.files().collect())
}

fn regular_files_in_order() {
    let expected: [(&str, &[u8]); 3] = [("directory/a", b"first"), ("empty", b""), ("größe", &[0, 1, 2, 255])];
    assert_eq!(files(&sample()).unwrap(), expected);
}

fn what_follows_the_trailer_is_ignored() {
    let (mut archive, expected) = (sample(), sample());
    archive.extend_from_slice(b"070701 and so on");
    assert_eq!(files(&archive), files(&expected));
}

fn an_archive_may_hold_nothing() {
    let mut archive = Vec::new();
    entry(&mut archive, b"TRAILER!!!", 0, b"");
    assert_eq!(files(&archive).unwrap(), []);
}

fn no_archive_at_all() {
    for bytes in [&b""[..], b"07070", b"\x1f\x8b", b"070707000000", &[0; 512]] {
        assert_eq!(files(bytes), Err(ArchiveError::Magic));
    }
}

fn a_cut_archive_is_an_error() {
    let archive = sample();
    // The trailer's padding is not missed.
    for length in 6..archive.len() - 4 {
        assert!(matches!(files(&archive[..length]), Err(ArchiveError::Entry { .. })), "{length} bytes");
    }
}

fn a_name_that_is_not_utf8_is_an_error() {
    let mut archive = Vec::new();
    entry(&mut archive, b"good", FILE, b"12345");
    let offset = archive.len();
    entry(&mut archive, b"caf\xe9", FILE, b"");
    entry(&mut archive, b"TRAILER!!!", 0, b"");
    assert_eq!(files(&archive), Err(ArchiveError::Entry { offset }));
}

fn damage_never_panics() {
    let archive = sample();
    for index in 0..archive.len() {
        for value in [0, b'0', b'7', b'f', b'g', 0xff] {
            let mut damaged = archive.clone();
            damaged[index] = value;
            if let Ok(files) = files(&damaged) {
                assert!(files.iter().all(|(_, contents)| contents.len() <= archive.len()));
            }
        }
    }
}

fn large_files_are_whole() {
    let contents: Vec<u8> = (0..5_000_003u32).map(|n| (n ^ n >> 9) as u8).collect();
    let mut archive = Vec::new();
    entry(&mut archive, b"large", FILE, &contents);
    entry(&mut archive, b"after", FILE, b"it");
    entry(&mut archive, b"TRAILER!!!", 0, b"");
    assert!(files(&archive).unwrap() == vec![("large", &contents[..]), ("after", b"it")]);
}

ashlar_test::tests! {
    regular_files_in_order,
    what_follows_the_trailer_is_ignored,
    an_archive_may_hold_nothing,
    no_archive_at_all,
    a_cut_archive_is_an_error,
    a_name_that_is_not_utf8_is_an_error,
    damage_never_panics,
    large_files_are_whole,
}
