//! What is not a translation: pages, probes, metrics, the description of the interface.

use super::App;
use super::error::ApiError;
use super::openapi::describe;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The pages load nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn html(text: &'static str) -> Response {
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], Html(text)).into_response()
}

/// `GET /`.
pub(super) async fn page() -> Response {
    html(include_str!("page.html"))
}

/// `GET /docs`.
pub(super) async fn docs() -> Response {
    html(include_str!("docs.html"))
}

/// `GET /openapi.json`.
pub(super) async fn openapi(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    let failed = |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the description cannot be written");
    Ok(Json(describe(&app).map_err(failed)?))
}

/// `GET /health`: whether the process answers at all.
pub(super) async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /ready`: whether new requests should come here.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    if *app.stop.borrow() {
        let message = "the server is about to end";
        return Err(ApiError::later(
            StatusCode::SERVICE_UNAVAILABLE,
            message,
            Duration::from_secs(1),
        ));
    }
    Ok(Json(json!({ "status": "ready" })))
}

/// `GET /metrics`.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    app.metrics.cache_bytes.set(app.engine.cache_bytes() as i64);
    let failed = |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written");
    let text = app.metrics.text().map_err(failed)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
