//! While memory is taken back on one core, another stores to a page that is being given up: at every single step of the
//! machine, one after another. The store is refused or it lasts.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
mod common;
#[cfg(not(target_os = "none"))]
mod world;

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::world::{MIB, World};
    use ashlar::mm::address::{BLOCK_SIZE, PAGE_SIZE, VirtAddr};
    use ashlar::mm::frame::Class;
    use ashlar::mm::huge::FaultMode;
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    /// The store that is to come: how many steps are left until then, where, and in which world.
    type Store = (u64, VirtAddr, Rc<World>);

    thread_local! {
        static STORE: RefCell<Option<Store>> = const { RefCell::new(None) };
        static STORED: Cell<bool> = const { Cell::new(false) };
    }

    /// Called before every step of the machine.
    fn step() {
        let due = STORE.with_borrow_mut(|store| match store {
            Some((0, ..)) => store.take(),
            Some((steps, ..)) => {
                *steps -= 1;
                None
            }
            None => None,
        });
        if let Some((_, at, world)) = due {
            let machine = world.mm.machine().on_core(1);
            STORED.set(machine.store(at, &[7]).is_ok());
            machine.on_core(0);
        }
    }

    pub fn a_store_to_a_zero_page_while_it_is_given_back() {
        let mut lasted = 0;
        for steps in 0.. {
            let world = Rc::new(World::new(8 * MIB, 2, steps));
            world.mm.policy().set_fault_mode(FaultMode::Eager);
            let start = world.map(BLOCK_SIZE);
            // Two zero pages, next to each other.
            for page in (0..512).filter(|page| ![8, 9].contains(page)) {
                world.put(start + page * PAGE_SIZE as u64, 1);
            }
            // Its slot has a table, so that it lacks one frame.
            let other = world.map(2 * PAGE_SIZE);
            world.put(other + PAGE_SIZE as u64, 1);
            while world.mm.frames().allocate(0, Class::Movable).is_some() {}
            let at = start + 9 * PAGE_SIZE as u64;
            STORED.set(false);
            STORE.set(Some((steps, at, world.clone())));
            world.mm.machine().set_yield(step);
            world.put(other, 8);
            let over = STORE.take().is_some();
            assert_eq!(world.get(at), if STORED.get() { 7 } else { 0 }, "the store at step {steps}");
            assert_eq!((world.get(start), world.get(other)), (1, 8));
            lasted += u32::from(STORED.get());
            if over {
                break;
            }
        }
        assert!(lasted > 10, "the store went through at {lasted} steps only");
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    a_store_to_a_zero_page_while_it_is_given_back,
}
