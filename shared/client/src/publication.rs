//! What is published, as the client says it.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use fanwire_protocol::Cursor;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap as _};
use serde_json::Value;

/// An event to be published. Nothing is checked here: the hub is the judge. [PROTOCOL §6]
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Publication {
    /// The topics, the first canonical.
    pub topics: Vec<String>,
    /// The content.
    pub body: Body,
    /// The publisher's id.
    pub id: Option<String>,
    /// SSE's `event`.
    pub kind: Option<String>,
    /// SSE's `retry`, in milliseconds.
    pub retry_ms: Option<u64>,
    /// Only for those who have the right.
    pub private: bool,
    /// Names this publication, so that trying it again makes no second event. A form can't carry it. [PROTOCOL §6.4]
    pub idempotency_key: Option<String>,
}

/// An event's content.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Body {
    /// None: empty text.
    #[default]
    Empty,
    /// Text.
    Text(String),
    /// Anything; can't be published as a form.
    Binary(Bytes),
    /// JSON, published as its text.
    Json(Value),
}

impl Publication {
    /// Text on one topic.
    pub fn text(topic: impl Into<String>, text: impl Into<String>) -> Self {
        Self { topics: vec![topic.into()], body: Body::Text(text.into()), ..Self::default() }
    }

    /// Binary on one topic.
    pub fn binary(topic: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self { topics: vec![topic.into()], body: Body::Binary(bytes.into()), ..Self::default() }
    }

    /// As the hub takes it as a form; none if the content is binary. [PROTOCOL §6.1]
    pub fn to_form(&self) -> Option<String> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        for topic in &self.topics {
            form.append_pair("topic", topic);
        }
        match &self.body {
            Body::Empty => {}
            Body::Text(text) => {
                form.append_pair("data", text);
            }
            Body::Json(_) => {
                form.append_pair("data", &self.json_text());
            }
            Body::Binary(_) => return None,
        }
        let retry = self.retry_ms.map(|ms| ms.to_string());
        for (name, value) in [("id", &self.id), ("type", &self.kind), ("retry", &retry)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        if self.private {
            form.append_pair("private", "on");
        }
        Some(form.finish())
    }

    fn json_text(&self) -> String {
        match &self.body {
            Body::Json(value) => value.to_string(),
            _ => String::new(),
        }
    }
}

/// As the hub takes it in JSON. [PROTOCOL §6.2]
impl Serialize for Publication {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = serializer.serialize_map(None)?;
        match &*self.topics {
            [one] => json.serialize_entry("topic", one)?,
            topics => json.serialize_entry("topic", topics)?,
        }
        match &self.body {
            Body::Empty => {}
            Body::Text(text) => json.serialize_entry("data", text)?,
            // A string would be taken for text: what it is published as is its JSON text, too.
            Body::Json(Value::String(_)) => json.serialize_entry("data", &self.json_text())?,
            Body::Json(value) => json.serialize_entry("data", value)?,
            Body::Binary(bytes) => json.serialize_entry("data_base64", &BASE64_STANDARD.encode(bytes))?,
        }
        for (name, value) in [("id", &self.id), ("type", &self.kind), ("idempotency_key", &self.idempotency_key)] {
            if let Some(value) = value {
                json.serialize_entry(name, value)?;
            }
        }
        if let Some(ms) = self.retry_ms {
            json.serialize_entry("retry", &ms)?;
        }
        if self.private {
            json.serialize_entry("private", &true)?;
        }
        json.end()
    }
}

/// The hub took an event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Published {
    /// The publisher's id, or else the cursor.
    pub id: String,
    /// The event's position. A form's answer doesn't tell it where the publisher gave an id.
    #[serde(default)]
    pub cursor: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn to_json(publication: &Publication) -> Value {
        serde_json::to_value(publication).unwrap()
    }

    #[test]
    fn publications_are_written_as_the_hub_reads_them() {
        let mut event = Publication::text("a b", "x&y=ü\n");
        event.topics.push("c".into());
        (event.id, event.kind, event.retry_ms, event.private) = (Some("i".into()), Some("k".into()), Some(5), true);
        let expected =
            json!({"topic": ["a b", "c"], "data": "x&y=ü\n", "id": "i", "type": "k", "retry": 5, "private": true});
        assert_eq!(to_json(&event), expected);
        let form = "topic=a+b&topic=c&data=x%26y%3D%C3%BC%0A&id=i&type=k&retry=5&private=on";
        assert_eq!(event.to_form().as_deref(), Some(form));

        let binary = Publication::binary("t", &b"\0\xff"[..]);
        assert_eq!(to_json(&binary), json!({"topic": "t", "data_base64": "AP8="}));
        assert_eq!(binary.to_form(), None);

        let json = |value| Publication { topics: vec!["t".into()], body: Body::Json(value), ..Publication::default() };
        assert_eq!(to_json(&json(json!({"a": 1})))["data"], json!({"a": 1}));
        assert_eq!(to_json(&json(json!("a")))["data"], json!("\"a\""));
        assert_eq!(json(json!("a")).to_form().as_deref(), Some("topic=t&data=%22a%22"));
    }
}
