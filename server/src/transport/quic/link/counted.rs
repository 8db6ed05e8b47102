//! A waker that counts how often somebody is woken, for tests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Waker,
};

use futures_util::task::{ArcWake, waker};

#[derive(Default)]
pub(super) struct Count(AtomicUsize);

impl Count {
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl ArcWake for Count {
    fn wake_by_ref(this: &Arc<Self>) {
        this.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn counted() -> (Waker, Arc<Count>) {
    let count = Arc::<Count>::default();
    (waker(count.clone()), count)
}
