//! A refusal as an HTTP response.

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use fanwire_protocol::message::Refusal;
use http::{HeaderValue, header};
use serde::Serialize;

use crate::hub::Refused;

#[derive(Serialize)]
pub(super) struct ErrorBody {
    error: Refusal,
}

/// In the extensions of a response: the code of the refusal that it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct RefusedCode(pub(super) &'static str);

impl From<&Refused> for ErrorBody {
    fn from(refused: &Refused) -> Self {
        Self { error: refused.to_refusal() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response<Body> {
        let mut response = (self.status, Json(ErrorBody::from(&self))).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.extensions_mut().insert(RefusedCode(self.code));
        if let Some(challenge) = self.challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(after) = self.retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs_f64().ceil().max(1.0) as u64));
        }
        response
    }
}
