//! Newcomers' turns.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;

/// Lets only so many steps of connections that are being set up pass in each turn of a shard's thread, in the order in which they came: where
/// everybody connects at once, a step waits for thousands of others, but only those of newcomers do. A limit of connections in the making
/// instead would be one that peers who go no further could hold.
#[derive(Debug, Default)]
pub(super) struct Turnstile {
    queue: RefCell<Queue>,
    waits: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// How many more pass in this turn.
    left: usize,
    waiting: VecDeque<Waker>,
    /// The number of the first that waits: those below were let pass.
    first: u64,
}

/// A connection that is being set up, until it is told to be settled.
#[derive(Debug, Clone)]
pub struct Newcomer {
    turnstile: Rc<Turnstile>,
    settled: Rc<Cell<bool>>,
}

/// A task of a connection, or a part of one, which passes the turnstile until its connection is settled.
#[derive(Debug)]
pub struct Gated<F> {
    task: F,
    newcomer: Newcomer,
    /// Its place in the queue.
    ticket: Option<u64>,
}

impl Turnstile {
    /// Lets the next ones pass, turn after turn.
    pub(super) async fn turn(&self) {
        loop {
            self.waits.notified().await;
            loop {
                tokio::task::yield_now().await;
                let next = self.with_queue(Queue::turn);
                if next.is_empty() {
                    break;
                }
                next.into_iter().for_each(Waker::wake);
            }
        }
    }

    fn passes(&self, ticket: &mut Option<u64>, cx: &Context<'_>) -> bool {
        let passes = self.with_queue(|queue| queue.passes(ticket, cx.waker()));
        if !passes {
            self.waits.notify_one();
        }
        passes
    }

    fn with_queue<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        act(&mut self.queue.borrow_mut())
    }
}

impl Queue {
    fn turn(&mut self) -> Vec<Waker> {
        let next: Vec<_> = self.waiting.drain(..self.waiting.len().min(STEPS_A_TURN)).collect();
        self.first += next.len() as u64;
        self.left = STEPS_A_TURN - next.len();
        next
    }

    fn passes(&mut self, ticket: &mut Option<u64>, waker: &Waker) -> bool {
        match *ticket {
            Some(number) if number >= self.first => {
                // Whoever is polled by another task from now on is woken there.
                let place = &mut self.waiting[(number - self.first) as usize];
                place.clone_from(waker);
                return false;
            }
            Some(_) => *ticket = None,
            None if self.left > 0 => self.left -= 1,
            None => {
                *ticket = Some(self.first + self.waiting.len() as u64);
                self.waiting.push_back(waker.clone());
                return false;
            }
        }
        true
    }
}

impl Newcomer {
    pub(super) fn new(turnstile: Rc<Turnstile>) -> Self {
        Self { turnstile, settled: Rc::default() }
    }

    /// Waits for its turn.
    pub async fn turn(&self) {
        let mut ticket = None;
        poll_fn(|cx| if self.turnstile.passes(&mut ticket, cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Has a task of the connection, or a part of one, pass the turnstile.
    pub fn gate<F: Future + Unpin>(self, task: F) -> Gated<F> {
        Gated { task, newcomer: self, ticket: None }
    }

    /// Whether the connection is set up.
    pub fn is_settled(&self) -> bool {
        self.settled.get()
    }

    /// The connection is set up: what it does from now on waits for nobody's turn.
    pub fn settle(&self) {
        self.settled.set(true);
    }
}

impl<F: Future + Unpin> Future for Gated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { task, newcomer, ticket } = &mut *self;
        if newcomer.is_settled() || newcomer.turnstile.passes(ticket, cx) {
            return Pin::new(task).poll(cx);
        }
        Poll::Pending
    }
}

/// How many steps pass in a turn: a few hundred microseconds each, with a handshake's cryptography.
const STEPS_A_TURN: usize = 4;

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    /// Tasks that note each of their two steps.
    fn begin(turnstile: &Rc<Turnstile>, count: usize, steps: &Rc<RefCell<Vec<usize>>>) -> Vec<Newcomer> {
        let newcomers: Vec<_> = (0..count).map(|_| Newcomer::new(turnstile.clone())).collect();
        for (number, newcomer) in newcomers.iter().enumerate() {
            let (steps, mut left) = (steps.clone(), 2);
            let task = poll_fn(move |cx| {
                steps.borrow_mut().push(number);
                left -= 1;
                if left == 0 {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            });
            tokio::task::spawn_local(newcomer.clone().gate(task));
        }
        newcomers
    }

    #[tokio::test]
    async fn newcomers_pass_in_order_and_a_few_at_a_time() {
        let set = LocalSet::new();
        set.run_until(async {
            let turnstile = Rc::new(Turnstile::default());
            let steps: Rc<RefCell<Vec<usize>>> = Rc::default();
            let turnstile_turns = turnstile.clone();
            tokio::task::spawn_local(async move { turnstile_turns.turn().await });
            begin(&turnstile, 50, &steps);
            let mut seen = 0;
            while seen < 100 {
                tokio::task::yield_now().await;
                let now = steps.borrow().len();
                assert!(now - seen <= 2 * STEPS_A_TURN, "{now} after {seen}");
                seen = now;
            }
            assert_eq!(steps.borrow()[..50], (0..50).collect::<Vec<_>>());
        })
        .await;
    }

    #[tokio::test]
    async fn who_is_settled_waits_for_nobody() {
        let set = LocalSet::new();
        set.run_until(async {
            // Nobody gives turns.
            let turnstile = Rc::new(Turnstile::default());
            let steps: Rc<RefCell<Vec<usize>>> = Rc::default();
            let newcomers = begin(&turnstile, 2, &steps);
            tokio::task::yield_now().await;
            assert!(steps.borrow().is_empty());
            newcomers[1].settle();
            turnstile.with_queue(|queue| queue.waiting.iter().for_each(Waker::wake_by_ref));
            while steps.borrow().len() < 2 {
                tokio::task::yield_now().await;
            }
            assert_eq!(*steps.borrow(), [1, 1]);
        })
        .await;
    }
}
