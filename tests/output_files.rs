//! Output files: written where there is a host and a directory, refused with the reason where not.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run out=target", "run", "run semihosting=off out=target", "output test result: ok");

#[cfg(target_os = "none")]
mod guest {
    use ashlar::arguments;
    use ashlar::platform::files::{File, FileError};

    const NAME: &str = "output_files.txt";

    pub fn files_are_written_where_they_can_be() {
        let arguments = arguments::boot().unwrap();
        match (File::create(arguments.out, NAME), arguments.semihosting, arguments.out) {
            (Ok(mut file), true, Some(_)) => {
                file.write(b"").unwrap();
                for length in [1, 4095, 4096, 4097, 10_000] {
                    file.write(&[b'x'; 10_000][..length]).unwrap();
                }
            }
            (Err(FileError::NoDirectory), true, None) | (Err(FileError::NoHost), false, _) => {}
            (result, ..) => panic!("{:?}", result.err()),
        }
    }

    pub fn names_stay_in_the_directory() {
        let arguments = arguments::boot().unwrap();
        for name in
            ["", "/etc/x", "../x", "a/../x", "a//x", "./x", "a\0x", core::str::from_utf8(&[b'x'; 5000]).unwrap()]
        {
            match (File::create(Some("target"), name), arguments.semihosting) {
                (Err(FileError::Name), true) | (Err(FileError::NoHost), false) => {}
                (result, _) => panic!("{name}: {:?}", result.err()),
            }
        }
    }

    pub fn the_host_may_refuse() {
        let refused = File::create(Some("/nonexistent"), NAME);
        assert!(matches!(refused, Err(FileError::Host(_) | FileError::NoHost)));
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    files_are_written_where_they_can_be,
    #[cfg(target_os = "none")]
    names_stay_in_the_directory,
    #[cfg(target_os = "none")]
    the_host_may_refuse,
}
