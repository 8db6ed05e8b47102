//! Values with a unit, as people write them.

use std::{fmt, marker::PhantomData, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de};

use crate::log::Fsync;

/// A duration: `15s`, `1h 30m`, `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A number of bytes: `64 KiB`, `1MB`, `1024`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub usize);

/// When a log on disk syncs: `always`, or an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsyncChoice(pub Fsync);

impl FromStr for FsyncChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self(Fsync::Always)),
            interval => match interval.parse::<Span>() {
                Ok(Span(interval)) => Ok(Self(Fsync::Interval(interval))),
                Err(_) => Err(format!("{text:?} is neither \"always\" nor an interval like 100ms")),
            },
        }
    }
}

impl<'de> Deserialize<'de> for FsyncChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parse("\"always\" or a duration like \"100ms\"", PhantomData))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |error| format!("{text:?} is no duration like 15s or 1h 30m: {error}");
        humantime::parse_duration(text).map(Self).map_err(bad)
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |error| format!("{text:?} is no size like 64 KiB or 1 MB: {error}");
        text.parse::<bytesize::ByteSize>().map(|size| Self(size.as_u64() as usize)).map_err(bad)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parse("a duration like \"15s\"", PhantomData))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parse("a size like \"64 KiB\"", PhantomData))
    }
}

struct Parse<T>(&'static str, PhantomData<T>);

impl<'de, T: FromStr<Err = String>> de::Visitor<'de> for Parse<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}
