//! What a request of Mercure 0.x shows to be let in: a header, else a parameter of the query, else a cookie. [Mercure 0.x, Authorization]

use http::request::Parts;

use super::Edge;
use crate::{
    auth::{Action, Denied, Pass},
    http::credentials::{bearer, check_page, cookie_value, page_origin},
    hub::{Refused, form_pairs, now_ms},
};

/// Lets in whoever made a request.
pub(super) async fn admit(edge: &Edge, action: Action, head: &Parts) -> Result<Pass, Refused> {
    let Parts { method, uri, headers, .. } = head;
    let mut token = None;
    if edge.auth.has_keys() {
        token = match bearer(headers)? {
            Some(token) => Some(token.to_owned()),
            None => authorization(uri.query().unwrap_or_default())?,
        };
        if token.is_none() {
            token = cookie_value(headers, COOKIE)?;
            if token.is_some() {
                check_page(&edge.access.load(), method, uri, headers)?;
            }
        }
    }
    let mut pass = edge.auth.admit_mercure0(token.as_deref(), action, now_ms()).await?;
    pass.origin = page_origin(uri, headers);
    Ok(pass)
}

fn authorization(query: &str) -> Result<Option<String>, Denied> {
    let pairs = form_pairs(query.as_bytes()).filter_map(Result::ok);
    let mut values = pairs.filter(|(name, _)| name == "authorization").map(|(_, value)| value.into_owned());
    let first = values.next();
    if values.next().is_some() {
        return Err(Denied::InvalidRequest("there is more than one authorization parameter"));
    }
    Ok(first)
}

const COOKIE: &str = "mercureAuthorization";
