//! Memory pressure as an application sees it: its listener is asked before anything ends, time that is lost is counted; and what it can
//! ask for: a report of each region, the policy by its names.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!("run memory=64M overcommit=on", "run memory=64M overcommit=on cores=4", "output test result: ok");

#[cfg(target_os = "none")]
mod guest {
    extern crate alloc;

    use alloc::string::ToString;
    use alloc::sync::Arc;
    use ashlar::memory::{self, Access, HugePolicy, Level, ListenError, Mapping, PolicyError, Refusal, counter, map};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE};
    use ashlar::println;
    use ashlar::sync::Mutex;
    use core::sync::atomic::{AtomicU32, Ordering};

    fn fill(mapping: &mut Mapping, bytes: usize, value: u8) {
        mapping.as_mut_slice()[..bytes].iter_mut().step_by(PAGE_SIZE).for_each(|byte| *byte = value);
    }

    /// A cache holds half of RAM; the application wants more than the rest.
    pub fn the_listener_spares_memory_before_the_end() {
        const CACHE: usize = 28 << 20;
        let mut cache = map(CACHE).expect("RAM has room");
        fill(&mut cache, CACHE, 1);
        let cache = Arc::new(Mutex::new(Some(cache)));
        let asked = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let (spared, levels) = (cache.clone(), asked.clone());
        let listener = memory::on_pressure(move |level| {
            levels[(level == Level::Critical) as usize].fetch_add(1, Ordering::Relaxed);
            // A little each time. What is dropped is unmapped.
            let mut cache = spared.lock().expect("nobody panics");
            if let Some(mapping) = cache.as_mut() {
                let left = mapping.len().saturating_sub(4 << 20);
                drop(mapping.split_off(left));
                if left == 0 {
                    *cache = None;
                }
            }
        })
        .expect("there is none yet");
        assert!(matches!(memory::on_pressure(|_| ()), Err(ListenError::Taken)));

        let mut wanted = map(40 << 20).expect("the limit is lifted");
        fill(&mut wanted, 40 << 20, 2);
        assert_eq!(counter("out_of_memory"), Some(0));
        let [low, critical] = [0, 1].map(|level: usize| asked[level].load(Ordering::Relaxed));
        println!("asked {low} times when memory was low, {critical} times when there was none; {}", memory::pressure());
        assert!(low + critical >= 1);
        let left = cache.lock().expect("nobody panics").as_ref().map_or(0, |cache| cache.len());
        assert!(left < CACHE, "the listener was never asked");
        assert!(wanted.as_slice().iter().step_by(PAGE_SIZE).all(|&byte| byte == 2));
        drop(listener);
        // Another may follow.
        drop(memory::on_pressure(|_| ()).expect("the first one has gone"));
    }

    pub fn regions_say_what_they_hold() {
        let mut mapping = map(2 * BLOCK_SIZE).expect("RAM has room");
        mapping.advise(0..BLOCK_SIZE, HugePolicy::Always).expect("records are at hand");
        fill(&mut mapping, BLOCK_SIZE, 3);
        mapping.advise(BLOCK_SIZE..2 * BLOCK_SIZE, HugePolicy::Never).expect("records are at hand");
        mapping.as_mut_slice()[BLOCK_SIZE] = 1;
        let of = |offset: usize| {
            let at = mapping.start() + offset as u64;
            memory::regions().find(|region| region.range.contains(&at)).expect("it is mapped")
        };
        let (huge, small) = (of(0), of(BLOCK_SIZE));
        assert_eq!((huge.present, huge.huge, huge.eligible), (BLOCK_SIZE, BLOCK_SIZE, Ok(())));
        assert_eq!((small.present, small.huge, small.eligible), (PAGE_SIZE, 0, Err(Refusal::Policy)));
        assert_eq!((huge.access, small.policy), (Access::READ_WRITE, HugePolicy::Never));
        println!("{huge}\n{small}");
        let text = small.to_string();
        assert!(text.contains("Rss:                   4 kB") && text.contains("the region asks for pages"), "{text}");
        let single = map(PAGE_SIZE).expect("RAM has room");
        let small = memory::regions().find(|region| region.range.contains(&single.start())).expect("it is mapped");
        assert!(small.eligible.is_ok() || small.eligible == Err(Refusal::NotCovered));
        let ordered = memory::regions().try_fold(ashlar::memory::VirtAddr(0), |end, region| {
            (end <= region.range.start && region.range.start < region.range.end).then_some(region.range.end)
        });
        assert!(ordered.is_some());
    }

    pub fn the_policy_is_set_by_name() {
        let before = memory::policy();
        memory::set_policy("max_ptes_none", "511").expect("Linux's default is allowed");
        assert!(memory::policy().to_string().contains("max_ptes_none=511"));
        let error = memory::set_policy("max_ptes_none", "512").expect_err("it is out of range");
        assert_eq!(error, PolicyError::Value { name: "max_ptes_none", allowed: "0 to 511" });
        assert_eq!(memory::set_policy("swappiness", "60"), Err(PolicyError::Unknown));
        memory::set_policy("max_ptes_none", "64").expect("it was that");
        assert_eq!(memory::policy(), before);
    }
}
#[cfg(target_os = "none")]
use guest::*;

ashlar_test::tests! {
    #[cfg(target_os = "none")]
    the_policy_is_set_by_name,
    #[cfg(target_os = "none")]
    regions_say_what_they_hold,
    #[cfg(target_os = "none")]
    the_listener_spares_memory_before_the_end,
}
