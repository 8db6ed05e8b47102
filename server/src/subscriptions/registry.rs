//! The list itself: plain data and functions of the time that comes in.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use fanwire_protocol::{Data, Draft, EventType, MatchType, Matcher, Matchers, Topic};
use serde_json::value::RawValue;

use super::{
    COALESCED, Next, Piece, Place, Subscriber,
    document::{Document, Kind, event_topic},
    mercure0,
};
use crate::auth::{Holder, Pass};

/// One matcher of one feed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) match_type: MatchType,
    pub(super) text: Arc<str>,
    pub(super) subscriber: u128,
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    feeds: HashMap<u128, Feed>,
    /// Every subscription that is, or whose end isn't told yet.
    entries: BTreeMap<Key, Entry>,
    /// What is to be told, by when it is due and the order in which it came. Each entry is here at most once.
    waiting: BTreeMap<(u64, u64), Key>,
    serial: u64,
    version: u64,
    tells_mercure0: bool,
}

#[derive(Debug)]
struct Feed {
    pass: Arc<Pass>,
    matchers: Matchers,
}

#[derive(Debug)]
struct Entry {
    active: bool,
    /// What was told last: that it is active, or nothing, or its end.
    told: bool,
    payload: Option<Arc<RawValue>>,
    /// It has another payload than was told.
    changed: bool,
    /// Its place among those that wait.
    waits: Option<(u64, u64)>,
}

impl Registry {
    pub(super) fn tell_mercure0(&mut self) {
        self.tells_mercure0 = true;
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Rises when the list says something else.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn join(&mut self, holder: &Holder, matchers: &Matchers, now_ms: u64) {
        self.feeds.insert(holder.id, Feed { pass: holder.pass.clone(), matchers: matchers.clone() });
        for matcher in matchers.as_slice() {
            self.begin(Key::new(matcher, holder.id), payload(&holder.pass, matcher), now_ms);
        }
    }

    pub(super) fn change(&mut self, feed: u128, matchers: &Matchers, now_ms: u64) {
        let Some(known) = self.feeds.get_mut(&feed) else { return };
        let before = std::mem::replace(&mut known.matchers, matchers.clone());
        let pass = known.pass.clone();
        for gone in before.as_slice().iter().filter(|matcher| !matchers.as_slice().contains(matcher)) {
            self.end(&Key::new(gone, feed), now_ms);
        }
        for new in matchers.as_slice().iter().filter(|matcher| !before.as_slice().contains(matcher)) {
            self.begin(Key::new(new, feed), payload(&pass, new), now_ms);
        }
    }

    pub(super) fn renew(&mut self, feed: u128, pass: &Arc<Pass>, now_ms: u64) {
        let Some(known) = self.feeds.get_mut(&feed) else { return };
        known.pass = pass.clone();
        let matchers = known.matchers.clone();
        for matcher in matchers.as_slice() {
            self.begin(Key::new(matcher, feed), payload(pass, matcher), now_ms);
        }
    }

    pub(super) fn leave(&mut self, feed: u128, now_ms: u64) {
        let Some(Feed { matchers, .. }) = self.feeds.remove(&feed) else { return };
        for matcher in matchers.as_slice() {
            self.end(&Key::new(matcher, feed), now_ms);
        }
    }

    fn begin(&mut self, key: Key, payload: Option<Arc<RawValue>>, now_ms: u64) {
        let new = || Entry { active: true, told: false, payload: None, changed: false, waits: None };
        let entry = self.entries.entry(key.clone()).or_insert_with(new);
        entry.active = true;
        let text = |payload: &Option<Arc<RawValue>>| payload.as_ref().map(|json| json.get().to_owned());
        entry.changed |= text(&entry.payload) != text(&payload);
        entry.payload = payload;
        let untold = !entry.told || entry.changed;
        self.wait(key, untold, now_ms);
    }

    fn end(&mut self, key: &Key, now_ms: u64) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.active = false;
        if entry.told {
            return self.wait(key.clone(), true, now_ms);
        }
        // Nobody has heard of it.
        if let Some(place) = entry.waits {
            self.waiting.remove(&place);
        }
        self.entries.remove(key);
    }

    /// Puts an entry among those that wait, where it has something to tell, and takes it out where it has nothing any more.
    fn wait(&mut self, key: Key, untold: bool, now_ms: u64) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        match (entry.waits, untold) {
            (None, true) => {
                self.serial += 1;
                let place = (now_ms + COALESCED.as_millis() as u64, self.serial);
                entry.waits = Some(place);
                self.waiting.insert(place, key);
            }
            (Some(place), false) => {
                entry.waits = None;
                self.waiting.remove(&place);
            }
            _ => {}
        }
    }

    pub(super) fn due(&mut self, now_ms: u64, count_max: usize) -> Vec<Draft> {
        let mut drafts = Vec::new();
        while drafts.len() < count_max
            && let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now_ms)
        {
            let key = first.remove();
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            (entry.waits, entry.told, entry.changed) = (None, entry.active, false);
            self.version += 1;
            let document = Document::new(&key, entry.active, entry.payload.as_deref());
            drafts.extend(event(event_topic(&key), &document));
            if self.tells_mercure0 {
                let document = mercure0::Document::new(&key, entry.active, entry.payload.as_deref());
                drafts.extend(document.and_then(|document| document.to_event()));
            }
            if !entry.active {
                self.entries.remove(&key);
            }
        }
        drafts
    }

    pub(super) fn get(&self, place: &Place) -> Option<Vec<u8>> {
        keys(place.kind()).find_map(|key| {
            let entry = self.entries.get(&key).filter(|entry| entry.told)?;
            Some(place.document(&key, entry.payload.as_deref())?.into_bytes())
        })
    }

    /// Looks at a bounded number of entries: feeds that come and go wait meanwhile.
    pub(super) fn piece(&self, place: &Place, from: Option<Next>) -> Piece {
        let spans: Vec<_> = match place.kind() {
            Kind::All => vec![(Bound::Unbounded, Bound::Unbounded)],
            Kind::Of(types, text) => {
                let key = |&match_type: &MatchType, subscriber| Key { match_type, text: text.clone(), subscriber };
                let span = |of| (Bound::Included(key(of, 0)), Bound::Included(key(of, u128::MAX)));
                types.iter().map(span).collect()
            }
            Kind::One(..) | Kind::Nowhere => vec![],
        };
        let mut given = from.as_ref().is_some_and(|next| next.given);
        let spans = spans.into_iter().filter_map(|span| behind(span, from.as_ref().map(|next| &next.behind)));
        let mut json = Vec::new();
        for (index, (key, entry)) in spans.flat_map(|span| self.entries.range(span)).enumerate() {
            if let Some(document) = place.document(key, entry.payload.as_deref()).filter(|_| entry.told) {
                if std::mem::replace(&mut given, true) {
                    json.push(b',');
                }
                json.extend_from_slice(document.as_bytes());
            }
            if index + 1 >= PIECE_ENTRIES_MAX || json.len() >= PIECE_BYTES_MAX {
                return Piece { json, next: Some(Next { behind: key.clone(), given }) };
            }
        }
        Piece { json, next: None }
    }

    pub(super) fn subscriber(&self, place: &Place) -> Option<Subscriber> {
        let key = keys(place.kind()).find(|key| self.entries.get(key).is_some_and(|entry| entry.active))?;
        let feed = self.feeds.get(&key.subscriber)?;
        let issuer = feed.pass.identity.as_ref().map(|identity| identity.issuer.clone());
        Some(Subscriber { id: key.subscriber, issuer })
    }
}

/// What may be at a place that is one.
fn keys(kind: &Kind) -> impl Iterator<Item = Key> {
    let (types, text, subscriber) = match kind {
        Kind::One(types, text, subscriber) => (&types[..], text.clone(), *subscriber),
        _ => (&[][..], "".into(), 0),
    };
    types.iter().map(move |&match_type| Key { match_type, text: text.clone(), subscriber })
}

type Span = (Bound<Key>, Bound<Key>);

/// What of a span is behind a key; none if nothing is.
fn behind((lowest, highest): Span, key: Option<&Key>) -> Option<Span> {
    let Some(key) = key else { return Some((lowest, highest)) };
    match (lowest, highest) {
        (_, Bound::Included(highest)) if *key >= highest => None,
        (Bound::Included(lowest), highest) if *key < lowest => Some((Bound::Included(lowest), highest)),
        (_, highest) => Some((Bound::Excluded(key.clone()), highest)),
    }
}

impl Key {
    fn new(matcher: &Matcher, subscriber: u128) -> Self {
        Self { match_type: matcher.match_type(), text: matcher.text(), subscriber }
    }
}

/// An event about a subscription. None for a topic that is none, which there isn't.
pub(super) fn event(topic: Option<Topic>, document: &Document<'_>) -> Option<Draft> {
    let mut draft = Draft::new(vec![topic?], Data::text(&document.to_json())).ok()?;
    (draft.kind, draft.private) = (Some(EventType::mercure()), true);
    Some(draft)
}

/// What a token attaches to a matcher: of the first detail that covers it, as if it were a topic. [Mercure, Payloads]
fn payload(pass: &Pass, matcher: &Matcher) -> Option<Arc<RawValue>> {
    let topic = match matcher {
        Matcher::Any => None,
        Matcher::Exact(topic) => Some(topic.clone()),
        Matcher::Pattern(pattern) => Topic::of_event(pattern.as_str()).ok(),
    };
    let covered = |scope: &crate::core::Scope| match &topic {
        Some(topic) => scope.covers(topic),
        None => scope.is_everything(),
    };
    let detail = pass.rights.payloads.iter().find(|payload| covered(&payload.scope))?;
    detail.json.clone()
}

const PIECE_ENTRIES_MAX: usize = 128;
const PIECE_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fanwire_protocol::HubUrl;
    use serde_json::{Value, json};

    use super::{super::Dialect, *};
    use crate::auth::{Auth, Config, Shown};

    fn holder(id: u128) -> Holder {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let pass = runtime.block_on(async { Auth::new(Config::default()).admit(Shown::Nothing, 0).await }).unwrap();
        Holder { id, pass: Arc::new(pass) }
    }

    fn matchers(texts: &[&str]) -> Matchers {
        let matcher = |text: &&str| match text.strip_prefix('~') {
            Some(pattern) => Matcher::pattern(pattern, &HubUrl::default()).unwrap(),
            None => Matcher::exact(text).unwrap(),
        };
        texts.iter().map(matcher).collect()
    }

    /// What was told, in short: + or -, and the matcher.
    fn told(registry: &mut Registry, now_ms: u64) -> Vec<String> {
        let told = registry.due(now_ms, usize::MAX).into_iter().map(|draft| {
            assert!(draft.private && draft.kind == Some(EventType::mercure()));
            let json: Value = serde_json::from_slice(draft.data.bytes()).unwrap();
            assert_eq!(json["id"], draft.canonical().as_str());
            format!("{}{}", if json["active"] == json!(true) { '+' } else { '-' }, json["match"].as_str().unwrap())
        });
        told.collect()
    }

    fn listed(registry: &Registry, place: &str) -> Vec<Value> {
        listed_in(registry, place, Dialect::Today)
    }

    fn listed_in(registry: &Registry, place: &str, dialect: Dialect) -> Vec<Value> {
        let (place, mut from, mut text) = (Place::parse(place, dialect).unwrap(), None, b"[".to_vec());
        loop {
            let piece = registry.piece(&place, from);
            text.extend(piece.json);
            from = piece.next;
            if from.is_none() {
                text.push(b']');
                return serde_json::from_slice(&text).unwrap();
            }
        }
    }

    #[test]
    fn what_comes_and_goes_within_a_second_isnt_told() {
        let mut registry = Registry::default();
        registry.join(&holder(1), &matchers(&["a", "*", "~/b/:id"]), 0);
        registry.join(&holder(2), &matchers(&["a"]), 500);
        assert!(told(&mut registry, 999).is_empty() && listed(&registry, "").is_empty());
        registry.leave(2, 900);
        assert_eq!(told(&mut registry, 1_000), ["+a", "+*", "+/b/:id"]);
        assert_eq!(told(&mut registry, 9_000), [""; 0], "nobody has heard of the second");
        assert_eq!((listed(&registry, "").len(), registry.len()), (3, 3));
        registry.change(1, &matchers(&["*"]), 9_000);
        registry.change(1, &matchers(&["*", "a"]), 9_500);
        assert_eq!(listed(&registry, "").len(), 3, "the list is what was told");
        assert_eq!(told(&mut registry, 20_000), ["-/b/:id"], "the other is as it was");
        assert_eq!(listed(&registry, "/urlpattern/%2Fb%2F%3Aid").len(), 0);
        assert_eq!(listed(&registry, "/exact/a").len(), 1);
        registry.leave(1, 20_000);
        registry.leave(1, 20_000);
        assert_eq!(told(&mut registry, 21_000).len(), 2);
        assert!(registry.len() == 0 && registry.waiting.is_empty() && registry.feeds.is_empty());
    }

    #[test]
    fn a_long_list_comes_in_pieces_and_what_is_told_comes_in_turns() {
        let mut registry = Registry::default();
        let all = holder(0);
        for id in 0..2_000 {
            registry.join(&Holder { id, ..all.clone() }, &matchers(&["a"]), 0);
        }
        // In no order, so that whole pieces have nothing that was told.
        assert_eq!(registry.due(1_000, 700).len(), 700);
        assert_eq!(listed(&registry, "").len(), 700);
        assert_eq!(registry.due(1_000, 5_000).len(), 1_300);
        assert_eq!(listed(&registry, "/exact/a").len(), 2_000);
    }

    #[test]
    fn clients_of_0x_are_told_in_their_own_words() {
        let mut registry = Registry::default();
        registry.tell_mercure0();
        let base = HubUrl::default();
        let selectors: Matchers =
            ["a", "/{b}", "*"].iter().map(|text| Matcher::selector(text, &base).unwrap()).collect();
        let all = holder(0);
        registry.join(&Holder { id: 1, ..all.clone() }, &selectors, 0);
        // One of 1.0, of whose matchers two have the same text.
        registry.join(&Holder { id: 2, ..all.clone() }, &matchers(&["/{b}", "~/{b}", "a"]), 0);
        let drafts = registry.due(1_000, usize::MAX);
        let (today, of_0x): (Vec<_>, Vec<_>) = drafts.iter().partition(|draft| draft.kind.is_some());
        assert_eq!((today.len(), of_0x.len()), (6, 5), "0.x has no word for a URL pattern");
        let mut topics = BTreeSet::new();
        for draft in &of_0x {
            let json: Value = serde_json::from_slice(draft.data.bytes()).unwrap();
            assert!(draft.private && topics.insert(draft.canonical().clone()));
            assert_eq!((&json["@context"], &json["type"]), (&json!("https://mercure.rocks/"), &json!("Subscription")));
            let id = json["id"].as_str().unwrap();
            assert_eq!(id, draft.canonical().as_str());
            let place =
                Place::parse(id.strip_prefix(crate::subscriptions::NAMESPACE).unwrap(), Dialect::Mercure0).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&registry.get(&place).unwrap()).unwrap(), json);
        }
        let count = |place: &str| listed_in(&registry, place, Dialect::Mercure0).len();
        assert_eq!([count(""), count("/a"), count("/%2F%7Bb%7D"), count("/%2A"), count("/b")], [5, 2, 2, 1, 0]);
        assert_eq!(listed(&registry, "").len(), 6);
        assert_eq!(listed(&registry, "/uritemplate/%2F%7Bb%7D").len(), 1);
        for id in 10..1_000 {
            registry.join(&Holder { id, ..all.clone() }, &selectors, 2_000);
        }
        registry.due(4_000, usize::MAX);
        let count = |place: &str| listed_in(&registry, place, Dialect::Mercure0).len();
        assert_eq!([count(""), count("/a"), count("/%2F%7Bb%7D")], [5 + 990 * 3, 992, 992], "in pieces");
    }

    /// What the events have told so far, and that the list says the same.
    fn hear(registry: &mut Registry, heard: &mut BTreeSet<String>, now_ms: u64, count: usize) {
        for draft in registry.due(now_ms, count) {
            let json: Value = serde_json::from_slice(draft.data.bytes()).unwrap();
            let topic = draft.canonical().as_str().to_owned();
            let new = if json["active"] == json!(true) { heard.insert(topic) } else { heard.remove(&topic) };
            assert!(new, "nothing is told twice");
        }
        let text = |document: &Value| document["id"].as_str().unwrap().to_owned();
        assert_eq!(listed(registry, "").iter().map(text).collect::<BTreeSet<_>>(), *heard);
    }

    #[test]
    fn the_list_is_what_the_events_have_told() {
        const TEXTS: [&str; 4] = ["a", "b", "~/c", "*"];
        let anybody = holder(0);
        for seed in 0..300 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut registry, mut heard, mut now_ms) = (Registry::default(), BTreeSet::new(), 0);
            for _ in 0..60 {
                let feed = rng.u128(0..4);
                match rng.u8(0..4) {
                    0 => {
                        let wanted: Vec<&str> = (0..rng.usize(0..4)).map(|_| TEXTS[rng.usize(0..4)]).collect();
                        if registry.feeds.contains_key(&feed) {
                            registry.change(feed, &matchers(&wanted), now_ms);
                        } else {
                            registry.join(&Holder { id: feed, ..anybody.clone() }, &matchers(&wanted), now_ms);
                        }
                    }
                    1 => registry.leave(feed, now_ms),
                    2 => now_ms += rng.u64(0..900),
                    _ => hear(&mut registry, &mut heard, now_ms, rng.usize(0..4)),
                }
                assert!(registry.waiting.len() <= registry.entries.len(), "seed {seed}");
            }
            let active: usize = registry.feeds.values().map(|feed| feed.matchers.as_slice().len()).sum();
            hear(&mut registry, &mut heard, now_ms + 1_000, usize::MAX);
            assert_eq!((heard.len(), registry.len(), registry.waiting.len()), (active, active, 0), "seed {seed}");
        }
    }
}
