//! The retention classes as a store remembers them.

use std::time::Duration;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::store::OpenError;
use crate::log::{Class, Retention, TopicRule};

/// A class without its limits, which are the configuration's alone.
#[derive(Serialize, Deserialize)]
struct StoredClass {
    name: String,
    topics: Vec<String>,
}

/// The text that is stored of a class.
pub(super) fn encode(class: &Class) -> String {
    let stored =
        StoredClass { name: class.name.clone(), topics: class.topics.iter().map(TopicRule::to_string).collect() };
    serde_json::to_string(&stored).expect("plain data with string keys")
}

/// Whether the stored classes sort topics as these do, whatever their names.
pub(super) fn take_the_same(stored: &[String], retention: &Retention) -> bool {
    let same = |(text, class): (&String, &Class)| {
        let topics = decode(text).map(|stored| stored.topics);
        // Format 1 began with Rust's own notation.
        topics.map_or_else(|| *text == format!("{:?}", class.topics), |topics| topics == class.topics)
    };
    stored.len() == retention.classes().len() && stored.iter().zip(retention.classes()).all(same)
}

/// The classes that a store was last written with. They have no limits: nothing is evicted in their name.
pub(super) fn stored(names: &impl ReadableTable<u32, &'static str>) -> Result<Retention, OpenError> {
    let mut classes = Vec::new();
    for entry in names.iter().map_err(|error| OpenError::from(redb::Error::from(error)))? {
        let (_, text) = entry.map_err(|error| OpenError::from(redb::Error::from(error)))?;
        let class = decode(text.value());
        classes.push(
            class.ok_or(OpenError::Damaged("its retention classes can't be read; a hub writes them anew".into()))?,
        );
    }
    let last = classes.pop().ok_or(OpenError::Damaged("it has no retention class".into()))?;
    Ok(Retention::new(classes, last))
}

fn decode(text: &str) -> Option<Class> {
    let stored: StoredClass = serde_json::from_str(text).ok()?;
    let topics: Option<Vec<_>> = stored.topics.iter().map(|rule| TopicRule::parse(rule).ok()).collect();
    Some(Class {
        name: stored.name,
        topics: topics?,
        events_max: usize::MAX,
        bytes_max: usize::MAX,
        age_max: None::<Duration>,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, topics: &[&str]) -> Class {
        let topics = topics.iter().map(|rule| TopicRule::parse(rule).unwrap()).collect();
        Class { name: name.to_owned(), topics, ..Class::default() }
    }

    #[test]
    fn classes_are_the_same_by_their_topics_alone() {
        let retention = |name| Retention::new(vec![class(name, &["a/*", "ü \"x\""])], class("rest", &[]));
        let stored: Vec<String> = retention("one").classes().iter().map(encode).collect();
        assert!(take_the_same(&stored, &retention("two")));
        assert!(!take_the_same(&stored[..1], &retention("one")));
        assert!(!take_the_same(&stored, &Retention::new(vec![class("one", &["a/"])], class("rest", &[]))));
        let before: Vec<String> = retention("").classes().iter().map(|class| format!("{:?}", class.topics)).collect();
        assert!(take_the_same(&before, &retention("")));
        let decoded = decode(&stored[0]).unwrap();
        assert_eq!((decoded.name.as_str(), &decoded.topics), ("one", &retention("").classes()[0].topics));
    }
}
