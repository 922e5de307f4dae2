//! An image of more than 30 MiB, which takes several tables to map, at a place where none of them begins with the image.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run", "run offset=1020K el=2", "output test result: ok");

#[cfg(target_os = "none")]
mod guest {
    use core::sync::atomic::{AtomicU64, Ordering};

    const WORDS: usize = (30 << 20) / 8;
    static LARGE: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

    pub fn all_of_it_is_there() {
        assert!(LARGE.iter().all(|word| word.load(Ordering::Relaxed) == 0), "the loader left something");
        for (index, word) in LARGE.iter().enumerate() {
            word.store(index as u64, Ordering::Relaxed);
        }
        assert!(LARGE.iter().enumerate().all(|(index, word)| word.load(Ordering::Relaxed) == index as u64));
    }
}
#[cfg(target_os = "none")]
use guest::all_of_it_is_there;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    all_of_it_is_there,
}
