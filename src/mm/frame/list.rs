//! Doubly linked lists of blocks, through their records.
#![forbid(unsafe_code)]

use super::super::address::Block;
use super::table::{BlockRecord, Records};

/// No block. The numbers of real ones are small enough (`PHYSICAL_LIMIT`).
const NIL: u32 = u32::MAX;

/// Neighbours in a list.
#[derive(Clone, Copy)]
pub(super) struct Links {
    next: u32,
    previous: u32,
}

impl Links {
    /// In no list.
    pub(super) const NONE: Links = Links { next: NIL, previous: NIL };
}

/// Which of a record's two links a list goes through.
#[derive(Clone, Copy)]
pub(super) enum Chain {
    /// Free runs of one order, or broken blocks of one class and largest free order: a block is in one of them at most.
    Place,
    /// The deferred queue.
    Age,
}

/// A list of blocks, or a queue: every operation is O(1).
#[derive(Clone, Copy)]
pub(super) struct List {
    first: u32,
    last: u32,
    chain: Chain,
}

impl List {
    /// An empty list.
    pub(super) const fn new(chain: Chain) -> Self {
        Self { first: NIL, last: NIL, chain }
    }

    /// The block in front.
    #[inline]
    pub(super) fn first(&self) -> Option<Block> {
        block(self.first)
    }

    /// The block at the end.
    pub(super) fn last(&self) -> Option<Block> {
        block(self.last)
    }

    /// The block behind that of `record`, which is in the list.
    pub(super) fn next(&self, record: &BlockRecord) -> Option<Block> {
        block(record.links[self.chain as usize].next)
    }

    /// The block in front of that of `record`, which is in the list.
    pub(super) fn previous(&self, record: &BlockRecord) -> Option<Block> {
        block(record.links[self.chain as usize].previous)
    }

    #[inline]
    fn links<'a>(&self, records: &'a mut Records, number: u32) -> &'a mut Links {
        &mut records.known(Block(number.into())).links[self.chain as usize]
    }

    /// Puts `block`, which is in no list of this chain, in front.
    #[inline]
    pub(super) fn push_front(&mut self, records: &mut Records, block: Block) {
        let number = block.0 as u32;
        *self.links(records, number) = Links { next: self.first, previous: NIL };
        match self.first {
            NIL => self.last = number,
            first => self.links(records, first).previous = number,
        }
        self.first = number;
    }

    /// Puts `block`, which is in no list of this chain, at the end.
    #[inline]
    pub(super) fn push_back(&mut self, records: &mut Records, block: Block) {
        let number = block.0 as u32;
        *self.links(records, number) = Links { next: NIL, previous: self.last };
        match self.last {
            NIL => self.first = number,
            last => self.links(records, last).next = number,
        }
        self.last = number;
    }

    /// Takes `block`, which is in this list, out.
    #[inline]
    pub(super) fn remove(&mut self, records: &mut Records, block: Block) {
        let Links { next, previous } = *self.links(records, block.0 as u32);
        match previous {
            NIL => self.first = next,
            previous => self.links(records, previous).next = next,
        }
        match next {
            NIL => self.last = previous,
            next => self.links(records, next).previous = previous,
        }
    }
}

/// Lists by order, and which of them have something in them.
pub(super) struct Lists<const N: usize> {
    lists: [List; N],
    occupied: u32,
}

impl<const N: usize> Lists<N> {
    /// Empty lists.
    pub(super) const fn new() -> Self {
        Self { lists: [List::new(Chain::Place); N], occupied: 0 }
    }

    /// The first block of the lowest list, from `lowest` on, that has one; and which list that is.
    #[inline]
    pub(super) fn first_from(&self, lowest: u32) -> Option<(Block, u32)> {
        let occupied = self.occupied & (u32::MAX << lowest);
        let index = occupied.trailing_zeros();
        Some((self.lists.get(index as usize)?.first()?, index))
    }

    /// Puts a block into list `index`, in front.
    #[inline]
    pub(super) fn push(&mut self, records: &mut Records, index: u32, block: Block) {
        self.lists[index as usize].push_front(records, block);
        self.occupied |= 1 << index;
    }

    /// Takes a block out of list `index`.
    #[inline]
    pub(super) fn remove(&mut self, records: &mut Records, index: u32, block: Block) {
        let list = &mut self.lists[index as usize];
        list.remove(records, block);
        if list.first().is_none() {
            self.occupied &= !(1 << index);
        }
    }

    /// The lists.
    pub(super) fn lists(&self) -> &[List; N] {
        &self.lists
    }

    /// A bit for each list that has something in it.
    pub(super) fn occupied(&self) -> u32 {
        self.occupied
    }
}

#[inline]
fn block(number: u32) -> Option<Block> {
    (number != NIL).then_some(Block(number.into()))
}
