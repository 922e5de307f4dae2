//! A heap whose owner's needs change: it fills up, shrinks to a fifth in no order, gives back what pages nobody needs any more, and
//! fills up again. Objects are of 1 to 32 KiB, by classes, as allocators have them; each is stamped all over, and checked when it
//! goes.

use crate::lab::{Failure, Lab, Name, verify};
use crate::platform::{PAGE, Platform, Usage};
use crate::random::{Random, mix};
use core::mem::take;

/// What sizes are multiples of.
const UNIT: usize = 1 << 10;
/// Units that a class takes at once.
const CHUNK: u32 = 64;
/// An object of class `n` is of `1 << n` units.
const CLASSES: usize = 6;
const NONE: u32 = u32::MAX;

/// An object: its first unit, and its class.
#[derive(Clone, Copy)]
struct Object {
    unit: u32,
    class: u32,
}

impl Object {
    fn units(self) -> u32 {
        1 << self.class
    }

    /// As a word, for a list in mapped memory.
    fn word(self) -> u32 {
        self.unit << 3 | self.class
    }

    fn of(word: u32) -> Self {
        Object { unit: word >> 3, class: word & 7 }
    }
}

/// Free objects of a class.
#[derive(Clone, Copy)]
struct Class {
    /// The one that was freed last.
    free: u32,
    /// What is left of the class's newest chunk.
    rest: u32,
    end: u32,
}

struct Heap<'a, P: Platform> {
    platform: &'a P,
    memory: P::Memory,
    classes: [Class; CLASSES],
    /// The first unit that no class has.
    next: u32,
    /// By unit: the one that was freed before it.
    links: P::Memory,
    /// By page: objects in it; and whether it has been touched since it was given back.
    used: P::Memory,
    touched: P::Memory,
}

impl<'a, P: Platform> Heap<'a, P> {
    fn new(lab: &Lab<'a, P>, bytes: usize) -> Result<Self, Failure> {
        Ok(Heap {
            platform: lab.platform,
            memory: lab.map(bytes)?,
            classes: [Class { free: NONE, rest: 0, end: 0 }; CLASSES],
            next: 0,
            links: lab.map(bytes / UNIT * 4)?,
            used: lab.map(bytes / PAGE)?,
            touched: lab.map(bytes / PAGE)?,
        })
    }

    fn pages(object: Object) -> core::ops::RangeInclusive<usize> {
        let (first, last) = (object.unit as usize * UNIT, (object.unit + object.units()) as usize * UNIT - 1);
        first / PAGE..=last / PAGE
    }

    /// An object of `class`, stamped; `None` when the heap is full.
    fn allocate(&mut self, class: usize) -> Option<Object> {
        let units = (self.memory.len() / UNIT) as u32;
        let of = &mut self.classes[class];
        let unit = if of.free != NONE {
            let unit = of.free;
            of.free = bytemuck::cast_slice::<u8, u32>(&self.links)[unit as usize];
            unit
        } else {
            if of.rest == of.end {
                if self.next == units {
                    return None;
                }
                (of.rest, of.end) = (self.next, self.next + CHUNK);
                self.next += CHUNK;
            }
            of.rest += 1 << class;
            of.rest - (1 << class)
        };
        let object = Object { unit, class: class as u32 };
        for page in Self::pages(object) {
            self.used[page] += 1;
            self.touched[page] = 1;
        }
        let words: &mut [u64] = bytemuck::cast_slice_mut(&mut self.memory);
        let stamp = mix(object.word().into());
        for unit in unit..unit + object.units() {
            words[unit as usize * (UNIT / 8)] = stamp;
        }
        Some(object)
    }

    /// Frees `object`; whether its stamps are there.
    fn free(&mut self, object: Object) -> bool {
        let words: &[u64] = bytemuck::cast_slice(&self.memory);
        let stamp = mix(object.word().into());
        let mut units = object.unit..object.unit + object.units();
        let whole = units.all(|unit| words[unit as usize * (UNIT / 8)] == stamp);
        Self::pages(object).for_each(|page| self.used[page] -= 1);
        let class = &mut self.classes[object.class as usize];
        bytemuck::cast_slice_mut::<u8, u32>(&mut self.links)[object.unit as usize] = class.free;
        class.free = object.unit;
        whole
    }

    /// Gives back every page that has been touched and holds nothing, neighbours together. Returns how many.
    fn purge(&mut self) -> usize {
        let pages = self.memory.len() / PAGE;
        let (mut given, mut page) = (0, 0);
        while page < pages {
            let first = page;
            while page < pages && self.used[page] == 0 && take(&mut self.touched[page]) == 1 {
                page += 1;
            }
            if page > first {
                self.platform.release(&mut self.memory, first * PAGE..page * PAGE);
                given += page - first;
            }
            page += 1;
        }
        given
    }
}

/// A heap and what is in it.
struct Owner<'a, P: Platform> {
    heap: Heap<'a, P>,
    /// Objects, as words.
    list: P::Memory,
    count: usize,
    bytes: usize,
    random: Random,
}

impl<P: Platform> Owner<'_, P> {
    /// Allocates until a class is out of room.
    fn fill(&mut self) -> usize {
        let before = self.count;
        while let Some(object) = self.heap.allocate(self.random.below(CLASSES)) {
            bytemuck::cast_slice_mut(&mut self.list)[self.count] = object.word();
            self.count += 1;
            self.bytes += object.units() as usize * UNIT;
        }
        self.count - before
    }

    /// Frees objects at random until `left` are there; returns how many, or none if one was not what it was.
    fn shrink(&mut self, left: usize) -> Option<usize> {
        let before = self.count;
        let mut whole = true;
        while self.count > left {
            let list: &mut [u32] = bytemuck::cast_slice_mut(&mut self.list);
            let at = self.random.below(self.count);
            self.count -= 1;
            let object = Object::of(list[at]);
            list[at] = list[self.count];
            self.bytes -= object.units() as usize * UNIT;
            whole &= self.heap.free(object);
        }
        whole.then_some(before - self.count)
    }
}

pub fn run<P: Platform>(lab: &Lab<'_, P>) -> Result<(), Failure> {
    let bytes = lab.plan.size;
    let name = Name::new("churn", bytes);
    let before = lab.platform.usage();
    let mut owner = Owner {
        heap: Heap::new(lab, bytes)?,
        list: lab.platform.map(bytes / UNIT * 4)?,
        count: 0,
        bytes: 0,
        random: Random::new(13),
    };
    let share = |part, of: &str, usage: usize, before: usize, whole: usize| {
        let percent = (usage as f64 - before as f64) * 100.0 / whole as f64;
        lab.figure(format_args!("{}_{of}_pct", name.part(part)), format_args!("{percent:.1}"), "percent");
    };

    let (filled, ticks) = lab.time(|| owner.fill());
    lab.once(name.part("fill"), ticks, filled as u64);
    // Shrinking and filling again, as one; then once more, step by step.
    let whole = owner.count;
    for step_by_step in [false, true] {
        let (freed, freeing) = lab.time(|| owner.shrink(whole / 5));
        let freed = freed.ok_or(Failure::Wrong("an object's stamps"))?;
        let (given, purging) = lab.time(|| owner.heap.purge());
        let shrunk = lab.platform.usage();
        let live = owner.bytes;
        let (filled, filling) = lab.time(|| owner.fill());
        if step_by_step {
            lab.once(name.part("free"), freeing, freed as u64);
            lab.once(name.part("purge"), purging, given as u64);
            lab.once(name.part("refill"), filling, filled as u64);
            share("shrunk", "resident", shrunk.resident, before.resident, live);
            let full = lab.platform.usage();
            share("full", "resident", full.resident, before.resident, owner.bytes);
            let in_blocks = |part, usage: Usage| {
                share(part, "in_blocks", usage.in_blocks, before.in_blocks, usage.resident - before.resident);
            };
            in_blocks("full", full);
            lab.rest();
            in_blocks("rested", lab.platform.usage());
        } else {
            lab.once(name.part("round"), freeing + purging + filling, 1);
        }
    }
    let freed = owner.shrink(0);
    verify(freed.is_some() && owner.bytes == 0, "what is left at the end")
}
