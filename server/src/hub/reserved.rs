//! The hub's own namespace, which nobody publishes on. [Mercure, Publication]

use std::sync::LazyLock;

use fanwire_protocol::Topic;
use percent_encoding::percent_decode_str;
use url::Url;

/// Whether a topic addresses `/.well-known/mercure` or something under it, whichever way it is spelled.
pub(super) fn is_reserved(topic: &Topic) -> bool {
    static HUB: LazyLock<Url> =
        LazyLock::new(|| Url::parse("https://hub.invalid/.well-known/mercure").expect("a constant"));
    let text = topic.as_str();
    // Without the name and without an escape that could hide it, no spelling leads there; only a relative reference
    // that leaves the path as it is does. Such a one begins with no name, or with the scheme and nothing else; spaces around a
    // URL are no part of it.
    let bare = text.trim_matches(' ');
    let named = bare.starts_with(|first: char| !matches!(first, '.' | '?' | '#' | '/' | '\\'));
    let scheme = bare.get(..SCHEME.len()).is_some_and(|start| start.eq_ignore_ascii_case(SCHEME));
    if named && !scheme && !text.contains('%') && !contains_ignoring_case(text, "mercure") {
        return false;
    }
    let Ok(url) = HUB.join(text) else { return false };
    let path = percent_decode_str(url.path()).decode_utf8_lossy();
    path.strip_prefix("/.well-known/mercure").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn contains_ignoring_case(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

/// Of [`is_reserved`]'s base: a reference with the scheme of its base may be relative. [WHATWG URL §4.4]
const SCHEME: &str = "https:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_namespace_is_reserved() {
        for text in [
            "/.well-known/mercure",
            "/.well-known/mercure/subscriptions/x",
            "https://elsewhere.example/.well-known/mercure/subscriptions",
            "/.well-known/%6Dercure/x",
            "/.well-known/x/../mercure/x",
            "mercure",
            "mercure/x",
            "./mercure",
            "?x",
            "#x",
            "/%2Ewell-known/mercure",
            " ?x",
            " ",
            "HTTPS:?x",
        ] {
            assert!(is_reserved(&Topic::new(text).unwrap()), "{text}");
        }
        for text in [
            "orders/42",
            "/mercure",
            "https://example.com/mercure",
            "/.well-known/mercury",
            "urn:x:mercure",
            "/.well-known/mercureX",
            "host/cpu",
            "..",
            "/",
            "https://example.com/a",
            " a b ",
        ] {
            assert!(!is_reserved(&Topic::new(text).unwrap()), "{text}");
        }
    }
}
