//! Errors as clients of LibreTranslate know them: a status, and `{"error": "..."}`.

use crate::engine::Refusal;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::time::Duration;

/// Why a request has no other answer.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    message: String,
    retry_after: Option<Duration>,
    /// What the log should know and the client should not.
    pub(super) cause: Option<String>,
}

/// The cause of a failure, for the log.
#[derive(Clone, Debug)]
pub(super) struct Cause(pub(super) String);

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            retry_after: None,
            cause: None,
        }
    }

    /// The request makes no sense.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A parameter is missing, in LibreTranslate's words.
    pub(super) fn missing(name: &str) -> Self {
        Self::bad(format!("Invalid request: missing {name} parameter"))
    }

    pub(super) fn later(status: StatusCode, message: impl Into<String>, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(status, message)
        }
    }

    /// Whether the same request may succeed later.
    pub(super) fn is_temporary(&self) -> bool {
        self.retry_after.is_some()
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Busy { retry_after } => Self::later(StatusCode::SERVICE_UNAVAILABLE, message, retry_after),
            Refusal::Ending => Self::later(StatusCode::SERVICE_UNAVAILABLE, message, Duration::from_secs(1)),
            Refusal::Late => Self::new(StatusCode::GATEWAY_TIMEOUT, message),
            Refusal::TooMuch(_) => Self::bad(message),
            Refusal::Impossible(_) => Self::new(StatusCode::CONFLICT, message),
            Refusal::Failed(cause) => Self {
                cause: Some(cause),
                ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({ "error": self.message }))).into_response();
        if let Some(wait) = self.retry_after {
            // Whole seconds; a hint, so the next second will do.
            let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(Cause(cause));
        }
        response
    }
}
