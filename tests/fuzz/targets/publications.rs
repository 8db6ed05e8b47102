//! Bodies that publish: what is taken of them is what they say.

use std::{collections::HashSet, fmt};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use fanwire::hub::{Limits, Publication, Refused, publication_from_form, publication_from_json};
use fanwire_protocol::{EventId, EventType, Topic};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::fuzz;

/// What a body says is to be published.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    topics: Vec<String>,
    data: Vec<u8>,
    is_binary: bool,
    id: Option<String>,
    kind: Option<String>,
    retry_ms: Option<u64>,
    is_private: bool,
    key: Option<String>,
}

#[test]
fn a_form_counts_as_it_is_written_or_not_at_all() {
    let seeds: [&[u8]; 7] = [
        b"topic=a&data=x%0Ay&id=1&type=t&retry=5",
        b"topic=a&topic=b&data=%0D%0A%0D&private",
        b"topic=%C3%A9+1&data=a+b%2Bc=%26&type=t&type=u&id=&data=2&retry=86400000&retry=x",
        b"private=off&to%70ic=a&data&id=%23x&type=fanwire",
        b"topic=https%3A%2F%2Fexample.com%2F.well-known%2Fmercure%2Fx&topic=/.well-known/mercur",
        b"topic=a&id=earliest&type=%E2%80%8B&retry=%2B5&x=%ff",
        b"topic=https:mercure/x&topic=https:%3Fx&topic=+..%2Fx",
    ];
    fuzz(bolero::check!(), &seeds, |body, _| judge(publication_from_form(body, &Limits::default()), of_a_form(body)));
}

#[test]
fn json_counts_as_it_is_written_or_not_at_all() {
    let seeds: [&[u8]; 8] = [
        br#"{"topic": "a", "data": "x\r\ny\u0000\ufeff", "id": "1", "type": "t", "retry": 1}"#,
        br#"{"topic": ["a", "b"], "data": {"a": [1, "\n"]}, "private": true, "other": {"topic": "c"}}"#,
        br#" {"topic": "a", "data_base64": "AAEC/w==", "idempotency_key": "k 1", "private": false}"#,
        br#"{"topic": ["a"], "data": null, "id": null, "type": null, "retry": null, "private": null, "data_base64": null}"#,
        br#"{"\u0074opic": "\ud83d\ude00", "data": -1.50e+3, "retry": 86400000, "idempotency_key": ""}"#,
        br#"{"topic": "a", "topic": "b", "retry": 86400001, "data": "", "data_base64": ""}"#,
        br#"{"topic": "/.well-known/mercure/x", "id": "\u200b", "type": "mercure", "private": 1}"#,
        br#"[["a"], "x", null, "1"]"#,
    ];
    fuzz(bolero::check!(), &seeds, |body, _| judge(publication_from_json(body, &Limits::default()), of_json(body)));
}

fn judge(published: Result<Publication, Refused>, said: Option<Said>) {
    match (published, said.filter(Said::is_legal)) {
        (Ok(publication), said) => assert_eq!(Some(Said::of(&publication)), said),
        (Err(refused), said) => assert_eq!(None, said, "{}", refused.code),
    }
}

impl Said {
    fn of(publication: &Publication) -> Self {
        let draft = &publication.draft;
        Self {
            topics: draft.topics().iter().map(|topic| topic.as_str().to_owned()).collect(),
            data: draft.data.bytes().to_vec(),
            is_binary: draft.data.is_binary(),
            id: draft.id.as_ref().map(|id| id.as_str().to_owned()),
            kind: draft.kind.as_ref().map(|kind| kind.as_str().to_owned()),
            retry_ms: draft.retry.map(|retry| u64::try_from(retry.as_millis()).unwrap()),
            is_private: draft.private,
            key: publication.key.as_ref().map(|key| key.text.clone()),
        }
    }

    /// Names are what the types of names say; what they must not hold is looked at where it is written.
    fn is_legal(&self) -> bool {
        let reserved = |topic: &String| {
            let base = url::Url::parse("https://hub.invalid/.well-known/mercure").unwrap();
            let path =
                base.join(topic).map(|url| percent_encoding::percent_decode_str(url.path()).collect::<Vec<u8>>());
            path.is_ok_and(|path| {
                path.strip_prefix(b"/.well-known/mercure").is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
            })
        };
        let topics = !self.topics.is_empty()
            && self.topics.len() <= 16
            && self.topics.iter().all(|topic| Topic::new(topic).is_ok() && !reserved(topic));
        topics
            && self.data.len() <= 1024 * 1024
            && self.id.as_ref().is_none_or(|id| EventId::new(id).is_ok())
            && self.kind.as_ref().is_none_or(|kind| EventType::new(kind).is_ok())
            && self.retry_ms.is_none_or(|retry_ms| retry_ms <= 86_400_000)
            && self.key.as_ref().is_none_or(|key| {
                (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
            })
    }
}

/// As a browser reads it: CRLF and CR are LF.
fn lines(text: &str) -> Vec<u8> {
    text.replace("\r\n", "\n").replace('\r', "\n").into_bytes()
}

/// [WHATWG URL §5.1; Mercure, Publication] None where a name or a value isn't UTF-8, or `retry` no number.
fn of_a_form(body: &[u8]) -> Option<Said> {
    let mut said = Said::default();
    let mut given = HashSet::new();
    for pair in body.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &b""[..]),
        };
        let (name, value) = (decoded(name)?, decoded(value)?);
        if name == "topic" {
            said.topics.push(value);
            continue;
        }
        // Of what is given twice the first counts.
        if !given.insert(name.clone()) {
            continue;
        }
        match &*name {
            "data" => said.data = lines(&value),
            "id" => said.id = Some(value).filter(|id| !id.is_empty()),
            "type" => said.kind = Some(value).filter(|kind| !kind.is_empty()),
            "retry" => {
                let digits = !value.is_empty() && value.chars().all(|c| c.is_ascii_digit());
                said.retry_ms = Some(value.parse().ok().filter(|_| digits)?);
            }
            "private" => said.is_private = true,
            _ => {}
        }
    }
    Some(said)
}

fn decoded(text: &[u8]) -> Option<String> {
    let (mut bytes, mut rest) = (vec![], text);
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|digits| byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        rest = behind;
        bytes.push(match digits {
            Some(digits) => {
                rest = &behind[2..];
                u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            }
            None if byte == b'+' => b' ',
            None => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// [PROTOCOL.md §6.2] None where it is no object, or a member isn't what it is to be.
pub(crate) fn of_json(body: &[u8]) -> Option<Said> {
    let Members(members) = serde_json::from_slice(body).ok()?;
    let (mut said, mut given, mut has_data) = (Said::default(), HashSet::new(), false);
    for (name, value) in &members {
        let value = value.get();
        let known =
            ["topic", "data", "data_base64", "id", "type", "retry", "private", "idempotency_key"].contains(&&**name);
        // Of what is unknown nothing is looked at.
        if !known {
            continue;
        }
        if !given.insert(name) {
            return None;
        }
        let text = || serde_json::from_str::<String>(value).ok();
        match &**name {
            "data" => {
                let text = if value.starts_with('"') { text()? } else { value.to_owned() };
                if std::mem::replace(&mut has_data, true) {
                    return None;
                }
                said.data = lines(&text);
            }
            _ if value == "null" => {}
            "topic" if value.starts_with('[') => said.topics = serde_json::from_str(value).ok()?,
            "topic" => said.topics = vec![text()?],
            "data_base64" => {
                if std::mem::replace(&mut has_data, true) {
                    return None;
                }
                (said.data, said.is_binary) = (BASE64_STANDARD.decode(text()?).ok()?, true);
            }
            "id" => said.id = Some(text()?),
            "type" => said.kind = Some(text()?),
            "retry" => said.retry_ms = Some(value.parse().ok()?),
            "private" => said.is_private = value.parse().ok()?,
            _ => said.key = Some(text()?),
        }
    }
    Some(said)
}

/// An object's, each as often as it is there.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = vec![];
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}
