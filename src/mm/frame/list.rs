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

#[inline]
fn block(number: u32) -> Option<Block> {
    (number != NIL).then_some(Block(number.into()))
}
