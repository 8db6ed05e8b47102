//! The hub is killed at random moments under load: what was acknowledged is there, in order, once, and subscribers of every
//! transport come back by themselves and miss nothing.
//!
//! Ten times, or 200 times with `tests/durability --full`. The moments come from a seed that is printed: `TESTS_SEED=…` repeats them,
//! as far as moments can be repeated.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use fanwire_client::{Choice, HttpVersion, Publisher};
use fanwire_protocol::{Cursor, LastEventId, Seq};
use fanwire_tests::{
    HubProcess, Manner, Recorder, Way,
    checker::{Keeps, Outcome, Publication, Told},
    is_full,
};
use tokio::task::LocalSet;

#[tokio::test]
async fn what_was_acknowledged_survives_every_kill() {
    let crash = LocalSet::new().run_until(Crash::begin(&[], if is_full() { 200 } else { 10 })).await;
    let history = crash.recorder.history(Keeps::Everything, Some(crash.last));
    history.assert_kept();
    let gaps = history.subscribers.iter().flat_map(|one| &one.told).filter(|told| matches!(told, Told::Gap(_)));
    assert_eq!(gaps.count(), 0, "everything is kept");
}

#[tokio::test]
async fn what_was_lost_between_two_syncs_is_told() {
    let rounds = if is_full() { 60 } else { 3 };
    let crash = LocalSet::new().run_until(Crash::begin(&["--fsync", "50ms"], rounds)).await;
    let history = crash.recorder.history(Keeps::WhatGapsLeave, Some(crash.last));
    history.assert_kept();
    let gaps = history.subscribers.iter().flat_map(|one| &one.told).filter(|told| matches!(told, Told::Gap(_)));
    assert!(gaps.count() > 0, "no kill between two syncs");
}

/// What is left when a hub has been killed again and again.
struct Crash {
    recorder: Recorder,
    /// The last event.
    last: Cursor,
}

impl Crash {
    async fn begin(arguments: &[&str], rounds: usize) -> Self {
        let seed = std::env::var("TESTS_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
        eprintln!("TESTS_SEED={seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let data = tempfile::tempdir().unwrap();
        let keeps = ["--history-events-max", "100000000", "--history-bytes-max", "100GB", "--drain-deadline", "1s"];
        let mut hub = HubProcess::start(data.path(), &[&keeps, arguments].concat());
        let recorder = Recorder::default();
        let from_earliest =
            |hub: &HubProcess, way| hub.options(way).topic("load").unwrap().last_event_id(LastEventId::Earliest);
        for way in Way::ALL {
            recorder.follow(&format!("{way:?}"), Choice::Only(way.transport()), from_earliest(&hub, way));
        }
        recorder.all_connected().await;
        let manners = [Manner::Single, Manner::Form, Manner::Batch(7), Manner::Keyed(1), Manner::Keyed(3)];
        let load = manners.into_iter().enumerate().map(|(index, manner)| {
            let name = format!("{manner:?} {index}");
            recorder.load(&name, "load", manner, hub.options(Way::SseH1))
        });
        let load: Vec<_> = load.collect();
        recorder.acknowledged(1).await;
        for round in 0..rounds {
            // Otherwise they come back in their own time, or don't before the next kill.
            if round % 4 == 0 {
                recorder.all_reach(recorder.newest().expect("there is load")).await;
            }
            recorder.acknowledged(recorder.acknowledged_so_far() + 1).await;
            tokio::time::sleep(Duration::from_millis(rng.u64(20..300))).await;
            if round % 5 == 3 {
                // In the middle of a drain.
                hub.terminate();
                tokio::time::sleep(Duration::from_millis(rng.u64(0..40))).await;
            }
            hub.crash();
            hub.again();
        }
        for load in load {
            load.stop().await;
        }
        let mut publisher = Publisher::new(hub.options(Way::SseH1), HttpVersion::H1);
        let last = recorder.publish(&mut publisher, Manner::Single, "load", &["last".to_owned()]).await;
        let last = last[0].expect("the hub is there");
        recorder.all_reach(last).await;
        // Whoever comes only now reads what is stored. `earliest` would ask for what is left, and be told no gap.
        let zero = LastEventId::Cursor(Cursor { seq: Seq::ZERO, ..last });
        for way in Way::ALL {
            let options = from_earliest(&hub, way).last_event_id(zero.clone());
            recorder.follow(&format!("{way:?}, late"), Choice::Only(way.transport()), options);
        }
        recorder.all_reach(last).await;
        let history = recorder.history(Keeps::Everything, None);
        let (acknowledged, open) = history.outcomes();
        let is_hello = |told: &&Told| matches!(told, Told::Hello { .. });
        let hellos = history.subscribers.iter().map(|one| one.told.iter().filter(is_hello).count());
        let hellos: Vec<usize> = hellos.take(Way::ALL.len()).collect();
        eprintln!("{rounds} kills: {acknowledged} events acknowledged, {open} left open; hellos: {hellos:?}");
        assert!(acknowledged > rounds && open > 0, "there was no load");
        let is_retry = |one: &&Publication| one.tries.len() > 1 && one.tries[0].outcome == Outcome::Unknown;
        assert!(history.publications.iter().filter(is_retry).count() > 0, "nobody had to try again");
        assert!(hellos.iter().all(|&hellos| hellos > rounds / 4), "somebody didn't come back between the kills");
        Self { recorder, last }
    }
}
