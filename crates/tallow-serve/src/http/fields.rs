//! The parameters of a request, from JSON, a form or the address, as LibreTranslate takes them.

use super::App;
use super::error::ApiError;
use axum::body::{Bytes, to_bytes};
use axum::extract::multipart::MultipartError;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request};
use axum::http::{StatusCode, header};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

/// Parameters by name.
#[derive(Debug, Default)]
pub(super) struct Fields {
    values: Map<String, Value>,
    pub(super) is_json: bool,
}

/// The body of a request, within the limits of size and time.
pub(super) async fn body_of(request: Request, app: &App) -> Result<Bytes, ApiError> {
    let limits = &app.config.limits;
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let too_large = || {
        let text = format!("the body has more than {} bytes", limits.body_bytes);
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    if declared.is_some_and(|length| length > limits.body_bytes) {
        return Err(too_large());
    }
    let time = Duration::from_secs_f64(limits.body_seconds);
    match tokio::time::timeout(time, to_bytes(request.into_body(), limits.body_bytes)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            use std::error::Error;
            let is_length = error
                .source()
                .is_some_and(|source| source.to_string().contains("length limit"));
            Err(match is_length {
                true => too_large(),
                false => ApiError::bad("the body ended too early"),
            })
        }
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time",
        )),
    }
}

/// A whole number that is written as a fraction, such as 3.0, as a whole number; other values as they are.
pub(super) fn whole(value: Value) -> Value {
    match value.as_f64() {
        Some(number) if number.fract() == 0.0 && number.abs() < 1e15 => (number as i64).into(),
        _ => value,
    }
}

/// A JSON body.
///
/// # Errors
/// Where the text is no JSON, or no object.
pub(super) fn json_of(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(values)) => Ok(values),
        Ok(_) => Err(ApiError::bad("Invalid JSON format")),
        Err(error) => Err(ApiError::bad(format!("Invalid JSON format: {error}"))),
    }
}

impl FromRequest<Arc<App>> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind
            .and_then(|kind| kind.to_str().ok())
            .unwrap_or_default()
            .to_ascii_lowercase();
        if kind.starts_with("application/json") {
            let values = json_of(&body_of(request, app).await?)?;
            return Ok(Self { values, is_json: true });
        }
        let mut pairs = pairs_of(request.uri().query().unwrap_or_default().as_bytes());
        if kind.starts_with("multipart/form-data") {
            let time = Duration::from_secs_f64(app.config.limits.body_seconds);
            let late = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
            pairs.extend(
                tokio::time::timeout(time, multipart(request, app))
                    .await
                    .map_err(late)??,
            );
        } else {
            pairs.extend(pairs_of(&body_of(request, app).await?));
        }
        let mut values = Map::new();
        // The first of several counts, as in Flask.
        for (name, value) in pairs {
            values.entry(name).or_insert(Value::String(value));
        }
        Ok(Self { values, is_json: false })
    }
}

async fn multipart(mut request: Request, app: &Arc<App>) -> Result<Vec<(String, String)>, ApiError> {
    let limit = app.config.limits.body_bytes;
    DefaultBodyLimit::max(limit).apply(&mut request);
    let refused = |error: MultipartError| ApiError::new(error.status(), error.body_text());
    let mut form = Multipart::from_request(request, app)
        .await
        .map_err(|error| ApiError::new(error.status(), error.body_text()))?;
    let mut pairs = Vec::new();
    while let Some(field) = form.next_field().await.map_err(refused)? {
        if let Some(name) = field.name().map(str::to_owned) {
            pairs.push((name, field.text().await.map_err(refused)?));
        }
    }
    Ok(pairs)
}

/// The pairs of a form.
fn pairs_of(bytes: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(bytes).into_owned().collect()
}

impl Fields {
    /// A parameter; none if it is missing or null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    /// A parameter that is a text.
    ///
    /// # Errors
    /// When it is something else.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::bad(format!("Invalid request: {name} parameter is no text"))),
        }
    }

    /// A parameter that is a text and not empty.
    ///
    /// # Errors
    /// When it is missing, empty or something else.
    pub(super) fn needed(&self, name: &str) -> Result<&str, ApiError> {
        let text = self.text(name)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| ApiError::missing(name))
    }

    /// The texts of the parameter `q`, and whether it is a list.
    ///
    /// # Errors
    /// When it is missing, empty or something else.
    pub(super) fn texts(&self) -> Result<(Vec<String>, bool), ApiError> {
        let no_text = || ApiError::bad("Invalid request: q parameter is neither a text nor a list of texts");
        match self.get("q") {
            None => Err(ApiError::missing("q")),
            Some(Value::String(text)) if text.is_empty() => Err(ApiError::missing("q")),
            Some(Value::String(text)) => Ok((vec![text.clone()], false)),
            Some(Value::Array(texts)) if texts.is_empty() => Err(ApiError::missing("q")),
            Some(Value::Array(texts)) => {
                let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(no_text);
                Ok((texts.iter().map(text).collect::<Result<_, _>>()?, true))
            }
            Some(_) => Err(no_text()),
        }
    }

    /// A parameter that is a whole number, also as text.
    ///
    /// # Errors
    /// When it is something else.
    pub(super) fn count(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let no_number = || ApiError::bad(format!("Invalid request: {name} parameter is not a number"));
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.trim().parse::<f64>().map_err(|_| no_number())?,
            Some(value) => value.as_f64().ok_or_else(no_number)?,
        };
        if number.fract() != 0.0 {
            return Err(no_number());
        }
        // A negative number means none, as in LibreTranslate; the cast takes numbers of any size to the nearest one.
        Ok(Some(number.max(0.0) as usize))
    }
}
