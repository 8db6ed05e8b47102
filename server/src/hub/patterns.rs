//! The patterns that feeds have, each compiled once.

use std::{
    collections::HashSet,
    hash::{Hash, Hasher},
    sync::{Mutex, PoisonError},
};

use fanwire_protocol::{HubUrl, Matcher, Pattern, PatternError, SelectorError};
use http::StatusCode;

use super::{Refused, Seat};

/// Compiles patterns, and gives the same one to all that ask for it.
#[derive(Debug)]
pub struct Patterns {
    base: HubUrl,
    count_max: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    patterns: HashSet<ByText>,
    /// URI templates, which may have the texts of patterns.
    templates: HashSet<ByText>,
    /// When so many are known, those that nobody has any more are let go.
    sweep_at: usize,
}

#[derive(Debug)]
struct ByText(Pattern);

impl Patterns {
    /// None so far. Relative ones are resolved against `base`; at most `count_max` different ones are in use at a time, each taking from
    /// 1 KiB to some 100 KiB.
    pub fn new(base: HubUrl, count_max: usize) -> Self {
        Self { base, count_max, known: Mutex::default() }
    }

    /// The matchers of many, as [`Patterns::matcher`]; others get their turn while they are compiled.
    pub async fn matchers(&self, texts: &[String], seat: &Seat) -> Result<Vec<Matcher>, Refused> {
        let (mut matchers, mut compiled) = (Vec::with_capacity(texts.len()), 0);
        for text in texts {
            let (matcher, new) = self.matcher(text, seat)?;
            matchers.push(matcher);
            compiled += usize::from(new);
            if new && compiled % COMPILED_A_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(matchers)
    }

    /// The matcher of a `match_urlpattern`, for whoever has a seat, and whether it had to be compiled, which takes some 20 µs, or up to
    /// 200 µs for what was made to take long.
    pub fn matcher(&self, text: &str, seat: &Seat) -> Result<(Matcher, bool), Refused> {
        let known = self.lock().patterns.get(text).map(|known| known.0.clone());
        let compile = || Matcher::pattern(text, &self.base).map_err(|error| refused_pattern(text, &error));
        self.known_or(known, compile, seat)
    }

    /// The matcher of a selector of Mercure 0.x, as [`Patterns::matcher`].
    pub fn selector(&self, text: &str, seat: &Seat) -> Result<(Matcher, bool), Refused> {
        let known = self.lock().templates.get(text).map(|known| known.0.clone());
        let compile = || Matcher::selector(text, &self.base).map_err(|error| refused_selector(text, &error));
        self.known_or(known, compile, seat)
    }

    /// What is known already, or else compiled, and kept from then on.
    fn known_or(
        &self,
        known: Option<Pattern>,
        compile: impl FnOnce() -> Result<Matcher, Refused>,
        seat: &Seat,
    ) -> Result<(Matcher, bool), Refused> {
        if let Some(pattern) = known {
            add_at_seat(&pattern, seat)?;
            return Ok((Matcher::Pattern(pattern), false));
        }
        // Others needn't wait while it is compiled.
        let matcher = compile()?;
        let Matcher::Pattern(pattern) = &matcher else { return Ok((matcher, false)) };
        // First: who has as many as one may have takes no place of others.
        add_at_seat(pattern, seat)?;
        let mut known = self.lock();
        if known.count() >= known.sweep_at {
            known.patterns.retain(|pattern| pattern.0.holders() > 1);
            known.templates.retain(|template| template.0.holders() > 1);
            known.sweep_at = (2 * known.count() + SWEEP_AT_LEAST).min(self.count_max);
        }
        if known.count() >= self.count_max {
            return Err(Refused::too_many_patterns());
        }
        let by_text = ByText(pattern.clone());
        if pattern.is_template() {
            known.templates.insert(by_text)
        } else {
            known.patterns.insert(by_text)
        };
        drop(known);
        Ok((matcher, true))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn count(&self) -> usize {
        self.patterns.len() + self.templates.len()
    }
}

impl Default for Patterns {
    fn default() -> Self {
        Self::new(HubUrl::default(), COUNT_MAX)
    }
}

impl std::borrow::Borrow<str> for ByText {
    fn borrow(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for ByText {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for ByText {}

impl Hash for ByText {
    /// As its text, by which it is looked up.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_str().hash(state);
    }
}

fn add_at_seat(pattern: &Pattern, seat: &Seat) -> Result<(), Refused> {
    seat.add_pattern(pattern).map_err(|_| Refused::too_many_patterns_of_one_client())
}

fn refused_pattern(text: &str, error: &PatternError) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "bad_matcher", format!("the pattern {text:?}: {error}"))
}

fn refused_selector(text: &str, error: &SelectorError) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "bad_matcher", format!("the topic {text:?}: {error}"))
}

/// [`Patterns`]' default.
pub(super) const COUNT_MAX: usize = 10_000;
/// How many patterns are compiled before others get their turn: some 200 µs, or 2 ms for what was made to take long.
pub(crate) const COMPILED_A_TURN: usize = 8;
const SWEEP_AT_LEAST: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::seats::{Bounds, Seats},
        *,
    };

    #[test]
    fn the_same_pattern_is_compiled_once_and_forgotten_when_nobody_has_it() {
        let patterns = Patterns::new(HubUrl::default(), 2);
        let bounds = Bounds { all_max: 9, of_one_max: 9, patterns_of_one_max: usize::MAX, subscriptions_of_one_max: 0 };
        let seats = Arc::new(Seats::new(bounds));
        // Given back at once.
        let seat = || seats.take("a").unwrap();
        let pattern = |text: &str| match patterns.matcher(text, &seat()) {
            Ok((Matcher::Pattern(pattern), new)) => Ok((pattern, new)),
            Ok((other, _)) => panic!("{other:?}"),
            Err(refused) => Err(refused.code),
        };
        let (a, new) = pattern("/a/:id").unwrap();
        assert!(new);
        let (again, new) = pattern("/a/:id").unwrap();
        assert_eq!((new, a.holders()), (false, 3));
        let (b, _) = pattern("/b").unwrap();
        assert_eq!(pattern("/c").unwrap_err(), "too_many_patterns");
        drop((a, again));
        assert!(pattern("/c").unwrap().1);
        assert_eq!(patterns.matcher("*", &seat()).unwrap().0, Matcher::Any);
        assert_eq!(patterns.matcher("/(", &seat()).unwrap_err().code, "bad_matcher");
        drop(b);
        let (template, new) = patterns.selector("/{id}", &seat()).unwrap();
        assert!(new && !patterns.selector("/{id}", &seat()).unwrap().1);
        let (same_text, _) = patterns.matcher("/{id}", &seat()).unwrap();
        assert_ne!(template, same_text, "a URL pattern with a group of its own");
        assert_eq!(patterns.selector("/{other}", &seat()).unwrap_err().code, "too_many_patterns");
        assert_eq!(patterns.selector("a", &seat()).unwrap(), (Matcher::exact("a").unwrap(), false));
    }
}
