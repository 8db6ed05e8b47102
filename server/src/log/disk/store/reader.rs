//! What a log holds at one moment.

use std::sync::Arc;

use fanwire_protocol::{Cursor, Epoch, Matcher, Seq, Topic};
use redb::ReadTransaction;

use super::super::record;
use super::{
    Failure,
    schema::{CLASSES, EVENTS, IDS, KEY_ORDER, STATS, Stat, TOPICS},
};
use crate::{
    core::{Committed, Floors, Read},
    log::{
        Retention,
        page::{Finder, Past, wanted_only},
    },
};

/// The tables, of one moment.
pub(super) struct Reader {
    events: redb::ReadOnlyTable<u64, &'static [u8]>,
    pub(super) topics: redb::ReadOnlyTable<(&'static str, u64), ()>,
    pub(super) ids: redb::ReadOnlyTable<(&'static str, u64), ()>,
    pub(super) classes: redb::ReadOnlyTable<(u32, u64), u64>,
    stats: redb::ReadOnlyTable<u32, Stat>,
    pub(super) key_order: redb::ReadOnlyTable<u64, (&'static [u8; 16], u64)>,
}

impl Reader {
    pub(super) fn open(transaction: &ReadTransaction) -> Result<Self, Failure> {
        Ok(Self {
            events: transaction.open_table(EVENTS)?,
            topics: transaction.open_table(TOPICS)?,
            ids: transaction.open_table(IDS)?,
            classes: transaction.open_table(CLASSES)?,
            stats: transaction.open_table(STATS)?,
            key_order: transaction.open_table(KEY_ORDER)?,
        })
    }

    pub(super) fn floors(&self, retention: &Retention) -> Result<Floors, Failure> {
        let floor = |class: usize| {
            let stat = self.stats.get(class as u32)?.map(|stat| stat.value()).unwrap_or_default();
            Ok(Seq(stat.2))
        };
        (0..retention.classes().len()).map(floor).collect()
    }

    /// None if it isn't there, or isn't what was published.
    pub(super) fn event(&self, seq: Seq, epoch: Epoch) -> Result<Option<fanwire_protocol::Event>, Failure> {
        Ok(self.events.get(seq.0)?.and_then(|record| record::decode(Cursor { epoch, seq }, record.value())))
    }

    pub(super) fn newest_of(&self, topic: &str, head: Seq) -> Result<Option<Seq>, Failure> {
        let last = self.topics.range((topic, 0)..=(topic, head.0))?.next_back().transpose()?;
        Ok(last.map(|(key, _)| Seq(key.value().1)))
    }

    /// Shows a finder what a read is to look at. False if it had enough before the end.
    pub(super) fn find(
        &self,
        read: &Read,
        epoch: Epoch,
        highest_floor: Seq,
        finder: &mut Finder<'_>,
    ) -> Result<bool, Failure> {
        if read.after >= read.upto {
            return Ok(true);
        }
        let (first, last) = (read.after.next().0, read.upto.0);
        if Finder::must_scan(read) {
            let (mut expected, mut next) = (first, first.max(highest_floor.0 + 1));
            for entry in self.events.range(first..=last)? {
                let (seq, record) = entry?;
                let seq = seq.value();
                are_ordered(&[seq], expected, last)?;
                if next < seq {
                    finder.miss(Seq(next), Seq(seq - 1));
                }
                (expected, next) = (seq + 1, next.max(seq + 1));
                let cursor = Cursor { epoch, seq: Seq(seq) };
                let wanted_more = match record::decode(cursor, record.value()) {
                    Some(event) => finder.look(Arc::new(Committed::new(event))),
                    None => finder.pass_rotten(cursor.seq),
                };
                if !wanted_more {
                    return Ok(false);
                }
            }
            if next <= last {
                finder.miss(Seq(next), Seq(last));
            }
            return Ok(true);
        }
        let mut seqs = Vec::new();
        if let Some(only) = wanted_only(read) {
            for seq in only {
                // Some may have been evicted since.
                if self.events.get(seq.0)?.is_some() {
                    seqs.push(seq.0);
                }
            }
        } else if read.matchers.as_slice().contains(&Matcher::Any) {
            for entry in self.events.range(first..=last)?.take(read.events_max + 1) {
                seqs.push(entry?.0.value());
            }
            are_ordered(&seqs, first, last)?;
            // Above all that was evicted, every number has its event.
            let mut next = first.max(highest_floor.0 + 1);
            let end = (seqs.len() <= read.events_max).then_some(last + 1);
            for seq in seqs.iter().copied().chain(end) {
                if next < seq {
                    finder.miss(Seq(next), Seq(seq - 1));
                }
                next = next.max(seq + 1);
            }
        } else {
            for matcher in read.matchers.as_slice() {
                let Matcher::Exact(topic) = matcher else { continue };
                let range = (topic.as_str(), first)..=(topic.as_str(), last);
                let from = seqs.len();
                for entry in self.topics.range(range)?.take(read.events_max + 1) {
                    seqs.push(entry?.0.value().1);
                }
                are_ordered(&seqs[from..], first, last)?;
            }
            seqs.sort_unstable();
            seqs.dedup();
        }
        for seq in seqs.into_iter().map(Seq) {
            // An index that rots may lead to what nobody here has asked for.
            let event = self.event(seq, epoch)?.filter(|event| read.matchers.matches(event.draft.topics()));
            let wanted_more = match event {
                Some(event) => finder.take(Arc::new(Committed::new(event))),
                None => finder.pass_rotten(seq),
            };
            if !wanted_more {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What a log holds at one moment.
pub(super) struct PastOf<'r> {
    pub(super) reader: &'r Reader,
    pub(super) epoch: Epoch,
}

impl Past for PastOf<'_> {
    type Error = Failure;

    fn event(&self, seq: Seq) -> Result<Option<Arc<Committed>>, Failure> {
        Ok(self.reader.event(seq, self.epoch)?.map(|event| Arc::new(Committed::new(event))))
    }

    fn newest_before(&self, topic: &Topic, seq: Seq) -> Result<Option<Seq>, Failure> {
        self.reader.newest_of(topic.as_str(), Seq(seq.0.saturating_sub(1)))
    }
}

/// Whether an index gave what it was asked for: a damaged one may give anything.
fn are_ordered(seqs: &[u64], first: u64, last: u64) -> Result<(), Failure> {
    let are_within = seqs.iter().all(|seq| (first..=last).contains(seq));
    if are_within && seqs.is_sorted_by(|one, other| one < other) {
        return Ok(());
    }
    Err(redb::Error::Corrupted("an index isn't in order".to_owned()))
}
