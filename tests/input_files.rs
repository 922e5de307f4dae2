//! The initrd as input files, and its memory afterwards.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run input=apps memory=32M", "output test result: ok. 3 passed");

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::vec::Vec;
    use ashlar::input::{self, InputError};
    use ashlar::memory;

    pub fn files_are_there_in_order() {
        let before = memory::report().frames[0];
        let files = input::files().expect("the runner packs a readable archive");
        let names: Vec<&str> = files.iter().map(|(name, _)| name).collect();
        assert_eq!(names[..2], ["hello/Cargo.toml", "hello/src/main.rs"]);
        assert!(names.is_sorted() && names.contains(&"index/tests/data/fields/walls.md"));
        let contents = |wanted| files.iter().find(|(name, _)| *name == wanted).map(|(_, contents)| contents);
        assert_eq!(contents("index/tests/data/empty.txt"), Some(&b""[..]));
        assert_eq!(
            contents("index/tests/data/comment.html"),
            Some(&include_bytes!("../apps/index/tests/data/comment.html")[..])
        );
        assert_eq!(
            contents("index/tests/data/picture.bin"),
            Some(&include_bytes!("../apps/index/tests/data/picture.bin")[..])
        );
        let (bytes, sum) = (files.archive_bytes(), files.iter().map(|(_, contents)| contents.len()).sum());
        assert!(bytes > sum, "{bytes} bytes of archive hold {sum} bytes of files");
        drop(files);
        // All frames but perhaps the one that it shares with something else.
        let given_back = memory::report().frames[0] - before;
        assert!(given_back > 5, "only {given_back} frames");
        assert!(given_back * 4096 <= bytes && given_back * 4096 + 4096 > bytes, "{given_back} frames of {bytes} bytes");
    }

    pub fn they_can_be_had_once() {
        assert_eq!(input::files().err(), Some(InputError::Taken));
    }

    pub fn their_memory_can_be_used() {
        let frames = memory::report().frames;
        let mut mapping = memory::map(frames[1] / 2 * 4096).expect("half of what is free");
        mapping.as_mut_slice().fill(3);
        assert!(mapping.as_slice().iter().all(|&byte| byte == 3));
    }
}
#[cfg(target_os = "none")]
use guest::{files_are_there_in_order, their_memory_can_be_used, they_can_be_had_once};

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    files_are_there_in_order,
    #[cfg(target_os = "none")]
    they_can_be_had_once,
    #[cfg(target_os = "none")]
    their_memory_can_be_used,
}
