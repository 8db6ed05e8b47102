//! URL patterns as matchers. [WHATWG URL Pattern; Mercure, URL Pattern] URI templates are another kind of the same: [`crate::template`].

use std::{
    cell::OnceCell,
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock, OnceLock},
};

use regex::bytes::{Regex, RegexBuilder};
use url::{Url, quirks};
use urlpattern::{
    UrlPattern, UrlPatternInit, UrlPatternOptions,
    matcher::{InnerMatcher, Matcher as Component},
    parser::RegexSyntax,
    regexp::RegExp,
};

use crate::{Topic, template::Template, text::forbidden_char};

/// The URL of a hub: what relative topics and patterns are resolved against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubUrl(Arc<Url>);

impl HubUrl {
    /// A hub at this URL, which must be one that can be a base, like `https://example.com/.well-known/mercure`.
    pub fn new(url: Url) -> Option<Self> {
        (!url.cannot_be_a_base()).then(|| Self(Arc::new(url)))
    }

    /// The URL.
    pub fn as_url(&self) -> &Url {
        &self.0
    }
}

impl Default for HubUrl {
    /// A hub that doesn't know by which name it is reached: `https://hub.invalid/.well-known/mercure`. What is relative resolves the
    /// same on both sides.
    fn default() -> Self {
        static URL: LazyLock<HubUrl> = LazyLock::new(|| {
            HubUrl(Arc::new(Url::parse("https://hub.invalid/.well-known/mercure").expect("a constant that parses")))
        });
        URL.clone()
    }
}

/// A compiled URL pattern, or URI template; clones share it. Two of a kind are equal if their texts are: those of one hub have one base.
///
/// Matching takes time linear in the topic's length, and bounded by [`Pattern::COMPILED_BYTES_MAX`].
#[derive(Clone)]
pub struct Pattern(Arc<Compiled>);

struct Compiled {
    text: Arc<str>,
    base: HubUrl,
    kind: Kind,
}

enum Kind {
    /// A URL pattern: its parts that don't take everything.
    Url(Box<[(Part, Component<Regexp>)]>),
    Template(Template),
}

/// A component of a URL, in the order in which they are looked at: first what tells most topics apart.
#[derive(Debug, Clone, Copy)]
enum Part {
    Path,
    Host,
    Scheme,
    Port,
    Query,
    Fragment,
    Username,
    Password,
}

/// A topic as patterns see it: a text, and the URL that it can be resolved to, if it can, once one asks for it.
#[derive(Debug, Clone)]
pub struct TopicUrl<'a> {
    topic: &'a Topic,
    base: &'a HubUrl,
    url: OnceCell<Option<Url>>,
}

impl<'a> TopicUrl<'a> {
    /// A topic that is to be resolved against the hub's URL.
    pub fn new(topic: &'a Topic, base: &'a HubUrl) -> Self {
        Self { topic, base, url: OnceCell::new() }
    }

    fn url(&self) -> Option<&Url> {
        self.url.get_or_init(|| self.base.0.join(self.topic.as_str()).ok()).as_ref()
    }
}

impl Pattern {
    /// The longest pattern, in bytes.
    pub const BYTES_MAX: usize = 1024;
    /// What each regular expression of a pattern may take once it is compiled, in bytes. Most patterns have none: literals,
    /// wildcards and one name in a component are matched without.
    pub const COMPILED_BYTES_MAX: usize = 8 * 1024;

    /// What a URI template may take once it is compiled, in bytes. With twice as much a search has more states than it may remember, and takes
    /// a millisecond.
    pub const TEMPLATE_BYTES_MAX: usize = 16 * 1024;

    /// Parses and compiles a pattern; a relative one is resolved against the hub's URL.
    pub fn new(text: &str, base: &HubUrl) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(PatternError::TooLong);
        }
        if let Some(c) = forbidden_char(text) {
            return Err(PatternError::Forbidden(c));
        }
        let pattern = parse::<Regexp>(text, base).map_err(|error| PatternError::Invalid(error.to_string()))?;
        let parts = [
            (Part::Path, pattern.pathname.matcher),
            (Part::Host, pattern.hostname.matcher),
            (Part::Scheme, pattern.protocol.matcher),
            (Part::Port, pattern.port.matcher),
            (Part::Query, pattern.search.matcher),
            (Part::Fragment, pattern.hash.matcher),
            (Part::Username, pattern.username.matcher),
            (Part::Password, pattern.password.matcher),
        ];
        for (_, component) in &parts {
            if let InnerMatcher::RegExp { regexp } = &component.inner {
                let compiled = regexp.as_ref().ok().and_then(Regexp::compiled);
                compiled.ok_or(PatternError::Regexp)?;
            }
        }
        let parts = parts.into_iter().filter(|(_, component)| !takes_everything(component)).collect();
        Ok(Self(Arc::new(Compiled { text: text.into(), base: base.clone(), kind: Kind::Url(parts) })))
    }

    /// Compiles a topic that may be a URI template; none if it is none, or takes nothing but itself.
    pub fn template(topic: &Topic, base: &HubUrl) -> Result<Option<Self>, PatternError> {
        let template = Template::new(topic.as_str())?;
        let kind = template.map(Kind::Template);
        Ok(kind.map(|kind| Self(Arc::new(Compiled { text: topic.shared(), base: base.clone(), kind }))))
    }

    /// Whether it is a URI template.
    pub fn is_template(&self) -> bool {
        matches!(self.0.kind, Kind::Template(_))
    }

    /// The pattern as it was given.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        self.0.text.clone()
    }

    /// What it takes to compare a topic with the pattern, in units of some 50 ns, for topics and patterns that weren't made to take long.
    pub fn comparison_cost(&self) -> usize {
        let regexps = match &self.0.kind {
            Kind::Url(parts) => {
                parts.iter().filter(|(_, part)| matches!(part.inner, InnerMatcher::RegExp { .. })).count()
            }
            Kind::Template(_) => 1,
        };
        1 + REGEXP_COST * regexps
    }

    /// How many hold this compiled pattern, this one included.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// What relative topics are resolved against.
    pub fn base(&self) -> &HubUrl {
        &self.0.base
    }

    /// Whether the pattern takes a topic, resolved against the pattern's base. A topic that can't be a URL is taken by no URL pattern. A URI
    /// template takes what it can be expanded to, as it is, and itself.
    pub fn matches(&self, topic: &TopicUrl<'_>) -> bool {
        match &self.0.kind {
            Kind::Url(parts) => {
                topic.url().is_some_and(|url| parts.iter().all(|(part, component)| takes(component, part.of(url))))
            }
            Kind::Template(template) => {
                let text = topic.topic.as_str();
                template.takes(text) || *text == *self.0.text
            }
        }
    }
}

/// Never with `ignore_case`. [Mercure, URL Pattern]
fn parse<R: RegExp>(text: &str, base: &HubUrl) -> Result<UrlPattern<R>, urlpattern::Error> {
    let init = match UrlPatternInit::parse_constructor_string::<R>(text, None) {
        // Only for what is relative: a base would be put before the path of an absolute `urn:…` as well.
        Err(urlpattern::Error::BaseUrlRequired) => {
            UrlPatternInit::parse_constructor_string::<R>(text, Some(Url::clone(&base.0)))
        }
        absolute => absolute,
    };
    UrlPattern::parse(init?, UrlPatternOptions::default())
}

impl Part {
    fn of(self, url: &Url) -> &str {
        match self {
            Self::Path => quirks::pathname(url),
            Self::Host => url.host_str().unwrap_or_default(),
            Self::Scheme => url.scheme(),
            Self::Port => quirks::port(url),
            Self::Query => url.query().unwrap_or_default(),
            Self::Fragment => url.fragment().unwrap_or_default(),
            Self::Username => url.username(),
            Self::Password => url.password().unwrap_or_default(),
        }
    }
}

/// As [`Component::matches`], which makes a list of what each group took. Empty texts are never compared: that of two pointers into
/// nowhere costs some 150 ns on processors with AVX-512, and most prefixes are empty.
fn takes(component: &Component<Regexp>, input: &str) -> bool {
    let Some(middle) = strip(input, &component.prefix, &component.suffix) else { return false };
    match &component.inner {
        InnerMatcher::Literal { literal } => middle.len() == literal.len() && (literal.is_empty() || middle == literal),
        InnerMatcher::SingleCapture { filter, allow_empty } => {
            (*allow_empty || !middle.is_empty()) && filter.is_none_or(|filter| !middle.contains(filter))
        }
        InnerMatcher::RegExp { regexp } => {
            regexp.as_ref().ok().and_then(Regexp::compiled).is_some_and(|regexp| regexp.is_match(middle.as_bytes()))
        }
    }
}

/// What is between a prefix and a suffix.
fn strip<'a>(text: &'a str, prefix: &str, suffix: &str) -> Option<&'a str> {
    let rest = if prefix.is_empty() { text } else { text.strip_prefix(prefix)? };
    if suffix.is_empty() { Some(rest) } else { rest.strip_suffix(suffix) }
}

fn takes_everything(component: &Component<Regexp>) -> bool {
    let wildcard = matches!(component.inner, InnerMatcher::SingleCapture { filter: None, allow_empty: true });
    wildcard && component.prefix.is_empty() && component.suffix.is_empty()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text && self.is_template() == other.is_template()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.text, f)
    }
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// The text is empty.
    #[error("a pattern must not be empty")]
    Empty,
    /// The text is longer than [`Pattern::BYTES_MAX`].
    #[error("a pattern has at most {} bytes", Pattern::BYTES_MAX)]
    TooLong,
    /// A control or format character.
    #[error("a pattern must not contain the character U+{:04X}", *.0 as u32)]
    Forbidden(char),
    /// It isn't well-formed.
    #[error("it is no URL pattern: {0}")]
    Invalid(String),
    /// A regular expression that isn't one, can't be matched in linear time (it looks around or back), asks for properties of characters
    /// that no URL holds (`\p{…}`), or is larger than [`Pattern::COMPILED_BYTES_MAX`].
    #[error(
        "a regular expression in it is none, looks around or back, has \\p, or takes more than {} bytes once it is compiled",
        Pattern::COMPILED_BYTES_MAX
    )]
    Regexp,
    /// A URI template that is larger than [`Pattern::TEMPLATE_BYTES_MAX`].
    #[error("the uri template takes more than {} bytes once it is compiled", Pattern::TEMPLATE_BYTES_MAX)]
    Template,
}

/// A regular expression that is compiled when it is first needed: most are made by the parser and never asked.
#[derive(Debug)]
struct Regexp {
    source: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Regexp {
    fn compiled(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| compile(&self.source, Pattern::COMPILED_BYTES_MAX)).as_ref()
    }
}

impl RegExp for Regexp {
    fn syntax() -> RegexSyntax {
        RegexSyntax::Rust
    }

    fn parse(pattern: &str, _flags: &str, _force_eval: bool) -> Result<Self, ()> {
        Ok(Self { source: pattern.to_owned(), compiled: OnceLock::new() })
    }

    /// Without what the groups took, which nobody asks for.
    fn matches<'a>(&self, text: &'a str) -> Option<Vec<Option<&'a str>>> {
        self.compiled()?.is_match(text.as_bytes()).then(Vec::new)
    }

    fn pattern_string(&self) -> &str {
        &self.source
    }
}

/// Without Unicode, whose tables are large: the components of a URL are ASCII, and classes like `\w` mean what they mean in ECMAScript.
pub(crate) fn compile(source: &str, bytes_max: usize) -> Option<Regex> {
    RegexBuilder::new(source)
        .unicode(false)
        .size_limit(bytes_max)
        .dfa_size_limit(DFA_BYTES_MAX)
        .nest_limit(NEST_MAX)
        .build()
        .ok()
}

/// Of [`Pattern::comparison_cost`].
const REGEXP_COST: usize = 10;
/// What the search may remember, for each thread that searches at the same time.
const DFA_BYTES_MAX: usize = 64 * 1024;
const NEST_MAX: u32 = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use urlpattern::UrlPatternMatchInput;

    use super::*;

    fn pattern(text: &str) -> Result<Pattern, PatternError> {
        Pattern::new(text, &HubUrl::default())
    }

    fn takes(text: &str, topic: &str) -> bool {
        pattern(text).unwrap().matches(&TopicUrl::new(&Topic::new(topic).unwrap(), &HubUrl::default()))
    }

    #[test]
    fn patterns_take_what_the_standard_says() {
        let yes = [
            ("https://example.com/books/:id", "https://example.com/books/1"),
            ("https://example.com/books/:id", "https://EXAMPLE.com/books/1"),
            ("https://example.com/books/:id", "https://example.com:443/books/1?q#f"),
            ("https://example.com/:kind/:id", "https://example.com/books/1"),
            ("https://example.com/books/:id?", "https://example.com/books"),
            ("https://example.com/books/(\\d+)", "https://example.com/books/12"),
            ("https://*.example.com/*", "https://a.b.example.com/x/y"),
            ("*://*/x", "ftp://a/x"),
            ("/.well-known/mercure/subscriptions/*", "/.well-known/mercure/subscriptions/exact/a/b"),
            ("/books/:id", "/books/1"),
            ("/books/é", "/books/%C3%A9"),
            (":id", "orders"),
            ("orders/:id", "orders/42"),
            ("urn:*", "urn:x:1"),
            (r"urn:{x}\:*", "urn:x:1"),
            ("*://a/*", "ws://a/"),
        ];
        for (text, topic) in yes {
            assert!(takes(text, topic), "{text} {topic}");
        }
        let no = [
            ("https://example.com/books/:id", "https://example.com/books/1/2"),
            ("https://example.com/books/:id", "https://example.com/Books/1"),
            ("https://example.com/books/:id", "http://example.com/books/1"),
            ("https://example.com/books/:id", "https://example.com:8443/books/1"),
            ("https://example.com/books/:id", "/books/1"),
            ("https://example.com/books/(\\d+)", "https://example.com/books/x"),
            ("https://example.com/a(b|c)", "https://example.com/ad"),
            ("/books/:id", "https://example.com/books/1"),
            ("*://*/*", "https://["),
            (r"urn:{x}\:*", "urn:y:1"),
        ];
        for (text, topic) in no {
            assert!(!takes(text, topic), "{text} {topic}");
        }
    }

    #[test]
    fn relative_topics_and_patterns_meet_at_the_hubs_url() {
        let base = HubUrl::new(Url::parse("https://hub.example/.well-known/mercure").unwrap()).unwrap();
        let topic = Topic::new("/.well-known/mercure/subscriptions/exact/a/b").unwrap();
        let topic = TopicUrl::new(&topic, &base);
        for text in ["/.well-known/mercure/*", "https://hub.example/.well-known/mercure/*", "mercure/subscriptions/*"] {
            assert!(Pattern::new(text, &base).unwrap().matches(&topic), "{text}");
        }
        assert!(HubUrl::new(Url::parse("urn:x").unwrap()).is_none());
    }

    #[test]
    fn what_is_no_pattern_or_costs_too_much_is_refused() {
        let long = format!("/{}", "a".repeat(Pattern::BYTES_MAX));
        assert_eq!(pattern(&long).unwrap_err(), PatternError::TooLong);
        pattern(&long[..Pattern::BYTES_MAX]).unwrap();
        assert_eq!(pattern("").unwrap_err(), PatternError::Empty);
        assert_eq!(pattern("/a\u{200b}").unwrap_err(), PatternError::Forbidden('\u{200b}'));
        for text in ["https://[", "/a{b", "/(", "/(?:a)", "/:a/:a", "/\\", "/(é)", "/{:a}{:a}"] {
            assert!(matches!(pattern(text), Err(PatternError::Invalid(_))), "{text} {:?}", pattern(text));
        }
        let (crafted, deep) = (["(?:a|b)?"; 100].concat(), format!("{}a{}", "(?:".repeat(200), ")".repeat(200)));
        for inner in ["a{1000}", "(?:a{1000}){1000}", "(?:.*a){1000}", "(?=a)b", r"\p{L}", "[", "\\1", &crafted, &deep]
        {
            assert_eq!(pattern(&format!("/({inner})")).unwrap_err(), PatternError::Regexp, "{inner}");
        }
        let stars = format!("/{}", "*a".repeat(400));
        assert_eq!(pattern(&stars).unwrap_err(), PatternError::Regexp, "of a pattern's own wildcards");
        // What people write fits.
        let uuid = "/:kind/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/:a/:b/:c/*";
        assert!(takes(uuid, "/books/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f/1/2/3/4/5"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever a peer sends neither panics nor takes other topics than the library's own matching.
        #[test]
        fn shortcuts_change_nothing(
            text in "(https?|\\*|ftp|urn|)(://|:|/|)([ab.:*?+(){}/\\\\\\[\\]|é#&=@0-9-]|:a|/b|\\(\\\\d\\)|\\*){0,12}",
            topics in prop::collection::vec("(https://|/|urn:|)[ab./0-9?#:é*]{0,8}", 1..8),
        ) {
            let Ok(compiled) = pattern(&text) else { return Ok(()) };
            let base = HubUrl::default();
            let reference = parse::<regex::Regex>(&text, &base).unwrap();
            for topic in topics.iter().filter_map(|topic| Topic::new(topic).ok()) {
                let topic = TopicUrl::new(&topic, &base);
                let expected = topic.url().cloned().is_some_and(|url| reference.test(UrlPatternMatchInput::Url(url)).unwrap());
                prop_assert_eq!(compiled.matches(&topic), expected, "{} {:?}", text, topic);
            }
        }
    }
}
