//! What a connection's socket, its task and its streams tell each other.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

/// What is known of a connection, all in one place: with thousands of them it is far away in memory. All of it is used in one thread, but h2
/// is given it as a waker. It wakes the connection's task, unless that isn't necessary.
#[derive(Debug)]
pub(super) struct Signals {
    task: AtomicWaker,
    /// The connection is polled soon, or once the peer has taken something: the task needn't be woken for that.
    is_held: AtomicBool,
    reading: AtomicU8,
    /// What is written waits for the peer, which wakes the task.
    is_full: AtomicBool,
    feeds: AtomicUsize,
    began: Instant,
    /// In milliseconds after that.
    heard_at: AtomicU64,
}

/// How what a feed sends is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// By whoever sends it.
    AtOnce,
    /// By the task, which h2 wakes.
    ByTask,
    /// By the task, which is woken when the peer has room.
    Later,
}

impl Signals {
    pub(super) fn new() -> Self {
        Self {
            task: AtomicWaker::new(),
            is_held: AtomicBool::new(false),
            reading: AtomicU8::new(OPEN),
            is_full: AtomicBool::new(false),
            feeds: AtomicUsize::new(0),
            began: Instant::now(),
            heard_at: AtomicU64::new(0),
        }
    }

    /// The connection's task has its turn, and reads whatever was known.
    pub(super) fn begin_turn(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.reading.store(OPEN, Relaxed);
    }

    /// See [`crate::fanout::Connection::touch`].
    pub(super) fn touch(&self) -> usize {
        self.feeds.load(Relaxed)
    }

    /// Wakes the task.
    pub(super) fn wake(&self) {
        self.task.wake();
    }

    /// When the peer was last heard of.
    pub(super) fn heard_at(&self) -> Instant {
        self.began + Duration::from_millis(self.heard_at.load(Relaxed))
    }

    /// A feed more is on the connection.
    pub(super) fn feed_begins(&self) {
        self.feeds.fetch_add(1, Relaxed);
    }

    /// A feed less.
    pub(super) fn feed_ends(&self) {
        self.feeds.fetch_sub(1, Relaxed);
    }

    /// How what a feed sends now is written. Several feeds are written together by the task, which the first of them wakes.
    pub(super) fn write(&self) -> Write {
        if self.is_full.load(Relaxed) {
            Write::Later
        } else if self.feeds.load(Relaxed) == 1 && self.reading.load(Relaxed) == WAITS {
            Write::AtOnce
        } else {
            Write::ByTask
        }
    }

    /// Does something for which h2 needn't wake the task.
    pub(super) fn held<T>(&self, act: impl FnOnce() -> T) -> T {
        struct Held<'a>(&'a Signals);

        impl Drop for Held<'_> {
            fn drop(&mut self) {
                self.0.is_held.store(false, Relaxed);
            }
        }

        self.is_held.store(true, Relaxed);
        let _held = Held(self);
        act()
    }

    /// Whether the stream isn't to be read now.
    pub(super) fn is_paused(&self) -> bool {
        self.reading.load(Relaxed) == PAUSED
    }

    /// What the stream said as it was read.
    pub(super) fn has_read(&self, read: &Poll<io::Result<()>>) {
        match read {
            Poll::Pending => self.reading.store(WAITS, Relaxed),
            Poll::Ready(Ok(())) => self.heard_at.store(self.began.elapsed().as_millis() as u64, Relaxed),
            Poll::Ready(Err(_)) => {}
        }
    }

    /// Whether what is written waits for the peer.
    pub(super) fn has_written(&self, is_full: bool) {
        self.is_full.store(is_full, Relaxed);
    }

    /// Does something in which a stream that has nothing to be read isn't asked for more: what comes wakes the task anyway.
    pub(super) fn without_reading<T>(&self, act: impl FnOnce() -> T) -> T {
        self.reading.store(PAUSED, Relaxed);
        let done = act();
        self.reading.store(WAITS, Relaxed);
        done
    }
}

impl Wake for Signals {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_held.load(Relaxed) {
            self.task.wake();
        }
    }
}

/// What is known of reading: nothing, so the stream is to be asked.
const OPEN: u8 = 0;
/// The peer has sent nothing more, and the task is woken when it does.
const WAITS: u8 = 1;
/// The same, and the stream isn't asked for more.
const PAUSED: u8 = 2;
