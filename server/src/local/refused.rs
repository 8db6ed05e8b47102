//! An operator's failures, as HTTP tells them.

use http::StatusCode;

use crate::{hub::Refused, log::admin::AdminError};

impl From<AdminError> for Refused {
    fn from(error: AdminError) -> Self {
        let (status, code) = match &error {
            AdminError::NoLog { .. } => (StatusCode::NOT_FOUND, "no_log"),
            AdminError::Open(_) | AdminError::Read(_) | AdminError::Damaged(_) | AdminError::Append(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "log_unavailable")
            }
            AdminError::Compact(_) => (StatusCode::SERVICE_UNAVAILABLE, "not_compacted"),
            AdminError::Busy => (StatusCode::CONFLICT, "busy"),
            AdminError::Exists { .. } => (StatusCode::CONFLICT, "exists"),
            AdminError::Backup { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "not_backed_up"),
            AdminError::Cancelled => (StatusCode::INTERNAL_SERVER_ERROR, "cancelled"),
        };
        // With what was behind it.
        Self::new(status, code, format!("{:#}", anyhow::Error::new(error)))
    }
}
