//! Channels, under a scheduler that may switch at every operation of a lock's word: each value arrives once, in order, and
//! each end learns that the other has gone.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(not(target_os = "none"))]
#[path = "common/scheduler.rs"]
mod scheduler;

#[cfg(not(target_os = "none"))]
mod memory {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    std::thread_local! {
        static REFUSED: Cell<usize> = const { Cell::new(0) };
    }

    struct Refusing;

    // SAFETY: what is not refused is the system's to do.
    unsafe impl GlobalAlloc for Refusing {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            if layout.align() == REFUSED.get() {
                return std::ptr::null_mut();
            }
            // SAFETY: the caller's promises are the system's.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: all memory is the system's, and the caller's promises are.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    #[global_allocator]
    static ALLOCATOR: Refusing = Refusing;

    /// Refuses this thread memory that is aligned like this from now on; 0: none.
    pub fn refuse(alignment: usize) {
        REFUSED.set(alignment);
    }
}

#[cfg(not(target_os = "none"))]
mod programs {
    use crate::memory;
    use crate::scheduler::{self, explore, together};
    use ashlar::sync::channel::{
        Receiver, RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError, channel, sync_channel,
    };
    use shuttle::thread::{spawn, yield_now};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    const SCHEDULES: usize = 1000;
    const SOON: Duration = Duration::from_millis(1);

    /// Two producers, each with a sender from `senders`, send three values each to two consumers.
    fn two_to_two<S: Send + 'static>(senders: [S; 2], receiver: Receiver<u32>, send: fn(&S, u32)) {
        let senders = Mutex::new(senders.map(Some));
        let receivers = Mutex::new([Some(receiver.clone()), Some(receiver)]);
        let received = Arc::new(Mutex::new(Vec::new()));
        let all = received.clone();
        together(4, move |number| {
            if number < 2 {
                let sender = senders.lock().expect("no panic")[number].take().expect("each once");
                (0..3).for_each(|value| send(&sender, 10 * number as u32 + value));
            } else {
                let receiver = receivers.lock().expect("no panic")[number - 2].take().expect("each once");
                let values: Vec<_> = receiver.iter().collect();
                for producer in 0..2 {
                    let of_one = values.iter().filter(|&&value| value / 10 == producer);
                    assert!(of_one.is_sorted(), "what one sends arrives in order");
                }
                all.lock().expect("no panic").extend(values);
            }
        });
        let mut values = std::mem::take(&mut *received.lock().expect("no panic"));
        values.sort_unstable();
        assert_eq!(values, [0, 1, 2, 10, 11, 12], "each arrives once");
    }

    pub fn each_value_arrives_once() {
        explore(SCHEDULES, || {
            let (sender, receiver) = channel();
            two_to_two([sender.clone(), sender], receiver, |sender, value| sender.send(value).expect("received"));
        });
    }

    pub fn a_full_channel_holds_senders_up() {
        explore(SCHEDULES, || {
            let (sender, receiver) = sync_channel(1);
            two_to_two([sender.clone(), sender], receiver, |sender, value| sender.send(value).expect("received"));
        });
    }

    pub fn without_a_queue_values_are_handed_over() {
        explore(SCHEDULES, || {
            let (sender, receiver) = sync_channel(0);
            two_to_two([sender.clone(), sender], receiver, |sender, value| sender.send(value).expect("received"));
        });
        explore(SCHEDULES, || {
            let (sender, receiver) = sync_channel(0);
            assert_eq!(sender.try_send(1), Err(TrySendError::Full(1)));
            let taken = Arc::new(Mutex::new(false));
            let takes = taken.clone();
            let receives = spawn(move || {
                yield_now();
                *takes.lock().expect("no panic") = true;
                (receiver.recv(), receiver.recv())
            });
            sender.send(1).expect("received");
            assert!(*taken.lock().expect("no panic"), "not before it was taken");
            while sender.try_send(2).is_err() {
                yield_now();
            }
            assert_eq!(receives.join().expect("no panic"), (Ok(1), Ok(2)));
        });
    }

    pub fn trying_says_why_not() {
        explore(1, || {
            let (sender, receiver) = sync_channel(2);
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
            assert_eq!((sender.try_send(1), sender.try_send(2)), (Ok(()), Ok(())));
            assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
            assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [1, 2]);
            sender.send(4).expect("room");
            drop(sender);
            assert_eq!(receiver.try_recv(), Ok(4), "what was sent can be received");
            assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
            let (sender, receiver) = sync_channel(2);
            drop(receiver);
            assert_eq!(sender.try_send(5), Err(TrySendError::Disconnected(5)));
        });
    }

    pub fn receivers_learn_that_the_senders_have_gone() {
        explore(SCHEDULES, || {
            let (sender, receiver) = channel::<u32>();
            let receivers = [receiver.clone(), receiver].map(|receiver| spawn(move || receiver.recv()));
            let other = sender.clone();
            spawn(move || drop(other));
            yield_now();
            drop(sender);
            for receiver in receivers {
                assert_eq!(receiver.join().expect("no panic"), Err(RecvError));
            }
        });
    }

    pub fn senders_learn_that_the_receivers_have_gone() {
        for bound in [0, 1] {
            explore(SCHEDULES, move || {
                let (sender, receiver) = sync_channel(bound);
                if bound > 0 {
                    sender.send(Arc::new(0)).expect("room");
                }
                let send = |number| {
                    let sender = sender.clone();
                    spawn(move || sender.send(Arc::new(number)))
                };
                let senders = [1, 2].map(send);
                yield_now();
                drop(receiver);
                for (number, sender) in (1..).zip(senders) {
                    let error = sender.join().expect("no panic").expect_err("nobody receives");
                    assert!(matches!(error, SendError::Disconnected(_)));
                    assert_eq!(*error.into_inner(), number, "its own value");
                }
            });
        }
    }

    pub fn values_go_with_the_last_receiver() {
        explore(1, || {
            let (sender, receiver) = channel();
            let value = Arc::new(());
            sender.send(value.clone()).expect("received");
            drop(receiver);
            assert_eq!(Arc::strong_count(&value), 1);
            assert_eq!(sender.send(value), Err(SendError::Disconnected(Arc::default())));
        });
    }

    pub fn receiving_may_time_out() {
        let timed_out = explore(SCHEDULES, || {
            let (sender, receiver) = channel();
            let receives = spawn(move || {
                let first = receiver.recv_timeout(SOON);
                scheduler::note(first.is_err());
                match first {
                    Ok(value) => assert_eq!(value, 1),
                    Err(error) => {
                        assert_eq!(error, RecvTimeoutError::Timeout);
                        assert!(u128::from(scheduler::now()) >= SOON.as_nanos());
                        assert_eq!(receiver.recv(), Ok(1));
                    }
                }
                assert_eq!(receiver.recv(), Err(RecvError));
                assert_eq!(receiver.recv_timeout(SOON), Err(RecvTimeoutError::Disconnected));
            });
            (0..10).for_each(|_| yield_now());
            sender.send(1).expect("received");
            drop(sender);
            receives.join().expect("no panic");
        });
        assert!((1..SCHEDULES).contains(&timed_out), "{timed_out}");
    }

    /// So that the queue's memory is told from all other.
    #[derive(Debug, PartialEq, Eq)]
    #[repr(align(64))]
    struct Aligned(u32);

    pub fn a_queue_that_cannot_grow_is_an_error() {
        explore(1, || {
            let (sender, receiver) = channel();
            let (bounded, other) = sync_channel(1);
            sender.send(Aligned(0)).expect("memory");
            memory::refuse(64);
            let refused = (1..).find_map(|number| sender.send(Aligned(number)).err());
            let tried = bounded.try_send(Aligned(0));
            memory::refuse(0);
            let Some(SendError::OutOfMemory(Aligned(number))) = refused else { panic!("{refused:?}") };
            assert_eq!(tried, Err(TrySendError::OutOfMemory(Aligned(0))));
            assert_eq!(other.try_recv(), Err(TryRecvError::Empty));
            sender.send(Aligned(number)).expect("memory again");
            drop(sender);
            assert!(receiver.into_iter().map(|Aligned(number)| number).eq(0..=number));
        });
    }
}

#[cfg(not(target_os = "none"))]
use programs::*;

ashlar_test::tests! {
    #[cfg(not(target_os = "none"))]
    each_value_arrives_once,
    #[cfg(not(target_os = "none"))]
    a_full_channel_holds_senders_up,
    #[cfg(not(target_os = "none"))]
    without_a_queue_values_are_handed_over,
    #[cfg(not(target_os = "none"))]
    trying_says_why_not,
    #[cfg(not(target_os = "none"))]
    receivers_learn_that_the_senders_have_gone,
    #[cfg(not(target_os = "none"))]
    senders_learn_that_the_receivers_have_gone,
    #[cfg(not(target_os = "none"))]
    values_go_with_the_last_receiver,
    #[cfg(not(target_os = "none"))]
    receiving_may_time_out,
    #[cfg(not(target_os = "none"))]
    a_queue_that_cannot_grow_is_an_error,
}
