//! Refusals as JSON: `{"error": {"code": "NotFound", "message": "…"}}`; of what was sent and cannot be used there is a
//! `reason` too, in one word.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nothing of this name is there.
    #[error("{0}")]
    NotFound(String),
    /// The path does not take this method.
    #[error("{0}")]
    MethodNotAllowed(String),
    /// The query string cannot be used.
    #[error("{0}")]
    BadRequest(String),
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// The request's `Host` is not a name of this machine.
    #[error("{0}")]
    Misdirected(String),
    /// What was asked for cannot be done in the present state.
    #[error("{0}")]
    Conflict(String),
    /// The body is larger than is taken.
    #[error("{0}")]
    TooLarge(String),
    /// What was sent is understood, and cannot be used.
    #[error("{message}")]
    Refused {
        /// In one word.
        reason: String,
        /// Why, and what to do.
        message: String,
    },
    /// The owner of the truth did not answer in time, or has ended.
    #[error("{0}")]
    Unavailable(String),
    /// Something that should never happen.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    /// In one word: of what was sent and cannot be used why, else the code.
    pub(super) fn reason(&self) -> &str {
        match self {
            ApiError::Refused { reason, .. } => reason,
            _ => self.parts().1,
        }
    }

    fn parts(&self) -> (StatusCode, &'static str) {
        match self {
            ApiError::NotFound(_) => (StatusCode::NOT_FOUND, "NotFound"),
            ApiError::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            ApiError::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            ApiError::Forbidden(_) => (StatusCode::FORBIDDEN, "Forbidden"),
            ApiError::Misdirected(_) => (StatusCode::MISDIRECTED_REQUEST, "Misdirected"),
            ApiError::Conflict(_) => (StatusCode::CONFLICT, "Conflict"),
            ApiError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "TooLarge"),
            ApiError::Refused { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "Refused"),
            ApiError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "Unavailable"),
            ApiError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "Internal"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = self.parts();
        let mut error = json!({ "code": code, "message": self.to_string() });
        if let ApiError::Refused { reason, .. } = &self {
            error["reason"] = json!(reason);
        }
        (status, Json(json!({ "error": error }))).into_response()
    }
}
