//! The thread that works for huge pages in the background.

use super::memory::manager;
use super::threads::{self, NoThread, SCHEDULER, Spec};
use super::{interrupts, timer};
use crate::mm::huge::Rest;
use crate::task::{Name, Priority};

/// Starts it.
///
/// # Errors
///
/// There is no memory for it.
pub(super) fn start() -> Result<(), NoThread> {
    SCHEDULER.set_background_percent(manager().policy().budget());
    threads::spawn(Spec {
        name: Name::new("khugepaged").0,
        priority: Priority::Background,
        start: run,
        argument: 0,
        stack: 0,
        isolated: false,
    })
    .map(|_| ())
}

/// Has it see what the policy is by now.
pub(crate) fn policy_changed() {
    SCHEDULER.set_background_percent(manager().policy().budget());
    manager().reconsider();
    manager().background_signal().raise();
}

extern "C" fn run(_: usize) {
    loop {
        match manager().background_step(timer::now()) {
            Rest::None => interrupts::poll(),
            Rest::Until(at) => manager().background_signal().wait(Some(at)),
            Rest::Wait => manager().background_signal().wait(None),
        }
    }
}
