//! How a history is judged.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
};

use fanwire_protocol::{
    Cursor, Epoch, Seq,
    message::{Gap, Verdict},
};

use super::{History, Keeps, Outcome, Publication, Subscriber, Told, Violation};

pub(super) fn judge(history: &History) -> Vec<Violation> {
    let published: HashMap<_, _> =
        history.publications.iter().map(|publication| (&*publication.text, publication)).collect();
    assert_eq!(published.len(), history.publications.len(), "two events with one text can't be told apart");
    let mut judge =
        Judge { history, published, known: HashMap::new(), numbers: HashMap::new(), violations: Vec::new() };
    judge.acknowledgements();
    let paths: Vec<Path<'_>> = history.subscribers.iter().map(|subscriber| judge.follow(subscriber)).collect();
    judge.count_numbers(&paths);
    for path in &paths {
        judge.find_losses(path);
    }
    judge.violations
}

struct Judge<'h> {
    history: &'h History,
    published: HashMap<&'h str, &'h Publication>,
    /// What has which number, as acknowledged or delivered to anyone.
    known: HashMap<Epoch, BTreeMap<Seq, &'h str>>,
    /// The other way round.
    numbers: HashMap<&'h str, BTreeSet<(String, Seq)>>,
    violations: Vec<Violation>,
}

/// The way of one subscriber through one log after the other.
struct Path<'h> {
    subscriber: &'h Subscriber,
    logs: Vec<Stretch<'h>>,
    position: Option<Cursor>,
    /// The hub has taken the position for a stranger's, and has to tell the gap next.
    gap_due: Option<Cursor>,
}

/// What one subscriber was told of one log.
struct Stretch<'h> {
    epoch: Epoch,
    /// It has to know what is in here.
    promised: RangeInclusive<u64>,
    delivered: BTreeMap<Seq, &'h str>,
    gaps: Vec<RangeInclusive<u64>>,
}

impl<'h> Judge<'h> {
    /// What was sent after something was acknowledged has a higher number.
    fn acknowledgements(&mut self) {
        let mut logs: HashMap<Epoch, Vec<Acknowledged<'h>>> = HashMap::new();
        for publication in &self.history.publications {
            let first = publication.tries.first().map_or(0, |first| first.begun);
            for one in &publication.tries {
                let Outcome::Acknowledged(cursor) = one.outcome else { continue };
                self.note(cursor, &publication.text);
                // A retry may be answered with what an earlier try has made.
                let begun = if publication.keyed { first } else { one.begun };
                let acknowledged = Acknowledged { begun, ended: one.ended, cursor, text: &publication.text };
                logs.entry(cursor.epoch).or_default().push(acknowledged);
            }
        }
        for mut by_begin in logs.into_values() {
            let mut by_end = by_begin.clone();
            by_begin.sort_unstable_by_key(|one| one.begun);
            by_end.sort_unstable_by_key(|one| one.ended);
            let (mut ended, mut highest) = (by_end.iter().peekable(), None::<Cursor>);
            for one in by_begin {
                while let Some(before) = ended.next_if(|before| before.ended < one.begun) {
                    highest = highest.filter(|highest| highest.seq > before.cursor.seq).or(Some(before.cursor));
                }
                if let Some(earlier) = highest.filter(|highest| highest.seq > one.cursor.seq) {
                    let (text, cursor) = (one.text.to_owned(), one.cursor);
                    self.violations.push(Violation::OutOfTime { text, cursor, earlier });
                }
            }
        }
    }

    /// Notes that an event has a number.
    fn note(&mut self, cursor: Cursor, text: &'h str) {
        let one = *self.known.entry(cursor.epoch).or_default().entry(cursor.seq).or_insert(text);
        if one != text {
            let reused = Violation::NumberReused { cursor, one: one.to_owned(), other: text.to_owned() };
            // Every subscriber shows it again.
            if !self.violations.contains(&reused) {
                self.violations.push(reused);
            }
        }
        self.numbers.entry(text).or_default().insert((cursor.epoch.to_string(), cursor.seq));
    }

    /// Goes through what a subscriber was told, and judges what can be judged on the way.
    fn follow(&mut self, subscriber: &'h Subscriber) -> Path<'h> {
        let mut path = Path { subscriber, logs: Vec::new(), position: None, gap_due: None };
        for told in &subscriber.told {
            match told {
                Told::Hello { cursor, verdict } => self.hello(&mut path, *cursor, *verdict),
                Told::Event { cursor, text } => self.event(&mut path, *cursor, text),
                Told::Gap(gap) => self.gap(&mut path, gap),
                Told::Watermark(cursor) => {
                    if self.is_here(&mut path, *cursor, || format!("a watermark of {cursor}")) {
                        path.advance(*cursor);
                    }
                }
            }
        }
        if let Some(upto) = subscriber.upto
            && path.position.is_none_or(|position| position.epoch != upto.epoch || position.seq < upto.seq)
        {
            let reached = path.position.map_or_else(|| "the beginning".to_owned(), |position| position.to_string());
            self.violations.push(Violation::Stopped { subscriber: subscriber.name.clone(), reached, upto });
        }
        path
    }

    fn hello(&mut self, path: &mut Path<'h>, cursor: Cursor, verdict: Verdict) {
        let subscriber = || path.subscriber.name.clone();
        match (path.position, verdict) {
            // Whoever came with a position of another log doesn't have one of this until the gap.
            (Some(position), Verdict::NewEpoch) if position.epoch != cursor.epoch => path.gap_due = Some(cursor),
            (None, Verdict::NewEpoch | Verdict::UnknownCursor) => {
                path.gap_due = Some(cursor);
                path.enter(cursor);
            }
            (None, _) => {
                path.enter(cursor);
                if verdict == Verdict::Earliest && self.history.keeps == Keeps::Everything {
                    path.promise_from(0);
                }
            }
            (Some(position), Verdict::Resumed) if position == cursor => path.gap_due = None,
            (Some(position), verdict) => {
                let subscriber = subscriber();
                self.violations.push(Violation::Misplaced { subscriber, position, hello: cursor, verdict });
                path.gap_due = None;
            }
        }
    }

    fn event(&mut self, path: &mut Path<'h>, cursor: Cursor, text: &'h str) {
        if !self.is_here(path, cursor, || format!("{cursor} ({text:?})")) {
            return;
        }
        let (subscriber, owned) = (path.subscriber.name.clone(), text.to_owned());
        match self.published.get(text) {
            None => return self.violations.push(Violation::Invented { subscriber, cursor, text: owned }),
            Some(publication) if publication.events_max() == 0 => {
                self.violations.push(Violation::Refused { subscriber, cursor, text: owned });
            }
            Some(publication) if !publication.is_for(&path.subscriber.topics) => {
                self.violations.push(Violation::Unasked { subscriber, cursor, text: owned });
            }
            Some(_) => {}
        }
        self.note(cursor, text);
        let Some(log) = path.logs.last_mut() else { return };
        let (subscriber, text) = (path.subscriber.name.clone(), text.to_owned());
        if log.delivered.insert(cursor.seq, &self.published[&*text].text).is_some() {
            self.violations.push(Violation::Repeated { subscriber, cursor, text });
        } else if let Some(after) = path.position.filter(|position| position.seq >= cursor.seq) {
            self.violations.push(Violation::Reordered { subscriber, cursor, text, after });
        }
        path.advance(cursor);
    }

    fn gap(&mut self, path: &mut Path<'h>, gap: &Gap) {
        match path.gap_due.take() {
            Some(hello) => {
                if let Some(log) = path.logs.last_mut().filter(|log| log.epoch != hello.epoch) {
                    // All that was behind the position is lost with its log.
                    let after = path.position.map_or(0, |position| position.seq.0);
                    log.promised = *log.promised.start()..=u64::MAX;
                    log.gaps.push(after + 1..=u64::MAX);
                    path.enter(hello);
                }
                path.promise_from(0);
            }
            None if !self.is_here(path, gap.cursor, || format!("of a gap to {}", gap.cursor)) => return,
            None => {}
        }
        let after = path.position.map_or(0, |position| position.seq.0);
        let Some(log) = path.logs.last_mut() else { return };
        let from = gap.from.unwrap_or(if log.delivered.is_empty() { 1 } else { after + 1 });
        log.gaps.push(from..=gap.to);
        path.advance(gap.cursor);
    }

    /// Whether something may follow where the subscriber is: it was greeted, and is in this log.
    fn is_here(&mut self, path: &mut Path<'h>, cursor: Cursor, what: impl FnOnce() -> String) -> bool {
        let subscriber = path.subscriber.name.clone();
        let Some(position) = path.position else {
            self.violations.push(Violation::NoHello { subscriber, what: what() });
            return false;
        };
        if path.gap_due.take().is_some() || position.epoch != cursor.epoch {
            let from = position.to_string();
            self.violations.push(Violation::GapMissing { subscriber, from, to: cursor });
            path.enter(Cursor { seq: Seq(cursor.seq.0.saturating_sub(1)), ..cursor });
        }
        true
    }

    /// No event has more numbers than it may have. Where loss is allowed, an event may be lost with its key; a try again makes a new one.
    fn count_numbers(&mut self, paths: &[Path<'h>]) {
        let may_be_lost = |numbers: &BTreeSet<(String, Seq)>| {
            let gaps =
                paths.iter().flat_map(|path| &path.logs).flat_map(|log| log.gaps.iter().map(|gap| (log.epoch, gap)));
            let gaps: Vec<(String, &RangeInclusive<u64>)> = gaps.map(|(epoch, gap)| (epoch.to_string(), gap)).collect();
            numbers
                .iter()
                .filter(|(epoch, seq)| gaps.iter().any(|(of, gap)| of == epoch && gap.contains(&seq.0)))
                .count()
        };
        for publication in &self.history.publications {
            let Some(numbers) = self.numbers.get(&*publication.text) else { continue };
            let allowed = publication.events_max();
            // One that was refused has been told of.
            if numbers.len() > allowed.max(1) {
                let lost = if publication.keyed && self.history.keeps == Keeps::WhatGapsLeave {
                    may_be_lost(numbers)
                } else {
                    0
                };
                if numbers.len() - lost <= allowed {
                    continue;
                }
                let numbers: Vec<String> = numbers.iter().map(|(epoch, seq)| format!("#{epoch}:{seq}")).collect();
                let (text, numbers) = (publication.text.clone(), numbers.join(" "));
                self.violations.push(Violation::Multiplied { text, numbers, allowed });
            }
        }
    }

    /// What a subscriber asked for and didn't get lies in its gaps, and nothing that it got does.
    fn find_losses(&mut self, path: &Path<'h>) {
        let (asked, subscriber) = (&path.subscriber.topics, &path.subscriber.name);
        for log in &path.logs {
            for gap in log.gaps.iter().filter(|gap| !gap.is_empty()) {
                let inside = log.delivered.range(Seq(*gap.start())..=Seq(*gap.end()));
                self.violations.extend(inside.map(|(&seq, &text)| Violation::GapOverDelivered {
                    subscriber: subscriber.clone(),
                    from: *gap.start(),
                    to: *gap.end(),
                    cursor: Cursor { epoch: log.epoch, seq },
                    text: text.to_owned(),
                }));
            }
            if log.promised.is_empty() {
                continue;
            }
            let Some(known) = self.known.get(&log.epoch) else { continue };
            for (&seq, &text) in known.range(Seq(*log.promised.start())..=Seq(*log.promised.end())) {
                let is_asked = self.published.get(text).is_some_and(|publication| publication.is_for(asked));
                if !is_asked || log.delivered.contains_key(&seq) {
                    continue;
                }
                let (subscriber, text) = (subscriber.clone(), text.to_owned());
                let cursor = Cursor { epoch: log.epoch, seq };
                if !log.gaps.iter().any(|gap| gap.contains(&seq.0)) {
                    self.violations.push(Violation::Lost { subscriber, cursor, text });
                } else if self.history.keeps == Keeps::Everything {
                    self.violations.push(Violation::GivenUp { subscriber, cursor, text });
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Acknowledged<'h> {
    begun: u64,
    ended: u64,
    cursor: Cursor,
    text: &'h str,
}

impl Path<'_> {
    /// From here on it is in this log.
    fn enter(&mut self, cursor: Cursor) {
        if self.logs.last().is_none_or(|log| log.epoch != cursor.epoch) {
            let promised = cursor.seq.0 + 1..=cursor.seq.0;
            let (delivered, gaps) = (BTreeMap::new(), Vec::new());
            self.logs.push(Stretch { epoch: cursor.epoch, promised, delivered, gaps });
        }
        self.position = Some(cursor);
    }

    /// It has to know what is behind this number, too.
    fn promise_from(&mut self, after: u64) {
        if let Some(log) = self.logs.last_mut() {
            log.promised = after + 1..=*log.promised.end();
        }
    }

    /// It is complete up to here.
    fn advance(&mut self, cursor: Cursor) {
        if self.position.is_none_or(|position| position.epoch != cursor.epoch || position.seq < cursor.seq) {
            self.position = Some(cursor);
        }
        if let Some(log) = self.logs.last_mut() {
            log.promised = *log.promised.start()..=(*log.promised.end()).max(cursor.seq.0);
        }
    }
}
