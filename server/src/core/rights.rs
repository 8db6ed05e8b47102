//! What a subscriber may see.

use std::{collections::BTreeSet, sync::Arc};

use fanwire_protocol::{Matcher, Pattern, Topic, TopicUrl};

use super::Committed;

/// The topics that something is granted on. Looking one up takes the logarithm of the number of exact ones, and comparing it with
/// each pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    any: bool,
    /// Sorted.
    exact: Box<[Topic]>,
    /// Of one hub: they have the same base.
    patterns: Box<[Pattern]>,
}

impl Scope {
    /// Whether it covers a topic.
    pub fn covers(&self, topic: &Topic) -> bool {
        let by_pattern = || {
            let base = self.patterns.first()?.base();
            let url = TopicUrl::new(topic, base);
            self.patterns.iter().find(|pattern| pattern.matches(&url))
        };
        self.any || self.exact.binary_search(topic).is_ok() || by_pattern().is_some()
    }

    /// Whether it covers nothing.
    pub fn is_empty(&self) -> bool {
        !self.any && self.exact.is_empty() && self.patterns.is_empty()
    }

    /// Whether it covers every topic, being granted on `*`.
    pub fn is_everything(&self) -> bool {
        self.any
    }
}

impl FromIterator<Matcher> for Scope {
    fn from_iter<I: IntoIterator<Item = Matcher>>(matchers: I) -> Self {
        let (mut any, mut exact, mut patterns) = (false, BTreeSet::new(), Vec::new());
        for matcher in matchers {
            match matcher {
                Matcher::Any => any = true,
                Matcher::Exact(topic) => {
                    exact.insert(topic);
                }
                Matcher::Pattern(pattern) if patterns.contains(&pattern) => {}
                Matcher::Pattern(pattern) => patterns.push(pattern),
            }
        }
        Self { any, exact: exact.into_iter().collect(), patterns: patterns.into() }
    }
}

/// What a subscriber may see of what its matchers take: public events, and private ones of which a topic is granted to it.
/// [Mercure, Subscribers]
#[derive(Debug, Clone, Default)]
pub struct Rights(Option<Arc<Scope>>);

impl Rights {
    /// May see private events that have a topic of this scope.
    pub fn to(private: Arc<Scope>) -> Self {
        Self(Some(private).filter(|scope| !scope.is_empty()))
    }

    /// Whether an event may be seen.
    pub(crate) fn allow(&self, event: &Committed) -> bool {
        let granted = |scope: &Arc<Scope>| event.draft.topics().iter().any(|topic| scope.covers(topic));
        !event.draft.private || self.0.as_ref().is_some_and(granted)
    }
}

/// For how long a feed may be open, whatever happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// From its opening, or its renewal, in milliseconds.
    pub left_ms: u64,
    /// What is over then.
    pub of: LeaseOf,
}

/// What a [`Lease`] hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseOf {
    /// The token that let it in.
    Token,
    /// The longest life of any feed.
    Feed,
}

#[cfg(test)]
mod tests {
    use fanwire_protocol::{
        Data, Draft, Epoch, Event, Matchers, Seq,
        message::{Bye, ByeCode, Verdict},
    };

    use super::*;
    use crate::core::{Effect, FeedId, Item, Limits, Page, PageItem, ReadRequest, Shard, Start, Subscription, Time};

    fn shard_with_feed(lease: Option<Lease>) -> (Shard, FeedId) {
        shard_with_feed_after(Seq(0), lease)
    }

    fn shard_with_feed_after(after: Seq, lease: Option<Lease>) -> (Shard, FeedId) {
        let mut shard = Shard::new(Epoch::from_bits(1), Seq(20), 1, Limits::default());
        let start = Start { after, verdict: Verdict::Resumed, gap: None, told: None, latest: None, complete: false };
        let matchers = Matchers::from_iter([Matcher::Any]);
        let rights = Rights::default();
        let feed = shard
            .open(Subscription { matchers, rights, start, heartbeat_ms: 1_000, lease, newest_above: None }, Time(0));
        (shard, feed)
    }

    fn secret(seq: u64) -> PageItem {
        let mut draft = Draft::new(vec![Topic::new("a").unwrap()], Data::text("")).unwrap();
        draft.private = true;
        let cursor = fanwire_protocol::Cursor { epoch: Epoch::from_bits(1), seq: Seq(seq) };
        PageItem::Event(Arc::new(Committed::new(Event { cursor, at_ms: 0, draft })))
    }

    fn next_read(shard: &mut Shard) -> Option<ReadRequest> {
        std::iter::from_fn(|| shard.next_effect()).find_map(|effect| match effect {
            Effect::Read(request) => Some(request),
            Effect::Wake(_) => None,
        })
    }

    #[test]
    fn gaps_dont_show_what_lies_between_them() {
        let (mut shard, feed) = shard_with_feed(None);
        let mut items = vec![];
        shard.take(feed, 10, Time(0), &mut items);
        let read = next_read(&mut shard).unwrap();
        let gap = |from, to| PageItem::Gap { from: Seq(from), to: Seq(to) };
        // A page that ends with a secret, and one that begins with another.
        shard.page(feed, read.token, Page { items: vec![gap(1, 4), secret(5)], reached: Seq(5) });
        let read = next_read(&mut shard).unwrap();
        shard.tick(Time(1_500));
        items.clear();
        shard.take(feed, 10, Time(1_500), &mut items);
        assert!(matches!(&items[..], [Item::Ping(ping)] if ping.watermark.seq == Seq(0)), "{items:?}");
        let rest = vec![gap(6, 7), secret(8), gap(9, 10), secret(11)];
        shard.page(feed, read.token, Page { items: rest, reached: Seq(20) });
        items.clear();
        shard.take(feed, 10, Time(1_500), &mut items);
        let [Item::Gap(gap)] = &items[..] else { panic!("{items:?}") };
        assert_eq!((gap.from, gap.to, gap.cursor.seq), (Some(1), 10, Seq(10)));
    }

    #[test]
    fn a_change_of_a_feed_that_is_ahead_of_its_tail_holds_from_where_the_feed_is() {
        let (mut shard, feed) = shard_with_feed_after(Seq(30), None);
        shard.skip_to(Seq(25));
        assert_eq!(shard.change(feed, 1, |_| ()), Ok(Seq(30)));
    }

    #[test]
    fn a_feed_that_is_dismissed_is_cut_if_its_reader_takes_nothing() {
        let lease = Lease { left_ms: 2_000, of: LeaseOf::Token };
        let (mut shard, feed) = shard_with_feed(Some(lease));
        for (now, ended, cut) in
            [(1_900, false, false), (2_000, true, false), (2_400, true, false), (2_500, true, true)]
        {
            shard.tick(Time(now));
            assert_eq!(shard.is_cut(feed), cut, "{now}");
            assert_eq!(shard.change(feed, 1, |_| ()).is_err(), ended, "{now}");
        }
        let mut items = vec![];
        shard.take(feed, 10, Time(2_500), &mut items);
        assert!(matches!(&items[..], [Item::Bye(_)]), "nothing comes before the bye: {items:?}");
        let (mut shard, feed) = shard_with_feed(None);
        shard.dismiss(feed, Bye::terminal(ByeCode::Revoked, ""), Time(0));
        shard.take(feed, 10, Time(100), &mut items);
        assert!(matches!(&items[1], Item::Bye(bye) if bye.code == ByeCode::Revoked as u32));
        assert!(!shard.is_cut(feed));
    }
}
