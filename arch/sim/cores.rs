//! Cores at work: translation through the TLB, walks through walk caches, and the speculation that nobody asked for.
#![forbid(unsafe_code)]

use super::State;
use super::access::FaultKind;
use super::memory::Memory;
use super::report::{Rule, Violation};
use super::tlb::{CachedTable, Translation};
use super::walker::{self, Leaf, Walk};
use crate::mm::address::{PAGE_SHIFT, PAGES_PER_GROUP, PAGES_PER_SLOT, Page, PhysAddr, VirtAddr};
use crate::mm::mmu::{Access, Level};

/// Pages remembered as worth speculating about.
const RECENT: usize = 32;

/// Pages lately accessed, or whose descriptors were written.
pub(super) struct Recent {
    pages: [Page; RECENT],
    next: usize,
}

impl Recent {
    pub(super) const fn new() -> Self {
        Self { pages: [Page(0); RECENT], next: 0 }
    }

    pub(super) fn push(&mut self, page: Page) {
        self.pages[self.next] = page;
        self.next = (self.next + 1) % RECENT;
    }
}

impl State {
    /// Translates `va` for `access` as `core` does, and says where a translation that may not be used was.
    pub(super) fn translate(
        &mut self,
        memory: &Memory,
        core: usize,
        va: VirtAddr,
        access: Access,
    ) -> Result<PhysAddr, FaultKind> {
        self.recent.push(va.page());
        let held = self.tlbs[core].lookup(va.page()).next().copied();
        let used = match held {
            Some(held) => held,
            None => {
                let walk = self.walk(memory, core, va, false);
                let leaf = walk.leaf.ok_or(FaultKind::Translation(walk.level))?;
                // The access flag comes before permissions (Arm ARM, MMU fault prioritization).
                if !leaf.accessed {
                    return Err(FaultKind::AccessFlag(leaf.level));
                }
                let used = self.choose_size(memory, core, va, &walk, leaf);
                self.cache(core, used);
                used
            }
        };
        if !used.access.permits(access) {
            return Err(FaultKind::Permission(used.level));
        }
        self.check_stale(memory, core, va, access, &used);
        Ok(used.translate(va))
    }

    /// Flags an access through a translation that the tables do not give, unless another core is in the middle of
    /// changing it: until its invalidation is complete, that is what break-before-make allows.
    fn check_stale(&mut self, memory: &Memory, core: usize, va: VirtAddr, access: Access, used: &Translation) {
        let Some(root) = self.root else { return };
        let now = walker::walk(root, Level::One, va, |entry| memory.read_entry(entry), |_, _, _| {});
        let permits = now.leaf.is_some_and(|leaf| leaf.access.permits(access));
        if permits && now.translate(va) == Some(used.translate(va)) {
            return;
        }
        if self.concurrent && self.checker.explains(va.page(), core) {
            return;
        }
        self.log.violation(Violation {
            va: Some(va),
            entry: Some(used.entry),
            old: used.raw,
            new: memory.read_entry(used.entry),
            level: used.level,
            frame: Some(used.translate(va).frame()),
            ..Violation::new(Rule::StaleAccess, core)
        });
    }

    /// A walk as `core` makes it: from where its walk caches lead, reading values not published yet, or no longer.
    fn walk(&mut self, memory: &Memory, core: usize, va: VirtAddr, speculative: bool) -> Walk {
        let Self { root, random, tlbs, checker, log, .. } = self;
        let Some(root) = *root else {
            return Walk { entry: PhysAddr(0), raw: 0, level: Level::One, leaf: None };
        };
        let cached = tlbs[core].table(va.page()).filter(|_| !random.one_in(4));
        let (table, level) = cached.map_or((root, Level::One), |cached| (cached.table, cached.level));
        let mut passed = [None; 2];
        let fetch = |entry| {
            let newest = memory.read_entry(entry);
            let Some(pending) = checker.pending.get(&entry) else { return newest };
            if pending.older.is_empty() {
                return newest;
            }
            if pending.writer == core && !speculative {
                let blame = Violation {
                    va: Some(va),
                    entry: Some(entry),
                    new: newest,
                    ..Violation::new(Rule::Unpublished, core)
                };
                log.violation(blame);
            }
            let choice = random.below(pending.older.len() + 1);
            pending.older.get(choice).copied().unwrap_or(newest)
        };
        let pass = |_, level: Level, table| {
            let size = 1 << (level.shift() - PAGE_SHIFT);
            let below = walker::below(level).unwrap_or(level);
            let place = (level as usize - 1).min(1);
            passed[place] =
                Some(CachedTable { first: Page(va.page().0 & !(size - 1)), pages: size, table, level: below });
        };
        let walk = walker::walk(table, level, va, fetch, pass);
        for table in passed.into_iter().flatten() {
            if random.one_in(2) {
                tlbs[core].insert_table(table, random);
            }
        }
        walk
    }

    /// The translation that the core makes of a leaf: of a contiguous group as a whole, at whim.
    fn choose_size(&mut self, memory: &Memory, core: usize, va: VirtAddr, walk: &Walk, leaf: Leaf) -> Translation {
        let mut group = false;
        if leaf.contiguous && leaf.level == Level::Three {
            let first = PhysAddr(walk.entry.0 & !(PAGES_PER_GROUP as u64 * 8 - 1));
            if !self.checker.group_is_sound(memory, first) && self.checker.group_is_at_rest(memory, first) {
                self.log.violation(self.checker.blame_group(memory, core, first));
            }
            group = self.random.one_in(2);
        }
        Translation::of(leaf, walk.entry, walk.raw, va, group)
    }

    fn cache(&mut self, core: usize, new: Translation) {
        if let Some(held) = self.tlbs[core].insert(new, &mut self.random) {
            self.log.violation(Violation {
                va: Some(new.first.start()),
                entry: Some(new.entry),
                old: held.raw,
                new: new.raw,
                level: new.level,
                frame: Some(held.frame),
                ..Violation::new(Rule::TlbConflict, core)
            });
        }
    }

    /// A core walks for `va` though nobody accesses it, and keeps what it finds.
    fn speculate_at(&mut self, memory: &Memory, va: VirtAddr) {
        let core = self.random.below(self.tlbs.len());
        let walk = self.walk(memory, core, va, true);
        if let Some(leaf) = walk.leaf.filter(|leaf| leaf.accessed) {
            let new = self.choose_size(memory, core, va, &walk, leaf);
            self.cache(core, new);
        }
    }

    /// Some core has used the descriptor for `va`, of `level`, before it changes: half of the time.
    pub(super) fn foresee(&mut self, memory: &Memory, va: VirtAddr, level: Level) {
        self.recent.push(va.page());
        if self.random.one_in(2) {
            let pages = 1 << (level.shift() - PAGE_SHIFT);
            let page = va.page() + self.random.below(pages) as u64;
            self.speculate_at(memory, page.start());
        }
    }

    /// What happens by itself after a step: a core fetches a translation ahead, a core forgets one.
    pub(super) fn speculate(&mut self, memory: &Memory) {
        if self.root.is_none() {
            return;
        }
        if self.random.one_in(2) {
            let mut page = self.recent.pages[self.random.below(RECENT)];
            if self.random.one_in(4) {
                let slot = page.0 & !(PAGES_PER_SLOT as u64 - 1);
                page = Page(slot + self.random.below(PAGES_PER_SLOT) as u64);
            }
            self.speculate_at(memory, page.start());
        }
        if self.random.one_in(8) {
            let core = self.random.below(self.tlbs.len());
            self.tlbs[core].evict(&mut self.random);
        }
    }
}
