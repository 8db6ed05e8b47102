//! From options to a place and a request.

use std::fmt;

use fanwire_protocol::Delivery;
use hyper::{HeaderMap, header};
use url::{Host, Url};

use crate::{ConnectError, Options};

/// Where a connection goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// A name or an address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Place {
    pub(crate) fn of(url: &Url) -> Result<Self, ConnectError> {
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(ConnectError::Url { url: url.to_string(), why: "it names no host" }),
        };
        let port = url.port_or_known_default();
        let port = port.ok_or_else(|| ConnectError::Url { url: url.to_string(), why: "it names no port" })?;
        Ok(Self { host, port })
    }

    /// Whether nobody between here and there can have changed what came from there.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The URL of a feed: that of the hub with the query that the options ask for. [PROTOCOL §2.1]
pub(crate) fn feed_url(options: &Options, mut url: Url, sse: bool) -> Url {
    let control = sse && options.control;
    let in_band = !sse && options.auth_in_band && options.token.is_some();
    let replaced = |name: &str| match name {
        "auth" => in_band,
        "last_event_id" => options.last_event_id.is_some(),
        "heartbeat" => options.heartbeat.is_some(),
        "control" => control,
        "delivery" => options.delivery != Delivery::default(),
        _ => false,
    };
    if url.query_pairs().any(|(name, _)| replaced(&name)) {
        let kept: Vec<(String, String)> =
            url.query_pairs().filter(|(name, _)| !replaced(name)).map(|pair| (pair.0.into(), pair.1.into())).collect();
        url.query_pairs_mut().clear().extend_pairs(kept);
    }
    {
        let mut query = url.query_pairs_mut();
        for matcher in options.matchers.as_slice() {
            query.append_pair(matcher.parameter(), &matcher.to_string());
        }
        if let Some(id) = &options.last_event_id {
            query.append_pair("last_event_id", &id.to_string());
        }
        if let Some(heartbeat) = options.heartbeat {
            query.append_pair("heartbeat", &heartbeat.as_secs_f64().to_string());
        }
        if options.delivery != Delivery::default() {
            query.append_pair("delivery", options.delivery.name());
        }
        if in_band {
            query.append_pair("auth", "inband");
        }
        if control {
            query.append_pair("control", "1");
        }
    }
    if url.query() == Some("") {
        url.set_query(None);
    }
    url
}

/// The headers of every request; on HTTP/1.1 the caller adds `host`.
pub(crate) fn headers(options: &Options) -> HeaderMap {
    let mut headers = options.headers.clone();
    if let Some(token) = &options.token {
        headers.insert(header::AUTHORIZATION, token.header());
    }
    headers.entry(header::USER_AGENT).or_insert(header::HeaderValue::from_static(USER_AGENT));
    headers
}

const USER_AGENT: &str = concat!("fanwire-client/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;
    use fanwire_protocol::LastEventId;
    use std::time::Duration;

    #[test]
    fn the_query_is_the_urls_and_ours() {
        let mut options = Options::new("http://h/events?x=%C3%BC&last_event_id=old&control=0").unwrap();
        assert_eq!(feed_url(&options, options.url.clone(), false), options.url);
        options = options.topic("a b").unwrap().topic("*").unwrap().pattern("/a/:b").unwrap();
        options.last_event_id = LastEventId::parse("#0a1b2c3d4e:42").unwrap();
        options.heartbeat = Some(Duration::from_millis(1500));
        let url = feed_url(&options, options.url.clone(), true);
        let query = "x=%C3%BC&match=a+b&match=*&match_urlpattern=%2Fa%2F%3Ab&last_event_id=%230a1b2c3d4e%3A42&heartbeat=1.5&control=1";
        assert_eq!(url.query(), Some(query));
    }

    #[test]
    fn places_are_written_as_in_urls() {
        let place = |url: &str| Place::of(&Url::parse(url).unwrap()).unwrap();
        assert_eq!(place("https://[::1]/").to_string(), "[::1]:443");
        assert_eq!(place("http://a:81/").to_string(), "a:81");
        assert!(place("http://[::1]/").is_loopback() && place("http://127.0.0.2/").is_loopback());
        assert!(place("http://localhost/").is_loopback() && !place("http://10.0.0.1/").is_loopback());
        assert!(!place("http://127.0.0.1.example.com/").is_loopback());
    }
}
