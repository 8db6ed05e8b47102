//! What counting costs.
//!
//! `cargo test --release -p fanwire --lib counting_costs -- --ignored --nocapture`

use std::{hint::black_box, rc::Rc, sync::Arc, time::Instant};

use fanwire_protocol::{Cursor, Data, Draft, Epoch, Event, Seq, Topic};

use super::{Metrics, Transport};
use crate::core::{Committed, Item};

#[test]
#[ignore = "a measurement"]
fn what_counting_costs() {
    let metrics = Metrics::new();
    let shard = metrics.shard();
    let draft = Draft::new(vec![Topic::new("a").unwrap()], Data::text(&"x".repeat(128))).unwrap();
    let cursor = Cursor { epoch: Epoch::from_bits(1), seq: Seq(2) };
    let event = Rc::new(Arc::new(Committed::new(Event { cursor, at_ms: 0, draft })));
    for count in [1, 4, 64] {
        let items: Vec<Item> =
            (0..count).map(|_| Item::Event { prev: Seq(1), event: event.clone(), lossy: false }).collect();
        let mut took: Vec<f64> = (0..11)
            .map(|_| {
                let began = Instant::now();
                for _ in 0..1_000_000 / count {
                    shard.taken(Transport::SseH1, black_box(&items));
                }
                began.elapsed().as_secs_f64() * 1e9 / (1_000_000 / count * count) as f64
            })
            .collect();
        took.sort_by(f64::total_cmp);
        eprintln!("batches of {count}: {:.1} ns an event, {:.1} to {:.1} in eleven rounds", took[5], took[0], took[10]);
    }
    let began = Instant::now();
    let text = metrics.to_text();
    eprintln!("all of it as text: {:?}, {} bytes", began.elapsed(), text.len());
}
