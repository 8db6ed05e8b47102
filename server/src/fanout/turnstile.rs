//! Newcomers' turns.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Lets steps that nobody else is to wait for pass one after the other, in the order in which they came, and in each turn of a shard's thread for
/// no longer than [`STEPS_A_TURN`]: where everybody connects at once, a step waits for thousands of others, but only those here do. A limit of
/// connections in the making instead would be one that peers who go no further could hold.
#[derive(Debug, Default)]
pub(super) struct Turnstile {
    queue: RefCell<Queue>,
    waits: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// How much longer steps may take in this turn.
    left: Duration,
    /// Nobody where one has gone meanwhile.
    waiting: VecDeque<Option<Waker>>,
    /// The number of the first that waits: those below were let pass.
    first: u64,
    /// The last that was let pass, until it does: the next one is told then.
    passing: Option<u64>,
}

/// A connection that is being set up, until it is told to be settled; or one that never is, since nothing that its task does has to be soon.
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
                wake(self.with_queue(Queue::turn));
                if self.with_queue(|queue| queue.is_empty()) {
                    break;
                }
            }
        }
    }

    /// Whether it may pass now; otherwise it has a ticket, and is woken.
    fn passes(&self, ticket: &mut Option<u64>, cx: &Context<'_>) -> bool {
        let passes = self.with_queue(|queue| queue.passes(ticket, cx.waker()));
        if !passes {
            self.waits.notify_one();
        }
        passes
    }

    /// One that was let pass is done with its step, which took so long.
    fn passed(&self, took: Duration) {
        wake(self.with_queue(|queue| queue.passed(took)));
    }

    /// A ticket isn't needed any more.
    fn give_back(&self, ticket: u64) {
        wake(self.with_queue(|queue| queue.give_back(ticket)));
    }

    fn with_queue<T>(&self, act: impl FnOnce(&mut Queue) -> T) -> T {
        act(&mut self.queue.borrow_mut())
    }
}

/// Nothing is borrowed meanwhile.
fn wake(next: Option<Waker>) {
    if let Some(next) = next {
        next.wake();
    }
}

impl Queue {
    fn turn(&mut self) -> Option<Waker> {
        self.left = STEPS_A_TURN;
        self.next()
    }

    /// The next that is let pass. One at a time: how long the one before takes says whether there is time for it.
    fn next(&mut self) -> Option<Waker> {
        while self.passing.is_none() && !self.left.is_zero() {
            let waker = self.waiting.pop_front()?;
            self.first += 1;
            if waker.is_some() {
                self.passing = Some(self.first - 1);
                return waker;
            }
        }
        None
    }

    fn passes(&mut self, ticket: &mut Option<u64>, waker: &Waker) -> bool {
        match *ticket {
            Some(number) if number >= self.first => {
                // Whoever is polled by another task from now on is woken there.
                if let Some(place) = &mut self.waiting[(number - self.first) as usize] {
                    place.clone_from(waker);
                }
                return false;
            }
            Some(_) => *ticket = None,
            None if self.is_empty() && !self.left.is_zero() => {}
            None => {
                *ticket = Some(self.first + self.waiting.len() as u64);
                self.waiting.push_back(Some(waker.clone()));
                return false;
            }
        }
        true
    }

    fn passed(&mut self, took: Duration) -> Option<Waker> {
        self.left = self.left.saturating_sub(took);
        self.passing = None;
        self.next()
    }

    fn give_back(&mut self, ticket: u64) -> Option<Waker> {
        match ticket.checked_sub(self.first) {
            Some(place) => self.waiting[place as usize] = None,
            None if self.passing == Some(ticket) => self.passing = None,
            None => {}
        }
        self.next()
    }

    /// Nobody waits.
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.passing.is_none()
    }
}

impl Newcomer {
    pub(super) fn new(turnstile: Rc<Turnstile>) -> Self {
        Self { turnstile, settled: Rc::default() }
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

impl<F> Gated<F> {
    fn give_ticket_back(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.newcomer.turnstile.give_back(ticket);
        }
    }
}

impl<F: Future + Unpin> Future for Gated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.newcomer.is_settled() {
            self.give_ticket_back();
            return Pin::new(&mut self.task).poll(cx);
        }
        let Self { task, newcomer, ticket } = &mut *self;
        if !newcomer.turnstile.passes(ticket, cx) {
            return Poll::Pending;
        }
        // However the step ends, the next one has its turn.
        let _step = Step { turnstile: &newcomer.turnstile, began: Instant::now() };
        Pin::new(task).poll(cx)
    }
}

impl<F> Drop for Gated<F> {
    fn drop(&mut self) {
        self.give_ticket_back();
    }
}

/// A step that was let pass, until it is done.
struct Step<'a> {
    turnstile: &'a Turnstile,
    began: Instant,
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.turnstile.passed(self.began.elapsed());
    }
}

/// How long the steps that pass in a turn take together, but for the last of them, which may be a handshake's cryptography: some hundred
/// microseconds. A walk waits for that between its turns, which are ten times as long.
const STEPS_A_TURN: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

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
    async fn newcomers_pass_in_order() {
        let set = LocalSet::new();
        set.run_until(async {
            let turnstile = Rc::new(Turnstile::default());
            let steps: Rc<RefCell<Vec<usize>>> = Rc::default();
            let turnstile_turns = turnstile.clone();
            tokio::task::spawn_local(async move { turnstile_turns.turn().await });
            let newcomers = begin(&turnstile, 50, &steps);
            while steps.borrow().len() < 100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(steps.borrow()[..50], (0..50).collect::<Vec<_>>());
            assert!(turnstile.with_queue(|queue| queue.is_empty()));
            drop(newcomers);
        })
        .await;
    }

    #[test]
    fn steps_pass_one_after_the_other_for_as_long_as_a_turn_has() {
        let (mut queue, waker) = (Queue::default(), Waker::noop());
        let mut tickets = [None; 4];
        let mut passing = |queue: &mut Queue| {
            let passes = |ticket: &mut Option<u64>| queue.passes(ticket, waker);
            tickets.iter_mut().map(passes).position(|passes| passes)
        };
        assert_eq!(passing(&mut queue), None, "there was no turn yet");
        assert!(queue.turn().is_some());
        assert_eq!(passing(&mut queue), Some(0));
        assert!(queue.passed(STEPS_A_TURN / 2).is_some());
        // What has passed once waits behind the others.
        assert_eq!(passing(&mut queue), Some(1));
        assert!(queue.passed(STEPS_A_TURN).is_none());
        assert_eq!(passing(&mut queue), None, "the turn is over");
        for next in [2, 3, 0, 1] {
            assert!(queue.turn().is_some());
            assert_eq!(passing(&mut queue), Some(next));
            assert!(queue.passed(STEPS_A_TURN).is_none());
        }
    }

    #[test]
    fn who_goes_holds_up_nobody() {
        let (mut queue, waker) = (Queue::default(), Waker::noop());
        let mut tickets = [None; 4];
        for ticket in &mut tickets {
            assert!(!queue.passes(ticket, waker));
        }
        let go = |queue: &mut Queue, who: usize| queue.give_back(tickets[who].expect("it waits"));
        assert!(go(&mut queue, 1).is_none(), "there was no turn yet");
        assert!(queue.turn().is_some());
        assert!(go(&mut queue, 0).is_some(), "the third is told, since the first was told and is gone");
        assert!(go(&mut queue, 2).is_some());
        assert!(go(&mut queue, 3).is_none());
        assert!(queue.is_empty());
        assert!(queue.passes(&mut None, waker), "there is time left");
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
            turnstile.with_queue(|queue| queue.waiting.iter().flatten().for_each(Waker::wake_by_ref));
            while steps.borrow().len() < 2 {
                tokio::task::yield_now().await;
            }
            assert_eq!(*steps.borrow(), [1, 1]);
        })
        .await;
    }
}
