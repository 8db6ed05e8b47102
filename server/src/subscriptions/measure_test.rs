//! What it costs that many feeds come and go.
//!
//! `cargo test --release -p fanwire --lib fifty_thousand -- --ignored --nocapture`

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fanwire_protocol::{Matcher, Matchers};

use super::{Subscriptions, registry::Registry};
use crate::auth::{Auth, Config, Holder, Shown};

#[test]
#[ignore = "a measurement"]
fn what_fifty_thousand_who_come_and_go_cost() {
    let pass = runtime().block_on(async { Auth::new(Config::default()).admit(Shown::Nothing, 0).await }).unwrap();
    let pass = Arc::new(pass);
    let holder = |id: usize| Holder { id: id as u128, pass: pass.clone() };
    let matchers: Vec<Matchers> = (0..COUNT)
        .map(|id| [Matcher::exact(&format!("https://example.com/orders/{id}")).unwrap()].into_iter().collect())
        .collect();
    let before = resident_bytes();
    let mut registry = Registry::default();
    let mut watch = Watch(Instant::now(), before);

    (0..COUNT).for_each(|id| registry.join(&holder(id), &matchers[id], 0));
    watch.says("came");
    let mut longest = Duration::ZERO;
    assert_eq!(told(&mut registry, 1_000, &mut longest), COUNT);
    watch.says("were told of");
    (0..COUNT).for_each(|id| registry.leave(id as u128, 2_000));
    watch.says("went");
    assert_eq!(told(&mut registry, 3_000, &mut longest), COUNT);
    assert_eq!(registry.len(), 0);
    watch.says("were told to be gone");
    eprintln!("500 of them took {longest:?} at the most, for which feeds that come and go wait");
    for _ in 0..10 {
        (0..COUNT).for_each(|id| registry.join(&holder(id), &matchers[id], 10_000));
        (0..COUNT).for_each(|id| registry.leave(id as u128, 10_900));
    }
    assert_eq!(told(&mut registry, 99_000, &mut longest), 0);
    watch.says("came and went within a second, ten times, of whom nothing is told");

    // Beyond the bound nobody gets in, and the feed is refused.
    let bounded = Subscriptions::new(COUNT);
    (0..COUNT).for_each(|id| bounded.join(&holder(id), &matchers[id]));
    assert!(!bounded.has_room(1));
    watch.says("fill a list that is bounded to as many");
}

/// How many are told of, so many at a time as the hub asks for, and how long each such step takes at the most.
fn told(registry: &mut Registry, now_ms: u64, longest: &mut Duration) -> usize {
    let mut count = 0;
    loop {
        let began = Instant::now();
        let drafts = registry.due(now_ms, 500);
        *longest = began.elapsed().max(*longest);
        if drafts.is_empty() {
            return count;
        }
        count += drafts.len();
    }
}

struct Watch(Instant, usize);

impl Watch {
    fn says(&mut self, what: &str) {
        let grown = resident_bytes().saturating_sub(self.1);
        eprintln!("{COUNT} {what}: {:?}, {:.1} MiB in all", self.0.elapsed(), grown as f64 / (1 << 20) as f64);
        self.0 = Instant::now();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

const COUNT: usize = 50_000;
