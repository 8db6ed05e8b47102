//! One history for each kind of wrong, and those that look wrong and aren't.

use fanwire_protocol::{
    Cursor, Epoch, Seq,
    message::{Gap, GapReason, Verdict},
};

use super::{History, Keeps, Outcome, Publication, Subscriber, Told, Try, Violation};

const TOPIC: &str = "t";

fn at(seq: u64) -> Cursor {
    in_log(1, seq)
}

fn in_log(epoch: u64, seq: u64) -> Cursor {
    Cursor { epoch: Epoch::from_bits(epoch), seq: Seq(seq) }
}

/// A publication whose first try began at a moment of its own: `begun`, in tens.
fn tried(text: &str, begun: u64, keyed: bool, outcomes: &[Outcome]) -> Publication {
    let tries = outcomes.iter().enumerate().map(|(index, &outcome)| {
        let begun = begun * 10 + 2 * index as u64;
        Try { begun, ended: begun + 1, outcome }
    });
    Publication { text: text.to_owned(), topics: vec![TOPIC.to_owned()], keyed, tries: tries.collect() }
}

fn acknowledged(text: &str, seq: u64) -> Publication {
    tried(text, seq, false, &[Outcome::Acknowledged(at(seq))])
}

fn hello(seq: u64, verdict: Verdict) -> Told {
    Told::Hello { cursor: at(seq), verdict }
}

fn event(seq: u64, text: &str) -> Told {
    Told::Event { cursor: at(seq), text: text.to_owned() }
}

fn gap(from: u64, to: u64) -> Told {
    Told::Gap(Gap { reason: GapReason::Evicted, from: Some(from), to, cursor: at(to) })
}

fn subscriber(told: Vec<Told>) -> Subscriber {
    Subscriber { name: "S".to_owned(), topics: vec![TOPIC.to_owned()], told, upto: None }
}

/// a, b and c are 1, 2 and 3, and somebody who was there from the beginning was told so much.
fn abc(told: Vec<Told>) -> History {
    let publications = vec![acknowledged("a", 1), acknowledged("b", 2), acknowledged("c", 3)];
    let told = [hello(0, Verdict::Earliest)].into_iter().chain(told).collect();
    History { publications, subscribers: vec![subscriber(told)], keeps: Keeps::Everything }
}

fn with_gaps(mut history: History) -> History {
    history.keeps = Keeps::WhatGapsLeave;
    history
}

#[track_caller]
fn right(history: &History) {
    assert_eq!(history.judge(), []);
}

/// The history is wrong in exactly these sentences.
#[track_caller]
fn wrong(history: &History, sentences: &[&str]) {
    let violations: Vec<String> = history.judge().iter().map(Violation::to_string).collect();
    assert_eq!(violations, sentences);
}

#[test]
fn what_was_acknowledged_and_delivered_once_in_order_is_right() {
    right(&History::default());
    let mut history = abc(vec![event(1, "a"), event(2, "b"), Told::Watermark(at(2)), event(3, "c")]);
    history.subscribers[0].upto = Some(at(3));
    right(&history);
    // Not asked for, not there yet, of another log: nobody has to have it.
    history.publications.push(acknowledged("later", 4));
    right(&history);
    let mut other = acknowledged("other", 0);
    (other.topics, other.tries[0].outcome) = (vec!["u".to_owned()], Outcome::Acknowledged(at(1)));
    history = History { publications: vec![other], ..abc(vec![Told::Watermark(at(3))]) };
    right(&history);
    history.subscribers[0].topics = vec!["*".to_owned()];
    assert_eq!(history.judge().len(), 1, "it did ask for it");
}

#[test]
fn lost() {
    let sentence = "S never got #0000000001:2 (\"b\"), and no gap told it so";
    wrong(&abc(vec![event(1, "a"), event(3, "c")]), &[sentence]);
    wrong(&with_gaps(abc(vec![event(1, "a"), event(3, "c")])), &[sentence]);
    wrong(&abc(vec![event(1, "a"), Told::Watermark(at(2))]), &[sentence]);
    let resumed = vec![event(1, "a"), hello(1, Verdict::Resumed), event(3, "c")];
    wrong(&abc(resumed), &[sentence]);
    // Not acknowledged, but shown to somebody else.
    let mut history = abc(vec![event(1, "a"), event(3, "c")]);
    history.publications[1] = tried("b", 2, false, &[Outcome::Unknown]);
    right(&history);
    history.subscribers.push(subscriber(vec![hello(1, Verdict::Live), event(2, "b")]));
    wrong(&history, &[sentence]);
}

#[test]
fn lost_at_the_beginning() {
    let mut history = abc(vec![event(2, "b"), event(3, "c")]);
    wrong(&history, &["S never got #0000000001:1 (\"a\"), and no gap told it so"]);
    history.subscribers[0].told[0] = hello(1, Verdict::Live);
    right(&history);
    history.subscribers[0].told[0] = hello(1, Verdict::Resumed);
    right(&history);
    history.subscribers[0].told[0] = hello(1, Verdict::Earliest);
    assert_eq!(history.judge().len(), 1);
    right(&with_gaps(history));
}

#[test]
fn lost_at_the_end() {
    let mut history = abc(vec![event(1, "a"), event(2, "b")]);
    history.subscribers[0].upto = Some(at(3));
    wrong(&history, &["S was told nothing beyond #0000000001:2, and there was something up to #0000000001:3"]);
    history.subscribers[0].told.clear();
    wrong(&history, &["S was told nothing beyond the beginning, and there was something up to #0000000001:3"]);
    history.subscribers[0].told = vec![Told::Hello { cursor: in_log(2, 9), verdict: Verdict::Live }];
    assert_eq!(history.judge().len(), 1, "a position in another log");
}

#[test]
fn given_up() {
    let history = abc(vec![event(1, "a"), gap(2, 2), event(3, "c")]);
    wrong(&history, &["S never got #0000000001:2 (\"b\"): a gap told it so, but nothing may be lost"]);
    right(&with_gaps(history));
}

#[test]
fn doubled() {
    let sentence = "S got #0000000001:2 (\"b\") more than once";
    wrong(&abc(vec![event(1, "a"), event(2, "b"), event(2, "b"), event(3, "c")]), &[sentence]);
    let resumed = vec![event(1, "a"), event(2, "b"), hello(2, Verdict::Resumed), event(2, "b"), event(3, "c")];
    wrong(&abc(resumed), &[sentence]);
}

#[test]
fn doubled_with_another_number() {
    let mut history = abc(vec![event(1, "a"), event(2, "b"), event(3, "c"), event(4, "b")]);
    let sentence = "\"b\" has the numbers #0000000001:2 #0000000001:4, and may have 1";
    wrong(&history, &[sentence]);
    // It was published twice, and once of it nobody knows the outcome.
    history.publications[1] = tried("b", 2, false, &[Outcome::Acknowledged(at(2)), Outcome::Unknown]);
    right(&history);
    history.publications[1].keyed = true;
    wrong(&history, &[sentence]);
}

#[test]
fn reordered() {
    wrong(
        &abc(vec![event(1, "a"), event(3, "c"), event(2, "b")]),
        &["S got #0000000001:2 (\"b\") after it had been brought to #0000000001:3"],
    );
    wrong(
        &abc(vec![event(1, "a"), Told::Watermark(at(2)), event(2, "b"), event(3, "c")]),
        &["S got #0000000001:2 (\"b\") after it had been brought to #0000000001:2"],
    );
}

#[test]
fn renumbered() {
    let history = abc(vec![event(1, "a"), event(2, "b"), event(5, "c")]);
    wrong(
        &history,
        &[
            "\"c\" has the numbers #0000000001:3 #0000000001:5, and may have 1",
            "S never got #0000000001:3 (\"c\"), and no gap told it so",
        ],
    );
    // Between two subscribers, of an event that was never acknowledged.
    let mut history = abc(vec![event(1, "a"), event(2, "b"), event(3, "c")]);
    history.publications[2] = tried("c", 3, false, &[Outcome::Unknown]);
    history.subscribers.push(subscriber(vec![hello(2, Verdict::Live), event(5, "c")]));
    let violations = history.judge();
    assert!(matches!(&violations[0], Violation::Multiplied { text, .. } if text == "c"), "{violations:?}");
}

#[test]
fn a_number_reused() {
    let mut history = abc(vec![event(1, "a"), event(2, "b"), event(3, "c")]);
    history.publications.push(tried("d", 3, false, &[Outcome::Unknown]));
    history.subscribers.push(subscriber(vec![hello(2, Verdict::Live), event(3, "d")]));
    wrong(&history, &["#0000000001:3 is \"c\", and \"d\" as well"]);
    // Two publishers were told the same.
    let mut history = abc(vec![]);
    history.publications.push(tried("d", 4, false, &[Outcome::Acknowledged(at(3))]));
    wrong(&history, &["#0000000001:3 is \"c\", and \"d\" as well"]);
}

#[test]
fn invented() {
    let history = abc(vec![event(1, "a"), event(2, "b"), event(3, "c"), event(4, "x")]);
    wrong(&history, &["S got #0000000001:4 (\"x\"), which nobody published"]);
}

#[test]
fn refused_and_published() {
    let mut history = abc(vec![event(1, "a"), event(2, "b"), event(3, "c"), event(4, "x")]);
    history.publications.push(tried("x", 4, false, &[Outcome::Refused]));
    wrong(&history, &["S got #0000000001:4 (\"x\"), which was refused"]);
    history.publications[3].tries.push(Try { begun: 50, ended: 51, outcome: Outcome::Acknowledged(at(4)) });
    right(&history);
}

#[test]
fn not_asked_for() {
    let mut history = abc(vec![event(1, "a"), event(2, "b"), event(3, "c")]);
    history.publications[1].topics = vec!["u".to_owned()];
    wrong(&history, &["S got #0000000001:2 (\"b\"), and hadn't asked for its topics"]);
    history.publications[1].topics.push(TOPIC.to_owned());
    right(&history);
}

#[test]
fn a_gap_missing() {
    let sentence = "S never got #0000000001:2 (\"b\"), and no gap told it so";
    let history = with_gaps(abc(vec![event(1, "a"), gap(3, 3)]));
    wrong(&history, &[sentence]);
    let history = with_gaps(abc(vec![event(1, "a"), gap(2, 3), event(4, "d")]));
    wrong(&history, &["S got #0000000001:4 (\"d\"), which nobody published"]);
}

#[test]
fn a_gap_over_a_delivered_event() {
    let history = with_gaps(abc(vec![event(1, "a"), event(2, "b"), gap(2, 3)]));
    wrong(&history, &["S was told that 2 to 3 are missing, and got #0000000001:2 (\"b\")"]);
    let history = with_gaps(abc(vec![event(1, "a"), gap(2, 3), hello(3, Verdict::Resumed), event(3, "c")]));
    let violations = history.judge();
    assert!(violations.iter().any(|one| matches!(one, Violation::GapOverDelivered { .. })), "{violations:?}");
}

#[test]
fn an_attempt_without_answer_may_be_there_once() {
    let mut history = abc(vec![event(1, "a"), event(2, "b"), event(3, "c")]);
    history.publications.push(tried("x", 4, false, &[Outcome::Unknown]));
    right(&history);
    history.subscribers[0].told.push(event(4, "x"));
    right(&history);
    history.subscribers[0].told.push(event(5, "x"));
    wrong(&history, &["\"x\" has the numbers #0000000001:4 #0000000001:5, and may have 1"]);
    history.publications[3] = tried("x", 4, false, &[Outcome::Unknown, Outcome::Unknown]);
    right(&history);
    history.publications[3].keyed = true;
    assert_eq!(history.judge().len(), 1);
}

#[test]
fn a_keyed_event_whose_retry_was_acknowledged_is_there_exactly_once() {
    let outcomes = [Outcome::Unknown, Outcome::Acknowledged(at(4))];
    let mut history = abc(vec![event(1, "a"), event(2, "b"), event(3, "c"), event(4, "x")]);
    history.publications.push(tried("x", 4, true, &outcomes));
    right(&history);
    history.subscribers[0].told.push(event(5, "x"));
    wrong(&history, &["\"x\" has the numbers #0000000001:4 #0000000001:5, and may have 1"]);
    history.subscribers[0].told.truncate(4);
    history.subscribers[0].told.push(Told::Watermark(at(5)));
    wrong(&history, &["S never got #0000000001:4 (\"x\"), and no gap told it so"]);
    // A retry that is told another number than the first try was.
    let outcomes = [Outcome::Acknowledged(at(4)), Outcome::Acknowledged(at(5))];
    let mut history = abc(vec![event(1, "a"), event(2, "b"), event(3, "c")]);
    history.publications.push(tried("x", 4, true, &outcomes));
    wrong(&history, &["\"x\" has the numbers #0000000001:4 #0000000001:5, and may have 1"]);
    // A retry after others were acknowledged gets what the first try made.
    let outcomes = [Outcome::Unknown, Outcome::Acknowledged(at(1))];
    let mut history = abc(vec![event(1, "x"), event(2, "b"), event(3, "c")]);
    history.publications[0] = tried("x", 1, true, &outcomes);
    (history.publications[0].tries[1].begun, history.publications[0].tries[1].ended) = (90, 91);
    right(&history);
}

#[test]
fn a_key_may_be_lost_with_its_event_and_only_so() {
    let mut history = abc(vec![event(1, "a"), event(2, "b"), event(3, "c"), gap(4, 4), event(5, "x")]);
    history.publications.push(tried("x", 4, true, &[Outcome::Unknown, Outcome::Acknowledged(at(5))]));
    history.subscribers.push(subscriber(vec![hello(3, Verdict::Live), event(4, "x"), event(5, "x")]));
    let sentence = "\"x\" has the numbers #0000000001:4 #0000000001:5, and may have 1";
    assert_eq!(history.judge()[0].to_string(), sentence);
    let mut history = with_gaps(history);
    right(&history);
    // Nobody was told that the first is lost, so it isn't.
    history.subscribers[0].told[4] = Told::Watermark(at(3));
    assert_eq!(history.judge()[0].to_string(), sentence);
}

#[test]
fn out_of_time() {
    let mut history = abc(vec![event(1, "a"), event(2, "b"), event(3, "c")]);
    // c was sent and acknowledged before b was sent.
    (history.publications[2].tries[0].begun, history.publications[2].tries[0].ended) = (15, 16);
    let sentence = "\"b\" was sent after #0000000001:3 had been acknowledged, and was acknowledged as #0000000001:2";
    wrong(&history, &[sentence]);
    // At the same time: any order will do.
    history.publications[2].tries[0].ended = 25;
    right(&history);
}

#[test]
fn another_log_without_a_gap() {
    let new = |told: Vec<Told>| {
        let mut history = with_gaps(abc(vec![event(1, "a")]));
        let born = tried("n", 9, false, &[Outcome::Acknowledged(in_log(2, 1))]);
        history.publications.push(born);
        history.subscribers[0].told.push(Told::Hello { cursor: in_log(2, 0), verdict: Verdict::NewEpoch });
        history.subscribers[0].told.extend(told);
        history
    };
    let gap = Told::Gap(Gap { reason: GapReason::NewEpoch, from: None, to: 0, cursor: in_log(2, 0) });
    let event = Told::Event { cursor: in_log(2, 1), text: "n".to_owned() };
    let history = new(vec![gap.clone(), event.clone()]);
    right(&history);
    let everything = History { keeps: Keeps::Everything, ..history };
    assert!(matches!(everything.judge()[..], [Violation::GivenUp { .. }, Violation::GivenUp { .. }]), "b and c");
    // Cut before the gap came: the client comes back with the position that it had.
    let again = Told::Hello { cursor: in_log(2, 0), verdict: Verdict::NewEpoch };
    right(&new(vec![again, gap.clone(), event.clone()]));
    let sentence = "S came from #0000000001:1 to #0000000002:1 without the gap that was due";
    wrong(&new(vec![event.clone()]), &[sentence]);
    let silently = History { subscribers: vec![subscriber(vec![event])], ..new(vec![]) };
    wrong(&silently, &["S was told #0000000002:1 (\"n\") before any hello"]);
}

#[test]
fn misplaced() {
    let resumed = |seq, verdict| {
        let told = vec![event(1, "a"), event(2, "b"), hello(seq, verdict), event(3, "c")];
        abc(told)
    };
    right(&resumed(2, Verdict::Resumed));
    wrong(&resumed(1, Verdict::Resumed), &["S was at #0000000001:2, and was made to start at #0000000001:1 (Resumed)"]);
    wrong(&resumed(2, Verdict::Live), &["S was at #0000000001:2, and was made to start at #0000000001:2 (Live)"]);
    assert_eq!(resumed(0, Verdict::UnknownCursor).judge().len(), 1, "a number that was given out is disowned");
}
