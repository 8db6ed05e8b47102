//! An operator's failures, as HTTP tells them.

use http::StatusCode;

use crate::{hub::Refused, log::admin::AdminError};

impl From<AdminError> for Refused {
    fn from(error: AdminError) -> Self {
        let (status, code) = match &error {
            AdminError::NoLog { .. } => (StatusCode::NOT_FOUND, "no_log"),
            AdminError::Open(_) | AdminError::Read(_) | AdminError::Append(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "log_unavailable")
            }
            AdminError::Cancelled => (StatusCode::INTERNAL_SERVER_ERROR, "cancelled"),
        };
        Self::new(status, code, error.to_string())
    }
}
