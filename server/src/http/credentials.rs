//! What a request shows to be let in: a header, or a cookie of a page that may. [RFC 6750 §2; Mercure, Presenting the Access Token]

use http::{HeaderMap, HeaderName, Method, Uri, header};
use url::Url;

use super::{Access, Edge};
use crate::{
    auth::{Denied, PageOrigin, Pass, Shown},
    hub::{Refused, form_pairs, now_ms},
};

/// How a feed's request wants to be let in: the query's `auth`. [PROTOCOL §2.4]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// With what the request shows, and without anything where the hub allows that.
    AsShown,
    /// With a token or not at all, whatever the hub allows.
    Required,
    /// With a token on the session's control stream.
    InBand,
}

impl Edge {
    /// Lets in whoever made a request.
    pub async fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Pass, Refused> {
        let mode = AuthMode::of(uri)?;
        let shown = if self.auth.has_keys() { shown(headers, uri, &self.auth.cookie())? } else { None };
        let shown = match &shown {
            None => Shown::Nothing,
            Some(Credential::Header(token)) => Shown::Token(token),
            Some(Credential::Cookie(token)) => {
                check_page(&self.access.load(), method, uri, headers)?;
                Shown::Token(token)
            }
            // Not for a HEAD, either, which would use it up for nothing.
            Some(Credential::Ticket(_)) if !matches!(*method, Method::GET | Method::CONNECT) => {
                return Err(Denied::InvalidRequest("a ticket is for a feed").into());
            }
            Some(Credential::Ticket(ticket)) => Shown::Ticket(ticket),
        };
        let mut pass = self.auth.admit(shown, now_ms()).await?;
        if mode == AuthMode::Required && pass.identity.is_none() && self.auth.has_keys() {
            return Err(Denied::NoToken.into());
        }
        pass.origin = page_origin(uri, headers);
        Ok(pass)
    }
}

impl AuthMode {
    /// Reads it off a query.
    pub fn of(uri: &Uri) -> Result<Self, Refused> {
        match query_value(uri, "auth").as_deref() {
            None => Ok(Self::AsShown),
            Some("required") => Ok(Self::Required),
            Some("inband") => Ok(Self::InBand),
            Some(_) => Err(Refused::bad_request("bad_auth", "auth is \"required\", or on WebTransport \"inband\"")),
        }
    }
}

/// Which page asked, and under which name.
pub(crate) fn page_origin(uri: &Uri, headers: &HeaderMap) -> Option<PageOrigin> {
    let origin = headers.get(header::ORIGIN)?.to_str().ok()?.into();
    Some(PageOrigin { origin, host: Access::host_of(uri, headers).map(|host| host.into()) })
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Credential {
    Header(String),
    Cookie(String),
    Ticket(String),
}

/// The token of a request, or its ticket. Both win over a cookie, which the browser adds by itself.
fn shown(headers: &HeaderMap, uri: &Uri, cookie: &str) -> Result<Option<Credential>, Denied> {
    let bad = Denied::InvalidRequest;
    // Said, since a request without it would be an anonymous one. [RFC 9700 §4.3.2]
    if query_value(uri, "access_token").is_some() {
        return Err(bad("a token doesn't belong in a url: send it in an Authorization header"));
    }
    let ticket = query_value(uri, "ticket");
    if let Some(token) = bearer(headers)? {
        if ticket.is_some() {
            return Err(bad("there are a ticket and an Authorization header"));
        }
        return Ok(Some(Credential::Header(token.to_owned())));
    }
    if let Some(ticket) = ticket {
        return Ok(Some(Credential::Ticket(ticket)));
    }
    Ok(cookie_value(headers, cookie)?.map(Credential::Cookie))
}

/// The token of the `Authorization` header, if there is one.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let bad = Denied::InvalidRequest;
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad("there is more than one Authorization header"));
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).unwrap_or_default();
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains(' ') {
        return Err(bad("the Authorization header isn't \"Bearer\", a space and a token"));
    }
    Ok(Some(token))
}

/// The value of the cookie with this name, if there is one.
pub(super) fn cookie_value(headers: &HeaderMap, cookie: &str) -> Result<Option<String>, Denied> {
    let mut found: Option<&str> = None;
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    for pair in pairs.flat_map(|text| text.split(';')) {
        let Some((name, value)) = pair.trim().split_once('=') else { continue };
        if name != cookie {
            continue;
        }
        // A page on a neighbouring host can set one of the same name.
        if found.is_some_and(|other| other != value) {
            return Err(Denied::InvalidRequest("there are several cookies with tokens"));
        }
        found = Some(value);
    }
    let unquoted =
        |value: &str| value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value).to_owned();
    Ok(found.map(unquoted))
}

/// Keeps other sites' pages from using a cookie that their visitors' browsers add. `Origin` was checked, if there is one.
pub(super) fn check_page(access: &Access, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Denied> {
    if headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        // A page of this very origin sends no Origin with a GET, a page of another that may read the answer does.
        let site = headers.get(SEC_FETCH_SITE);
        let own = site.is_none_or(|site| site == "same-origin" || site == "none");
        return if own { Ok(()) } else { Err(Denied::ForeignPage) };
    }
    let referer = headers.get(header::REFERER).and_then(|referer| referer.to_str().ok());
    let origin = referer.and_then(|referer| Url::parse(referer).ok()).map(|url| url.origin().ascii_serialization());
    let ours = origin.is_some_and(|origin| access.allows_text(&origin, Access::host_of(uri, headers).as_deref()));
    if ours { Ok(()) } else { Err(Denied::ForeignPage) }
}

fn query_value(uri: &Uri, wanted: &str) -> Option<String> {
    let pairs = form_pairs(uri.query().unwrap_or_default().as_bytes()).filter_map(Result::ok);
    pairs.into_iter().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const COOKIE: &str = "__Secure-mercure_access_token";

    fn find(headers: &[(&'static str, &str)], uri: &'static str) -> Result<Option<Credential>, Denied> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        shown(&map, &Uri::from_static(uri), COOKIE)
    }

    #[test]
    fn a_token_comes_in_a_header_or_a_cookie() {
        let header = |token: &str| Ok(Some(Credential::Header(token.to_owned())));
        let cookie = |token: &str| Ok(Some(Credential::Cookie(token.to_owned())));
        assert_eq!(find(&[], "/events"), Ok(None));
        assert_eq!(find(&[("authorization", "Bearer a.b.c")], "/events"), header("a.b.c"));
        assert_eq!(find(&[("authorization", "bEARER  a.b.c ")], "/events"), header("a.b.c"));
        let crumbs = [("cookie", "x=y; __Secure-mercure_access_token=a.b.c"), ("cookie", "z")];
        assert_eq!(find(&crumbs, "/events"), cookie("a.b.c"));
        assert_eq!(find(&[("cookie", "__Secure-mercure_access_token=\"a\"")], "/events"), cookie("a"));
        assert_eq!(find(&[("cookie", "__Secure-mercure_access_token=")], "/events"), cookie(""));
        assert_eq!(find(&[("cookie", "a__Secure-mercure_access_token=a")], "/events"), Ok(None));
        assert_eq!(find(&[crumbs[0], ("authorization", "Bearer d")], "/events"), header("d"));
    }

    #[test]
    fn what_is_ambiguous_or_in_the_wrong_place_is_refused() {
        for headers in [
            &[("authorization", "Bearer")][..],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer a b")],
            &[("authorization", "Basic YTpi")],
            &[("authorization", "a.b.c")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            &[("cookie", "__Secure-mercure_access_token=a; __Secure-mercure_access_token=b")],
        ] {
            assert!(matches!(find(headers, "/events"), Err(Denied::InvalidRequest(_))), "{headers:?}");
        }
        assert!(matches!(find(&[], "/events?topic=a&access%5Ftoken=x"), Err(Denied::InvalidRequest(_))));
    }

    #[test]
    fn a_cookie_is_for_the_pages_that_may() {
        let access = Access {
            loopback_only: false,
            allowed_origins: vec!["https://app.example".parse().unwrap()],
            own_ports: vec![443],
        };
        let check = |method: Method, headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            map.insert(header::HOST, HeaderValue::from_static("hub.example"));
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            check_page(&access, &method, &Uri::from_static("/events"), &map).is_ok()
        };
        assert!(check(Method::GET, &[]));
        assert!(check(Method::GET, &[("sec-fetch-site", "same-origin")]));
        assert!(!check(Method::GET, &[("sec-fetch-site", "cross-site")]));
        assert!(!check(Method::GET, &[("sec-fetch-site", "same-site")]));
        assert!(!check(Method::POST, &[]));
        assert!(!check(Method::POST, &[("sec-fetch-site", "same-origin")]));
        assert!(check(Method::POST, &[("referer", "https://app.example/page?x")]));
        assert!(check(Method::POST, &[("referer", "https://hub.example/")]));
        assert!(!check(Method::POST, &[("referer", "https://app.example.evil.example/")]));
        assert!(!check(Method::POST, &[("referer", "https://evil.example/https://app.example/")]));
        assert!(check(Method::POST, &[("origin", "https://app.example")]), "the guard has looked at it");
        assert!(!check(Method::CONNECT, &[]));
    }
}
