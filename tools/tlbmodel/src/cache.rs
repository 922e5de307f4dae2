//! What holds entries: sets and ways, and the least recently used one goes.
#![forbid(unsafe_code)]

/// An entry, and what it is found by.
#[derive(Clone, Copy, Debug)]
pub struct Slot<T> {
    /// Its first address.
    pub start: u64,
    /// Its size, as a shift.
    pub shift: u8,
    /// The size of what an invalidation of any address in it takes it with: that of its descriptor, if that is larger.
    pub cover: u8,
    /// Its address space; `None` for all.
    pub asid: Option<u16>,
    /// What it holds.
    pub value: T,
}

impl<T> Slot<T> {
    fn holds(&self, va: u64, asid: u16) -> bool {
        (va ^ self.start) >> self.shift == 0 && self.is_of(asid)
    }

    /// Whether it is used in `asid`.
    pub fn is_of(&self, asid: u16) -> bool {
        self.asid.is_none_or(|own| own == asid)
    }

    /// Whether an invalidation of the addresses from `first` to `last` concerns it.
    pub fn meets(&self, first: u64, last: u64) -> bool {
        let mask = (1 << self.cover) - 1;
        self.start & !mask <= last && first <= self.start | mask
    }
}

/// Entries in sets; one set holds any entry anywhere.
#[derive(Debug)]
pub struct Cache<T> {
    sets: usize,
    ways: usize,
    slots: Vec<Option<(u64, Slot<T>)>>,
    clock: u64,
    /// Entries of each size: sizes that are not there are not looked for.
    sizes: [u32; 64],
    /// Entries that are smaller than their descriptors, which their own address does not find.
    pieces: u32,
}

impl<T: Copy> Cache<T> {
    /// Room for `entries`, `ways` of them in a set.
    pub fn new(entries: usize, ways: usize) -> Self {
        let ways = ways.clamp(1, entries.max(1));
        let sets = (entries / ways).max(1);
        let slots = if entries == 0 { 0 } else { sets * ways };
        Self { sets, ways, slots: vec![None; slots], clock: 0, sizes: [0; 64], pieces: 0 }
    }

    fn set(&self, at: u64, shift: u8) -> std::ops::Range<usize> {
        let set = (at >> shift) as usize % self.sets;
        set * self.ways..(set + 1) * self.ways
    }

    /// The smallest entry for `va`, which counts as used now.
    pub fn find(&mut self, va: u64, asid: u16) -> Option<Slot<T>> {
        let mut best: Option<(usize, u8)> = None;
        let mut look = |range: std::ops::Range<usize>, slots: &[Option<(u64, Slot<T>)>]| {
            for index in range {
                if let Some((_, slot)) = &slots[index]
                    && slot.holds(va, asid)
                    && best.is_none_or(|(_, shift)| slot.shift < shift)
                {
                    best = Some((index, slot.shift));
                }
            }
        };
        if self.sets == 1 {
            look(0..self.slots.len(), &self.slots);
        } else {
            for shift in (12..64).filter(|&shift| self.sizes[usize::from(shift)] != 0) {
                look(self.set(va, shift), &self.slots);
            }
        }
        let (used, slot) = self.slots[best?.0].as_mut()?;
        self.clock += 1;
        *used = self.clock;
        Some(*slot)
    }

    /// Puts `slot` in the place of an equal one, in a free place, or in that of the least recently used.
    pub fn insert(&mut self, slot: Slot<T>) {
        if self.slots.is_empty() {
            return;
        }
        let range = self.set(slot.start, slot.shift);
        let same = |old: &Slot<T>| old.start == slot.start && old.shift == slot.shift && old.asid == slot.asid;
        let place = range.min_by_key(|&index| match &self.slots[index] {
            Some((_, old)) if same(old) => (0, 0),
            None => (1, 0),
            Some((used, _)) => (2, *used),
        });
        let Some(place) = place else { return };
        self.drop_at(place);
        self.clock += 1;
        self.sizes[usize::from(slot.shift)] += 1;
        self.pieces += u32::from(slot.cover > slot.shift);
        self.slots[place] = Some((self.clock, slot));
    }

    fn drop_at(&mut self, index: usize) -> Option<Slot<T>> {
        let (_, slot) = self.slots[index].take()?;
        self.sizes[usize::from(slot.shift)] -= 1;
        self.pieces -= u32::from(slot.cover > slot.shift);
        Some(slot)
    }

    /// Takes out what `which` says and hands it to `taken`.
    pub fn take(&mut self, which: impl Fn(&Slot<T>) -> bool, mut taken: impl FnMut(Slot<T>)) {
        for index in 0..self.slots.len() {
            self.take_at(index, &which, &mut taken);
        }
    }

    /// As [`take`](Self::take), for entries that one page at `va` concerns: it need not look everywhere.
    pub fn take_page(&mut self, va: u64, which: impl Fn(&Slot<T>) -> bool, mut taken: impl FnMut(Slot<T>)) {
        let which = |slot: &Slot<T>| slot.meets(va, va) && which(slot);
        if self.sets == 1 || self.pieces != 0 {
            return self.take(which, taken);
        }
        for shift in 12..64 {
            if self.sizes[usize::from(shift)] != 0 {
                for index in self.set(va, shift) {
                    self.take_at(index, &which, &mut taken);
                }
            }
        }
    }

    fn take_at(&mut self, index: usize, which: &impl Fn(&Slot<T>) -> bool, taken: &mut impl FnMut(Slot<T>)) {
        if self.slots[index].as_ref().is_some_and(|(_, slot)| which(slot))
            && let Some(slot) = self.drop_at(index)
        {
            taken(slot);
        }
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.take(|_| true, |_| ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u64, asid: Option<u16>) -> Slot<u64> {
        Slot { start: number << 12, shift: 12, cover: 12, asid, value: number }
    }

    #[test]
    fn the_least_recently_used_goes() {
        let mut cache = Cache::new(4, 4);
        (0..4).for_each(|number| cache.insert(page(number, None)));
        assert!(cache.find(0, 1).is_some());
        cache.insert(page(4, None));
        assert!(cache.find(0x1000, 1).is_none(), "1 was used longest ago");
        assert!([0, 2, 3, 4].iter().all(|number| cache.find(number << 12, 1).is_some()));
    }

    #[test]
    fn sets_are_by_the_number_of_the_page() {
        let mut cache = Cache::new(8, 2);
        for number in [0, 4, 8] {
            cache.insert(page(number, None));
        }
        assert!(cache.find(0, 1).is_none() && cache.find(4 << 12, 1).is_some() && cache.find(8 << 12, 1).is_some());
    }

    #[test]
    fn address_spaces_are_kept_apart() {
        let mut cache = Cache::new(8, 2);
        cache.insert(page(1, Some(1)));
        cache.insert(page(2, None));
        assert!(cache.find(1 << 12, 2).is_none() && cache.find(1 << 12, 1).is_some());
        assert!(cache.find(2 << 12, 2).is_some());
    }

    #[test]
    fn an_equal_entry_is_replaced() {
        let mut cache = Cache::new(8, 2);
        cache.insert(page(1, Some(1)));
        cache.insert(Slot { value: 7, ..page(1, Some(1)) });
        let mut values = Vec::new();
        cache.take(|_| true, |slot| values.push(slot.value));
        assert_eq!(values, [7]);
    }

    #[test]
    fn pieces_go_with_their_descriptor() {
        let mut cache = Cache::new(8, 2);
        for piece in 0..2 {
            cache.insert(Slot { start: 0x20_0000 + (piece << 20), shift: 20, cover: 21, asid: None, value: piece });
        }
        cache.insert(Slot { start: 0x40_0000, shift: 21, cover: 21, asid: None, value: 9 });
        let mut count = 0;
        cache.take_page(0x3f_f000, |_| true, |_| count += 1);
        assert_eq!(count, 2);
        assert!(cache.find(0x40_0000, 1).is_some());
    }

    #[test]
    fn none_at_all() {
        let mut cache = Cache::new(0, 0);
        cache.insert(page(1, None));
        assert!(cache.find(1 << 12, 1).is_none());
    }
}
