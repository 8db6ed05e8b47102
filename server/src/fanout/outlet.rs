//! Connections that are written to right on the walk over the feeds of an event.

use std::{
    cell::{Cell, RefCell},
    fmt,
    hint::black_box,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

use super::Feed;
use crate::core::Item;

/// A connection that can write what its feed has without its task being woken for that: to wake a task for each feed and event costs a
/// fourth of what the system takes for a write.
pub trait Connection {
    /// The feed.
    fn feed(&self) -> &Feed;

    /// Takes what the feed has, and writes as much of it as the peer takes now. Ready when the connection's task is to go on; what can't be
    /// written now wakes it by itself. `room` is for all connections of a shard, one after the other.
    fn poll_deliver(&mut self, cx: &mut Context<'_>, room: &mut Room) -> Poll<()>;

    /// Reads a little of all the memory that delivering to it looks at, and gives what it has read.
    fn touch(&self) -> usize;
}

/// What is shared by those that are written to on a walk.
#[derive(Debug, Default)]
pub struct Room {
    /// For what is taken. Empty between two connections.
    pub items: Vec<Item>,
}

/// A connection between its task, which waits for its peer, and the walk over the feeds, which writes what its peer takes at once.
pub struct Outlet<C> {
    connection: RefCell<C>,
    /// Wakes the task.
    task: RefCell<Option<Waker>>,
    panicked: Cell<bool>,
}

impl<C: Connection + 'static> Outlet<C> {
    /// From now on the feed's events come to the connection on the walk, and nowhere else.
    pub fn new(connection: C) -> Rc<Self> {
        let outlet =
            Rc::new(Self { connection: RefCell::new(connection), task: RefCell::default(), panicked: Cell::default() });
        let walked: Weak<Self> = Rc::downgrade(&outlet);
        outlet.connection.borrow().feed().deliver_to(walked);
        outlet
    }

    /// The connection, once it is done with its feed. None on the walk.
    pub fn into_connection(self: Rc<Self>) -> Option<C> {
        Rc::into_inner(self).map(|outlet| outlet.connection.into_inner())
    }

    /// The task's turn.
    ///
    /// # Panics
    /// When writing has panicked on the walk: what goes wrong in a connection ends its task, wherever it happens.
    pub fn poll<T>(&self, cx: &mut Context<'_>, poll: impl FnOnce(&mut C, &mut Context<'_>) -> Poll<T>) -> Poll<T> {
        assert!(!self.panicked.get(), "the connection panicked as it was written to");
        if !self.task.borrow().as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task.replace(Some(cx.waker().clone()));
        }
        poll(&mut self.connection.borrow_mut(), cx)
    }
}

impl<C> fmt::Debug for Outlet<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet").finish_non_exhaustive()
    }
}

/// An [`Outlet`], whatever it is of. Nothing here waits.
pub(super) trait Walked: fmt::Debug {
    /// Has the memory at hand that delivering looks at. Called for several connections one after the other, that takes about as long as for one:
    /// the processor waits for all of it at once.
    fn touch(&self);

    /// Called with no borrow of the shard.
    fn deliver(&self, room: &mut Room);

    /// Tells the task that there is something to take, or that the feed was cut.
    fn wake(&self);

    /// [`Walked::deliver`] has panicked.
    fn fail(&self);
}

impl<C: Connection> Walked for Outlet<C> {
    fn touch(&self) {
        black_box(self.connection.borrow().touch());
    }

    fn deliver(&self, room: &mut Room) {
        // Before its first turn the task has yet to write what comes before the feed.
        let Some(task) = &*self.task.borrow() else { return };
        let polled = self.connection.borrow_mut().poll_deliver(&mut Context::from_waker(task), room);
        if polled.is_ready() {
            task.wake_by_ref();
        }
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    fn fail(&self) {
        self.panicked.set(true);
        self.wake();
    }
}
