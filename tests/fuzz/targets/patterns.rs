//! What a feed is asked for with: patterns, templates, ids.

use std::time::{Duration, Instant};

use fanwire::hub::form_pairs;
use fanwire_protocol::{HubUrl, LastEventId, Matcher, Pattern, Topic, TopicUrl, sse};
use url::Url;
use urlpattern::{UrlPattern, UrlPatternInit, UrlPatternMatchInput, UrlPatternOptions};

use crate::{fuzz, template::Template};

#[test]
fn a_url_pattern_takes_what_the_standard_says() {
    let seeds: [&[u8]; 11] = [
        b"https://*.example.com/:kind/{x}?/*?q=:v#*",
        b"/a/:id(\\d+)*",
        b"/((((((a)+)+)+)+)+)",
        b"/(a|B)/:c-:d",
        b"https://user:*@example.com:8443/(a|b)/c?d#e",
        b"urn:{x}\\:*",
        b"*://*:*/books/:id.:kind?",
        b":id",
        b"http{s}?://example.com/{a/}*:b+/-*",
        b"ftp://[\\:\\:1]/%C3%A9/\xc3\xa9/{:a-:b}",
        b"../*?x=(.*)&y",
    ];
    let topics: Vec<Topic> = [
        "https://a.example.com/b/x/1?q=2#3",
        "https://user:p@example.com:8443/b/c?d#e",
        "http://example.com/a/a/b/-",
        "/a/1",
        "/books/1.html",
        "urn:x:y",
        "orders",
        "ftp://[::1]/%C3%A9/%C3%A9/1-2",
    ]
    .map(|topic| Topic::new(topic).unwrap())
    .into();
    let base = HubUrl::default();
    fuzz(bolero::check!(), &seeds, |bytes, choices| {
        let text = String::from_utf8_lossy(bytes);
        let began = Instant::now();
        let Ok(pattern) = Pattern::new(&text, &base) else {
            assert!(began.elapsed() < PATIENCE, "{text:?} takes {:?}", began.elapsed());
            return;
        };
        let filled = filled(&text, || NAMES[choices.among(0..=NAMES.len() - 1)]);
        let near = [&*text, &filled, &filled.to_ascii_uppercase(), &filled.to_ascii_lowercase()].map(Topic::new);
        let near: Vec<Topic> = near.into_iter().filter_map(Result::ok).collect();
        let taken: Vec<(&Topic, bool)> =
            topics.iter().chain(&near).map(|topic| (topic, pattern.matches(&TopicUrl::new(topic, &base)))).collect();
        assert!(began.elapsed() < PATIENCE, "{text:?} takes {:?}", began.elapsed());
        let standard = by_the_standard(&text, base.as_url());
        for (topic, taken) in taken {
            let url = base.as_url().join(topic.as_str()).ok();
            let expected = url.is_some_and(|url| standard.test(UrlPatternMatchInput::Url(url)).unwrap());
            assert_eq!(taken, expected, "{text:?} {topic:?}");
        }
    });
}

/// The library's own way, with a regular expression for everything.
fn by_the_standard(text: &str, base: &Url) -> UrlPattern<regex::Regex> {
    let init = match UrlPatternInit::parse_constructor_string::<regex::Regex>(text, None) {
        Err(urlpattern::Error::BaseUrlRequired) => {
            UrlPatternInit::parse_constructor_string::<regex::Regex>(text, Some(base.clone()))
        }
        absolute => absolute,
    };
    UrlPattern::parse(init.unwrap(), UrlPatternOptions::default()).unwrap()
}

/// A topic that a simple pattern may well take: with something for each name and each star.
fn filled(pattern: &str, mut something: impl FnMut() -> &'static str) -> String {
    let mut topic = String::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            ':' if rest.peek().is_some_and(|next| next.is_ascii_alphabetic()) => {
                while rest.next_if(char::is_ascii_alphanumeric).is_some() {}
                topic.push_str(something());
            }
            '*' => topic.push_str(something()),
            '\\' | '{' | '}' => {}
            _ => topic.push(c),
        }
    }
    topic
}

#[test]
fn a_template_takes_what_it_is_expanded_to() {
    let seeds: [&[u8]; 9] = [
        b"https://a.example.com/{b,c*}{/d:3}{?e}",
        b"{kind}/{id}",
        b"books/{+path}{#section}",
        b"a{.b,c}{;d,e*}{&f:10,g}x",
        b"\xc3\xa9/%c3%A9/{a_b.c%20}/{/x*,y}",
        b"{?a,b,c}{+d,e:2}",
        b"{a:9999}{b:1}",
        b"{a",
        b"books/1",
    ];
    let base = HubUrl::default();
    fuzz(bolero::check!(), &seeds, |bytes, choices| {
        let text = String::from_utf8_lossy(bytes);
        let began = Instant::now();
        let selector = Matcher::selector(&text, &base);
        assert!(began.elapsed() < PATIENCE, "{text:?} takes {:?}", began.elapsed());
        let (Ok(selector), Ok(itself)) = (selector, Topic::new(&text)) else { return };
        assert!(selector.matches(&itself), "{text:?} is one of its own topics");
        let Matcher::Pattern(_) = selector else {
            return assert!(
                Template::of(&text).is_none_or(|template| template.is_constant()),
                "{text:?} is a template"
            );
        };
        let template = Template::of(&text).unwrap_or_else(|| panic!("{text:?} is no template"));
        let takes = |text: &str| Topic::new(text).ok().map(|topic| selector.matches(&topic));
        for _ in 0..3 {
            let expanded = template.expand(choices);
            assert_ne!(takes(&expanded), Some(false), "{text:?} can be {expanded:?}");
            // No expansion has a space; and a slash, only where something lets it through.
            let spoilt = |with: char, choices: &mut crate::input::Choices| {
                let mut places: Vec<usize> = expanded.char_indices().map(|(at, _)| at).collect();
                places.push(expanded.len());
                let mut spoilt = expanded.clone();
                spoilt.insert(places[choices.among(0..=places.len() - 1)], with);
                spoilt
            };
            let spaced = spoilt(' ', choices);
            assert_ne!(takes(&spaced), Some(true), "{text:?} can't be {spaced:?}");
            let slashed = spoilt('/', choices);
            assert!(template.lets_slashes_through() || takes(&slashed) != Some(true), "{text:?} can't be {slashed:?}");
        }
    });
}

#[test]
fn queries_and_ids_are_taken_or_refused() {
    let seeds: [&[u8]; 6] = [
        b"topic=a&match_urlpattern=/a/:id(%5Cd%2B)*&last_event_id=%230a1b2c3d4e:42",
        b"#0a1b2c3d4e:42;t=1;n=a id",
        b"#0a1b2c3d4e:18446744073709551615;b;t=x;n=%zz;u=1  #",
        b"earliest",
        b"%zz&=&&=%ff+",
        b"#0a1b2c3d4e:007",
    ];
    fuzz(bolero::check!(), &seeds, |bytes, _| {
        let text = String::from_utf8_lossy(bytes);
        let _ = form_pairs(bytes).filter_map(Result::ok).count();
        let _ = LastEventId::parse(&text);
        if let Some(id) = sse::ControlId::parse(&text) {
            let position = text.split([' ', ';']).next().unwrap();
            let (epoch, seq) = position.strip_prefix('#').unwrap().split_once(':').unwrap();
            assert_eq!((epoch, seq.parse()), (&*id.cursor.epoch.to_string(), Ok(id.cursor.seq.0)));
            assert_eq!(id.publisher.as_deref(), text.split_once(' ').map(|(_, publisher)| publisher));
        }
    });
}

const NAMES: [&str; 6] = ["v", "1", "", "x/y", "a.b", "%C3%A9"];

const PATIENCE: Duration = Duration::from_secs(5);
