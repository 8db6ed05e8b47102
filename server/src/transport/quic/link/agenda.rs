//! Which connections have something to do.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    task::Waker,
};

/// What is to be done next by the task that drives a shard's connections.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Their numbers, each once, in the order in which they came.
    connections: RefCell<VecDeque<usize>>,
    task: RefCell<Option<Waker>>,
    /// The task has been told of something, and hasn't had its turn since.
    told: Cell<bool>,
}

impl Agenda {
    pub(super) fn add(&self, number: usize) {
        self.connections.borrow_mut().push_back(number);
        self.tell();
    }

    /// There is something to look at.
    pub(super) fn tell(&self) {
        if !self.told.replace(true)
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }

    #[cfg(test)]
    pub(super) fn is_told(&self) -> bool {
        self.told.get()
    }

    /// The task has its turn: it is told of what comes after this.
    pub(super) fn begin(&self, waker: &Waker) {
        self.told.set(false);
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    pub(super) fn next(&self) -> Option<usize> {
        let mut connections = self.connections.borrow_mut();
        let next = connections.pop_front();
        if next.is_none() && connections.capacity() > KEPT_MAX {
            *connections = VecDeque::new();
        }
        next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }
}

/// Room for more isn't kept when all is done.
const KEPT_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::quic::link::counted::counted;

    #[test]
    fn the_task_is_woken_once_for_a_burst() {
        let (agenda, (task, woken)) = (Agenda::default(), counted());
        // Told before it has begun, it has its first turn anyway.
        agenda.add(1);
        agenda.begin(&task);
        for burst in 1..=3 {
            for number in 0..10 {
                agenda.add(number);
            }
            assert_eq!(woken.get(), burst);
            agenda.begin(&task);
            while agenda.next().is_some() {}
        }
    }
}
