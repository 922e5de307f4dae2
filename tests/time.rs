//! Ticks as time and back at the frequencies that counters have, and the clocks of each machine.
#![cfg_attr(target_os = "none", no_std, no_main)]

ashlar_test::expect!(
    // A board has no clock that knows the date.
    "run machine=virt",
    "run machine=virt icount=on case=2025",
    "run machine=raspi4b dtb=tests/data/pi4.dtb case=none",
    "output test result: ok"
);

use ashlar::app::clock::{Frequency, Scale, WallClock};
use core::time::Duration;

/// QEMU's, the Raspberry Pi 4's, Armv8.6's, and odd ones.
const HERTZ: [u32; 8] = [62_500_000, 54_000_000, 1_000_000_000, 19_200_000, 1, 3, 999_999_937, u32::MAX];

fn moments() -> impl Iterator<Item = u64> {
    (0..64)
        .flat_map(|bit| [0, 1, 3].map(|more| (1_u64 << bit).saturating_sub(1).saturating_add(more)))
        .chain([u64::MAX])
}

fn ticks_become_time_exactly() {
    for hertz in HERTZ {
        let frequency = Frequency::new(hertz);
        for ticks in moments() {
            let exact = u128::from(ticks) * 1_000_000_000 / u128::from(hertz);
            assert_eq!(frequency.duration(ticks).as_nanos(), exact, "{ticks} ticks at {hertz} Hz");
        }
    }
    assert_eq!(Frequency::new(0).duration(u64::MAX), Duration::from_nanos(u64::MAX), "firmware says nothing");
}

fn later_is_not_less() {
    for hertz in HERTZ {
        let frequency = Frequency::new(hertz);
        for start in moments() {
            let mut last = frequency.duration(start);
            for more in 1..100 {
                let next = frequency.duration(start.saturating_add(more));
                assert!(next >= last);
                last = next;
            }
        }
    }
}

/// Waiting for as many ticks is waiting no shorter, and longer by less than a tick.
fn time_becomes_ticks_rounded_up() {
    for hertz in HERTZ {
        let frequency = Frequency::new(hertz);
        for nanoseconds in moments() {
            let duration = Duration::from_nanos(nanoseconds);
            let exact = (u128::from(nanoseconds) * u128::from(hertz)).div_ceil(1_000_000_000);
            let ticks = frequency.ticks(duration);
            assert_eq!(ticks, u64::try_from(exact).ok(), "{nanoseconds} ns at {hertz} Hz");
            if let Some(ticks) = ticks {
                assert!(frequency.duration(ticks) >= duration);
                assert!(ticks == 0 || frequency.duration(ticks - 1) < duration);
            }
        }
        assert_eq!(frequency.ticks(Duration::ZERO), Some(0));
        assert_eq!(frequency.ticks(Duration::from_secs(60)), Some(60 * u64::from(hertz)));
        let most = Duration::from_secs(u64::MAX / u64::from(hertz));
        assert!(frequency.ticks(most).is_some());
        assert_eq!(frequency.ticks(most.saturating_add(Duration::from_secs(1))), None);
        assert_eq!(frequency.ticks(Duration::MAX), None);
    }
}

fn date_goes_on_from_the_reading() {
    let (frequency, clock) = (Frequency::new(62_500_000), WallClock::new(1_735_689_600, 1_000));
    assert_eq!(clock.at(1_000, frequency), Duration::from_secs(1_735_689_600));
    assert_eq!(clock.at(0, frequency), Duration::from_secs(1_735_689_600));
    assert_eq!(clock.at(1_001, frequency), Duration::new(1_735_689_600, 16));
    assert_eq!(
        clock.at(1_000 + 62_500_000 * 86_400 + 31_250_000, frequency),
        Duration::new(1_735_776_000, 500_000_000)
    );
    assert_eq!(WallClock::new(u64::MAX, 0).at(u64::MAX, Frequency::new(1)), Duration::MAX, "no overflow");
}

#[cfg(target_os = "none")]
mod guest {
    use ashlar::time::{self, Instant};
    use core::time::Duration;

    /// Each of two times is rounded down to a nanosecond.
    const ROUNDING: Duration = Duration::from_nanos(1);
    /// 2025 began.
    const THEN: Duration = Duration::from_secs(1_735_689_600);

    pub fn moments_are_added_to_and_compared() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let later = start + second;
        assert!(later > start && later.duration_since(start) == second && later - start == second);
        assert_eq!(later - second, start);
        assert_eq!(start.checked_duration_since(later), None);
        assert_eq!(start.saturating_duration_since(later), Duration::ZERO);
        let mut moment = start;
        moment += Duration::from_nanos(1);
        assert!(moment > start && moment.ticks() == start.ticks() + 1, "a part of a tick is a tick");
        moment -= Duration::from_nanos(1);
        assert_eq!(moment, start);
        assert_eq!(start.checked_add(Duration::MAX), None);
        assert_eq!(start.checked_sub(time::since_start() + second), None);
        assert!(start.elapsed() < Duration::from_secs(100));
    }

    /// The host's date, that of the emulator's arguments, or none.
    pub fn date_is_known_where_a_clock_is() {
        let Some(date) = time::wall_clock() else {
            return assert_eq!(ashlar_test::case(), "none");
        };
        let most = match ashlar_test::case() {
            "2025" => Duration::from_secs(10),
            "" => Duration::from_secs(100 * 366 * 86_400),
            _ => panic!("{date:?} from no clock"),
        };
        assert!(date >= THEN && date < THEN + most, "{date:?}");
        // However long the emulator stands still in between.
        let before = time::now();
        let from = time::wall_clock();
        let (start, mut last) = (time::now(), from);
        while start.elapsed() < Duration::from_millis(20) {
            let date = time::wall_clock();
            assert!(date >= last);
            last = date;
        }
        let passed = time::wall_clock().zip(from).map(|(to, from)| to - from);
        let (least, most) = (Duration::from_millis(20) - ROUNDING, before.elapsed() + ROUNDING);
        assert!(
            passed.is_some_and(|passed| passed >= least && passed <= most),
            "{passed:?}, not {least:?} to {most:?}"
        );
    }
}
#[cfg(target_os = "none")]
use guest::*;

/// An alarm is never early, nor late by more than the rates are coarse, however long the machine has been running.
fn alarms_are_set_by_how_far_away_they_are() {
    for hertz in [54_000_000, 62_500_000, 19_200_000, 1_000_000_000] {
        let scale = Scale::new(Frequency::new(hertz));
        for days in [0, 1, 10, 400] {
            let counter = days * 86_400 * u64::from(hertz) + 7;
            let now = scale.nanoseconds(counter);
            for left in [0, 1, 50, 2_000_000, 3_600_000_000_000] {
                let alarm = scale.alarm(counter, now + left);
                assert!(alarm > counter, "{hertz} Hz, {days} days: {left} ns are in the past");
                let late = scale.nanoseconds(alarm).checked_sub(now + left);
                let most = 200 + left / 50_000_000;
                assert!(late.is_some_and(|late| late <= most), "{hertz} Hz, {days} days, {left} ns: late by {late:?}");
            }
        }
    }
}

ashlar_test::tests! {
    alarms_are_set_by_how_far_away_they_are,
    ticks_become_time_exactly,
    later_is_not_less,
    time_becomes_ticks_rounded_up,
    date_goes_on_from_the_reading,
    #[cfg(target_os = "none")]
    moments_are_added_to_and_compared,
    #[cfg(target_os = "none")]
    date_is_known_where_a_clock_is,
}
