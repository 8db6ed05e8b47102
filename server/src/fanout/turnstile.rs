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

/// Lets steps that nobody else is to wait for pass in the order in which they came, and in each turn of a shard's thread for no longer than
/// [`STEPS_A_TURN`]: where everybody connects at once, a step waits for thousands of others, but only those here do. A limit of connections in
/// the making instead would be one that peers who go no further could hold.
///
/// How long a step takes says whether there is time for another. But whoever is told has its step only after all other tasks that are ready, which
/// may be thousands, too: so each turn tells [`TOLD_A_TURN`] more, whoever is still on the way.
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
    /// The number of the first that waits: those below were told.
    first: u64,
    /// How many were told and haven't had their step. The next is told when they have.
    under_way: usize,
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
                self.with_queue(|queue| queue.left = STEPS_A_TURN);
                for _ in 0..TOLD_A_TURN {
                    wake(self.with_queue(Queue::tell));
                }
                if self.with_queue(|queue| queue.is_empty()) {
                    break;
                }
            }
        }
    }

    /// Whether it may pass now; otherwise it has a ticket, and is told.
    fn passes(&self, ticket: &mut Option<u64>, cx: &Context<'_>) -> bool {
        let passes = self.with_queue(|queue| queue.passes(ticket, cx.waker()));
        if !passes {
            self.waits.notify_one();
        }
        passes
    }

    /// A step is done, and has taken so long.
    fn passed(&self, was_told: bool, took: Duration) {
        wake(self.with_queue(|queue| queue.passed(was_told, took)));
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
    /// The next that is told, unless too many are under way.
    fn tell(&mut self) -> Option<Waker> {
        while self.under_way < UNDER_WAY_MAX {
            let waker = self.waiting.pop_front()?;
            self.first += 1;
            if waker.is_some() {
                self.under_way += 1;
                return waker;
            }
        }
        None
    }

    /// The next that is told, once nobody is under way, if there is time.
    fn next(&mut self) -> Option<Waker> {
        if self.under_way > 0 || self.left.is_zero() { None } else { self.tell() }
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

    fn passed(&mut self, was_told: bool, took: Duration) -> Option<Waker> {
        self.left = self.left.saturating_sub(took);
        self.under_way -= usize::from(was_told);
        self.next()
    }

    fn give_back(&mut self, ticket: u64) -> Option<Waker> {
        match ticket.checked_sub(self.first) {
            Some(place) => self.waiting[place as usize] = None,
            None => self.under_way -= 1,
        }
        self.next()
    }

    /// Nobody waits.
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }
}

impl Newcomer {
    pub(super) fn new(turnstile: Rc<Turnstile>) -> Self {
        Self { turnstile, settled: Rc::default() }
    }

    /// Has a task of the connection, or a part of one, pass the turnstile. Not within another that passes it: the two would wait for each other.
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
        let was_told = ticket.is_some();
        if !newcomer.turnstile.passes(ticket, cx) {
            return Poll::Pending;
        }
        // However the step ends, the next one has its turn.
        let _step = Step { turnstile: &newcomer.turnstile, was_told, began: Instant::now() };
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
    was_told: bool,
    began: Instant,
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        self.turnstile.passed(self.was_told, self.began.elapsed());
    }
}

/// How long the steps that pass in a turn take together, but for the last of them, which may be a handshake's cryptography: some hundred
/// microseconds. A walk waits for that between its turns, which are ten times as long.
const STEPS_A_TURN: Duration = Duration::from_micros(100);
/// How many are told in a turn that others are still under way in.
const TOLD_A_TURN: usize = 4;
/// How many are told and haven't had their step.
const UNDER_WAY_MAX: usize = 64;

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

    #[tokio::test]
    async fn steps_pass_in_each_turn_however_much_else_there_is_to_do() {
        let set = LocalSet::new();
        set.run_until(async {
            let turnstile = Rc::new(Turnstile::default());
            let (steps, turns): (Rc<RefCell<Vec<usize>>>, Rc<Cell<usize>>) = Default::default();
            let (at, seen) = (turnstile.clone(), turns.clone());
            let mut turning = Box::pin(async move { at.turn().await });
            let counted = poll_fn(move |cx| {
                seen.set(seen.get() + 1);
                turning.as_mut().poll(cx)
            });
            tokio::task::spawn_local(counted);
            let busy = || async {
                loop {
                    tokio::task::yield_now().await;
                }
            };
            for _ in 0..1_000 {
                tokio::task::spawn_local(busy());
            }
            let _newcomers = begin(&turnstile, 50, &steps);
            while steps.borrow().len() < 100 {
                tokio::task::yield_now().await;
            }
            // Here the turnstile has its turn once a round, as all others: it tells a few in each, and they have their step in the next.
            assert!(turns.get() < 100 / TOLD_A_TURN + 10, "{} turns for 100 steps", turns.get());
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
        queue.left = STEPS_A_TURN;
        assert!(queue.next().is_some());
        assert!(queue.next().is_none(), "one is under way");
        assert_eq!(passing(&mut queue), Some(0));
        assert!(queue.passed(true, STEPS_A_TURN / 2).is_some());
        // What has passed once waits behind the others.
        assert_eq!(passing(&mut queue), Some(1));
        assert!(queue.passed(true, STEPS_A_TURN).is_none());
        assert_eq!(passing(&mut queue), None, "the turn is over");
        // In the next one so many are told, whoever is under way.
        assert!(queue.tell().is_some() && queue.tell().is_some());
        assert_eq!(queue.under_way, 2);
        for next in [2, 3] {
            assert_eq!(passing(&mut queue), Some(next));
            assert!(queue.passed(true, Duration::ZERO).is_none());
        }
        assert_eq!(queue.under_way, 0);
    }

    #[test]
    fn no_more_are_told_than_come() {
        let (mut queue, waker) = (Queue::default(), Waker::noop());
        let mut tickets = [None; UNDER_WAY_MAX + 2];
        for ticket in &mut tickets {
            assert!(!queue.passes(ticket, waker));
        }
        let told = std::iter::from_fn(|| queue.tell()).count();
        assert_eq!(told, UNDER_WAY_MAX);
        assert!(queue.passes(&mut tickets[0], waker));
        queue.passed(true, Duration::ZERO);
        assert!(queue.tell().is_some() && queue.tell().is_none());
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
        queue.left = STEPS_A_TURN;
        assert!(queue.next().is_some());
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
