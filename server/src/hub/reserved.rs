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
    // that leaves the path as it is does.
    let plain = !text.contains('%') && !text.to_ascii_lowercase().contains("mercure");
    if plain && !text.starts_with(['.', '?', '#', '/', '\\']) {
        return text.is_empty();
    }
    let Ok(url) = HUB.join(text) else { return false };
    let path = percent_decode_str(url.path()).decode_utf8_lossy();
    path.strip_prefix("/.well-known/mercure").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

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
        ] {
            assert!(!is_reserved(&Topic::new(text).unwrap()), "{text}");
        }
    }
}
