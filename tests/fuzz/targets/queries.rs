//! What a feed is asked for with.

use std::time::{Duration, Instant};

use fanwire::hub::form_pairs;
use fanwire_protocol::{HubUrl, LastEventId, Matcher, Pattern, Topic, TopicUrl, sse};

use crate::fuzz;

#[test]
fn queries_patterns_and_ids_are_taken_or_refused() {
    let seeds: [&[u8]; 7] = [
        b"topic=a&match_urlpattern=/a/:id(%5Cd%2B)*&last_event_id=%230a1b2c3d4e:42",
        b"https://*.example.com/:kind/{x}?/*?q=:v#*",
        b"/((((((a)+)+)+)+)+)",
        b"#0a1b2c3d4e:42;t=1;n=a id",
        b"earliest",
        b"%zz&=&&=%ff+",
        b"https://a.example.com/{b,c*}{/d:3}{?e}",
    ];
    fuzz(bolero::check!(), &seeds, |bytes, _| {
        let began = Instant::now();
        let text = String::from_utf8_lossy(bytes);
        let _ = form_pairs(bytes).filter_map(Result::ok).count();
        let _ = LastEventId::parse(&text);
        let _ = sse::ControlId::parse(&text);
        let base = HubUrl::default();
        if let Ok(pattern) = Pattern::new(&text, &base) {
            for topic in [&*text, "https://a.example.com/b/1?q=2#3", "/a/1", "urn:a"] {
                let Ok(topic) = Topic::new(topic) else { continue };
                let url = TopicUrl::new(&topic, &base);
                assert_eq!(pattern.matches(&url), pattern.matches(&url));
            }
        }
        if let (Ok(selector), Ok(itself)) = (Matcher::selector(&text, &base), Topic::new(&text)) {
            assert!(selector.matches(&itself), "{text:?} is one of its own topics");
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{text:?} takes {:?}", began.elapsed());
    });
}
