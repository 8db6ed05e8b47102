//! Right histories, made up at random, of which each becomes wrong in every way that there is.

use std::collections::BTreeMap;

use fanwire_protocol::{
    Cursor, Epoch, Seq,
    message::{Gap, GapReason, Verdict},
};
use fastrand::Rng;

use super::{History, Keeps, Outcome, Publication, Subscriber, Told, Try, Violation};

const SEEDS: u64 = 400;
const TOPICS: [&str; 2] = ["t", "u"];

#[test]
fn a_history_that_was_made_wrong_is_found_out() {
    let mut applied = [0; MUTATIONS.len()];
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        let right = make(&mut rng);
        assert_eq!(right.judge(), [], "seed {seed}");
        for (index, (name, mutate, is_expected)) in MUTATIONS.iter().enumerate() {
            let mut wrong = right.clone();
            if mutate(&mut wrong, &mut rng).is_none() {
                continue;
            }
            applied[index] += 1;
            let violations = wrong.judge();
            assert!(violations.iter().any(is_expected), "seed {seed}, {name}: {violations:?}");
        }
    }
    for ((name, ..), applied) in MUTATIONS.iter().zip(applied) {
        assert!(applied > SEEDS / 10, "{name} could be done only {applied} times");
    }
}

type Mutate = fn(&mut History, &mut Rng) -> Option<()>;
type IsExpected = fn(&Violation) -> bool;

/// What to do to a history, and what the judge has to say of it, perhaps among other things. None where it can't be done.
const MUTATIONS: [(&str, Mutate, IsExpected); 13] = [
    ("lose", lose, |found| matches!(found, Violation::Lost { .. })),
    ("lose the end", lose_end, |found| matches!(found, Violation::Stopped { .. })),
    ("double", double, |found| matches!(found, Violation::Repeated { .. })),
    ("reorder", reorder, |found| matches!(found, Violation::Reordered { .. })),
    ("renumber", renumber, |found| matches!(found, Violation::Multiplied { .. })),
    ("swap texts", swap_texts, |found| matches!(found, Violation::NumberReused { .. })),
    ("invent", invent, |found| matches!(found, Violation::Invented { .. })),
    ("publish what was refused", refuse, |found| matches!(found, Violation::Refused { .. })),
    ("leave a gap out", leave_gap_out, |found| matches!(found, Violation::Lost { .. })),
    ("widen a gap", widen_gap, |found| matches!(found, Violation::GapOverDelivered { .. })),
    ("allow no loss", allow_no_loss, |found| matches!(found, Violation::GivenUp { .. })),
    ("acknowledge another number", acknowledge_other, |found| matches!(found, Violation::Multiplied { .. })),
    ("resume elsewhere", resume_elsewhere, |found| matches!(found, Violation::Misplaced { .. })),
];

fn at(seq: u64) -> Cursor {
    Cursor { epoch: Epoch::from_bits(7), seq: Seq(seq) }
}

/// A hub without a fault: publishers, an order, and subscribers that come, go and are told of a stretch that was lost.
fn make(rng: &mut Rng) -> History {
    let (mut publications, mut log) = (Vec::new(), BTreeMap::new());
    let (mut seq, mut moment) = (0, 0);
    for number in 0..rng.usize(6..30) {
        let (keyed, skip, fate) = (rng.bool(), rng.u64(1..3), rng.u8(0..10));
        let topic = TOPICS[rng.usize(0..2)];
        let mut tries = Vec::new();
        let mut attempt = |outcome| {
            tries.push(Try { begun: moment, ended: moment + 1, outcome });
            moment += 2;
        };
        let text = number.to_string();
        let mut store = || {
            seq += skip;
            log.insert(seq, (topic, text.clone()));
            at(seq)
        };
        match fate {
            0 => attempt(Outcome::Refused),
            1 => attempt(Outcome::Unknown),
            2 => {
                store();
                attempt(Outcome::Unknown);
            }
            3 if keyed => {
                let cursor = store();
                attempt(Outcome::Unknown);
                attempt(Outcome::Acknowledged(cursor));
                attempt(Outcome::Acknowledged(cursor));
            }
            _ => attempt(Outcome::Acknowledged(store())),
        }
        publications.push(Publication { text, topics: vec![topic.to_owned()], keyed, tries });
    }
    let first_lost = rng.u64(0..=seq);
    let lost = first_lost..=rng.u64(first_lost..=seq);
    let subscribers = (0..rng.usize(2..5)).map(|_| subscriber(rng, &log, seq, &lost)).collect();
    History { publications, subscribers, keeps: Keeps::WhatGapsLeave }
}

fn subscriber(
    rng: &mut Rng,
    log: &BTreeMap<u64, (&str, String)>,
    head: u64,
    lost: &std::ops::RangeInclusive<u64>,
) -> Subscriber {
    let topics: Vec<String> = match rng.u8(0..3) {
        0 => vec![TOPICS[0].to_owned()],
        1 => TOPICS.map(str::to_owned).to_vec(),
        _ => vec!["*".to_owned()],
    };
    let start = if rng.bool() { 0 } else { rng.u64(0..=head) };
    let verdict = if start == 0 { Verdict::Earliest } else { Verdict::Live };
    let mut told = vec![Told::Hello { cursor: at(start), verdict }];
    // What it was told of, and what is to be told next.
    let (mut said, mut next, mut late) = (start, start + 1, false);
    while said < head {
        if late && lost.contains(&next) {
            said = *lost.end();
            told.push(Told::Gap(Gap { reason: GapReason::Evicted, from: Some(next), to: said, cursor: at(said) }));
            next = said;
        } else if let Some((topic, text)) = log.get(&next)
            && topics.iter().any(|asked| asked == "*" || asked == topic)
        {
            told.push(Told::Event { cursor: at(next), text: text.clone() });
            said = next;
        } else if rng.u8(0..3) == 0 || next == head {
            told.push(Told::Watermark(at(next)));
            said = next;
        }
        next += 1;
        if rng.u8(0..6) == 0 {
            told.push(Told::Hello { cursor: at(said), verdict: Verdict::Resumed });
            (next, late) = (said + 1, rng.bool());
        }
    }
    Subscriber { name: "S".to_owned(), topics, told, upto: Some(at(head)) }
}

/// One of the places in what was told that are of some kind: whose, and where.
fn pick(history: &History, rng: &mut Rng, is: impl Fn(&Subscriber, usize) -> bool) -> Option<(usize, usize)> {
    let places = history.subscribers.iter().enumerate();
    let places = places.flat_map(|(who, subscriber)| (0..subscriber.told.len()).map(move |at| (who, at)));
    let all: Vec<_> = places.filter(|&(who, at)| is(&history.subscribers[who], at)).collect();
    rng.choice(all)
}

fn text(told: &Told) -> Option<&str> {
    match told {
        Told::Event { text, .. } => Some(text),
        _ => None,
    }
}

fn number(told: &Told) -> u64 {
    match told {
        Told::Hello { cursor, .. } | Told::Event { cursor, .. } | Told::Watermark(cursor) => cursor.seq.0,
        Told::Gap(gap) => gap.cursor.seq.0,
    }
}

/// The number that an event was acknowledged with.
fn acknowledged(publication: &Publication) -> Option<u64> {
    publication.tries.iter().find_map(|one| match one.outcome {
        Outcome::Acknowledged(cursor) => Some(cursor.seq.0),
        _ => None,
    })
}

/// The texts that were acknowledged and can be one event only.
fn certain(history: &History) -> Vec<String> {
    let certain = history.publications.iter().filter(|one| acknowledged(one).is_some() && one.events_max() == 1);
    certain.map(|one| one.text.clone()).collect()
}

/// Those of them that had no key: a key may be lost with its event, and the event be published again.
fn certain_without_key(history: &History) -> Vec<String> {
    let keyed = |text: &String| history.publications.iter().any(|one| one.keyed && one.text == *text);
    certain(history).into_iter().filter(|text| !keyed(text)).collect()
}

fn is_one_of(told: &Told, texts: &[String]) -> bool {
    text(told).is_some_and(|text| texts.iter().any(|one| one == text))
}

fn lose(history: &mut History, rng: &mut Rng) -> Option<()> {
    let certain = certain(history);
    let (who, at) = pick(history, rng, |subscriber, at| {
        let (event, last) = (&subscriber.told[at], subscriber.told.last().map(number));
        is_one_of(event, &certain) && last > Some(number(event))
    })?;
    history.subscribers[who].told.remove(at);
    Some(())
}

fn lose_end(history: &mut History, rng: &mut Rng) -> Option<()> {
    let (who, _) = pick(history, rng, |_, _| true)?;
    let subscriber = &mut history.subscribers[who];
    let upto = subscriber.upto?.seq.0;
    subscriber.told.retain(|told| number(told) < upto);
    Some(())
}

fn double(history: &mut History, rng: &mut Rng) -> Option<()> {
    let (who, at) = pick(history, rng, |subscriber, at| text(&subscriber.told[at]).is_some())?;
    let again = history.subscribers[who].told[at].clone();
    let later = rng.usize(at..history.subscribers[who].told.len());
    history.subscribers[who].told.insert(later + 1, again);
    Some(())
}

fn reorder(history: &mut History, rng: &mut Rng) -> Option<()> {
    let (who, at) = pick(history, rng, |subscriber, at| {
        text(&subscriber.told[at]).is_some() && subscriber.told[at + 1..].iter().any(|told| text(told).is_some())
    })?;
    let told = &mut history.subscribers[who].told;
    let other = (at + 1..told.len()).find(|&other| text(&told[other]).is_some())?;
    told.swap(at, other);
    Some(())
}

fn renumber(history: &mut History, rng: &mut Rng) -> Option<()> {
    let certain = certain_without_key(history);
    let (who, place) = pick(history, rng, |subscriber, at| is_one_of(&subscriber.told[at], &certain))?;
    if let Told::Event { cursor, .. } = &mut history.subscribers[who].told[place] {
        *cursor = at(1000);
    }
    Some(())
}

fn swap_texts(history: &mut History, rng: &mut Rng) -> Option<()> {
    let certain = certain(history);
    let (who, one) = pick(history, rng, |subscriber, at| is_one_of(&subscriber.told[at], &certain))?;
    let told = &mut history.subscribers[who].told;
    let other = (0..told.len()).find(|&other| other != one && is_one_of(&told[other], &certain))?;
    let texts = [one, other].map(|at| text(&told[at]).unwrap().to_owned());
    for (place, new) in [(one, &texts[1]), (other, &texts[0])] {
        if let Told::Event { text, .. } = &mut told[place] {
            text.clone_from(new);
        }
    }
    Some(())
}

fn invent(history: &mut History, rng: &mut Rng) -> Option<()> {
    let (who, place) = pick(history, rng, |subscriber, at| text(&subscriber.told[at]).is_some())?;
    if let Told::Event { text, .. } = &mut history.subscribers[who].told[place] {
        *text = "nobody's".to_owned();
    }
    Some(())
}

fn refuse(history: &mut History, rng: &mut Rng) -> Option<()> {
    let (who, at) = pick(history, rng, |subscriber, at| text(&subscriber.told[at]).is_some())?;
    let text = text(&history.subscribers[who].told[at])?.to_owned();
    let publication = history.publications.iter_mut().find(|one| one.text == text)?;
    publication.tries.iter_mut().for_each(|one| one.outcome = Outcome::Refused);
    Some(())
}

/// A gap that leaves out something that was acknowledged and asked for.
fn pick_gap(history: &History, rng: &mut Rng) -> Option<(usize, usize, Gap)> {
    let (who, at) = pick(history, rng, |subscriber, at| {
        let Told::Gap(gap) = &subscriber.told[at] else { return false };
        history.publications.iter().any(|publication| {
            publication.is_for(&subscriber.topics)
                && acknowledged(publication).is_some_and(|seq| gap.contains(Seq(seq)))
        })
    })?;
    match history.subscribers[who].told[at] {
        Told::Gap(gap) => Some((who, at, gap)),
        _ => None,
    }
}

fn leave_gap_out(history: &mut History, rng: &mut Rng) -> Option<()> {
    let (who, at, gap) = pick_gap(history, rng)?;
    history.subscribers[who].told[at] = Told::Watermark(gap.cursor);
    Some(())
}

fn widen_gap(history: &mut History, rng: &mut Rng) -> Option<()> {
    let (who, at) = pick(history, rng, |subscriber, at| {
        matches!(subscriber.told[at], Told::Gap(_)) && subscriber.told[..at].iter().any(|told| text(told).is_some())
    })?;
    let told = &mut history.subscribers[who].told;
    let delivered = told[..at].iter().find(|told| text(told).is_some()).map(number);
    if let Told::Gap(gap) = &mut told[at] {
        gap.from = delivered;
    }
    Some(())
}

fn allow_no_loss(history: &mut History, rng: &mut Rng) -> Option<()> {
    pick_gap(history, rng)?;
    history.keeps = Keeps::Everything;
    Some(())
}

fn acknowledge_other(history: &mut History, rng: &mut Rng) -> Option<()> {
    let certain = certain_without_key(history);
    let (who, place) = pick(history, rng, |subscriber, at| is_one_of(&subscriber.told[at], &certain))?;
    let text = text(&history.subscribers[who].told[place])?.to_owned();
    let publication = history.publications.iter_mut().find(|one| one.text == text)?;
    for one in &mut publication.tries {
        if matches!(one.outcome, Outcome::Acknowledged(_)) {
            one.outcome = Outcome::Acknowledged(at(1000));
        }
    }
    Some(())
}

fn resume_elsewhere(history: &mut History, rng: &mut Rng) -> Option<()> {
    let is_resumed = |told: &Told| matches!(told, Told::Hello { verdict: Verdict::Resumed, .. });
    let (who, place) = pick(history, rng, |subscriber, at| is_resumed(&subscriber.told[at]))?;
    if let Told::Hello { cursor, .. } = &mut history.subscribers[who].told[place] {
        let back = rng.bool() && cursor.seq.0 > 0;
        cursor.seq.0 = if back { cursor.seq.0 - 1 } else { cursor.seq.0 + 1 };
    }
    Some(())
}
