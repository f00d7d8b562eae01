//! The WebSocket of `marian-server`: a message of lines, and a message with their translations.

use super::caller::Caller;
use super::error::ApiError;
use super::{App, allows};
use crate::event::ServeEvent;
use crate::listener::Place;
use crate::text::Format;
use crate::variant::Wish;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// The longest reason for the end of a WebSocket, in bytes (RFC 6455, section 5.5).
const LONGEST_REASON: usize = 123;

/// What the address may name; clients of `marian-server` name nothing and get the first model.
#[derive(Debug, Deserialize)]
pub(super) struct Address {
    model: Option<String>,
}

/// `GET /translate` with an upgrade to a WebSocket.
pub(super) async fn translate(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(address): Query<Address>,
    Extension(place): Extension<Arc<Place>>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let name = match (&address.model, app.catalogue.slots().first()) {
        (Some(name), _) if app.catalogue.named(name).is_some() => name.clone(),
        (None, Some(first)) => first.name.clone(),
        _ => return Err(ApiError::bad("there is no such model; GET /v1/models lists them")),
    };
    // Browsers open WebSockets of other pages without asking.
    if let Some(origin) = headers.get(header::ORIGIN)
        && !is_of_this_server(origin, &headers)
        && !allows(&app.config.cors, origin)
    {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "pages of other servers may not use this one",
        ));
    }
    // A client without the right to translate gets no socket.
    app.ask(&caller, None, None)?;
    let most = app.config.limits.body_bytes;
    Ok(upgrade
        .max_message_size(most)
        .max_frame_size(most)
        .on_upgrade(move |socket| async move {
            converse(app, caller, name, socket).await;
            drop(place);
        }))
}

/// Whether a page comes from this server, by the names that the browser gives both.
fn is_of_this_server(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let text = |value: &HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
    let host = headers.get(header::HOST).map(text).unwrap_or_default();
    text(origin)
        .split_once("://")
        .is_some_and(|(_, of_page)| of_page == host)
}

async fn converse(app: Arc<App>, caller: Caller, model: String, mut socket: WebSocket) {
    let mut end = app.stop.subscribe();
    let silence = Duration::from_secs_f64(app.config.limits.socket_seconds);
    loop {
        let received = tokio::select! {
            received = tokio::time::timeout(silence, socket.recv()) => received,
            _ = end.wait_for(|is_ending| *is_ending) => break,
        };
        let Ok(Some(Ok(message))) = received else { break };
        let text = match message {
            Message::Text(text) => text.to_string(),
            Message::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) => continue,
        };
        let answer = match one(&app, &caller, &model, text).await {
            Ok(answer) => Message::Text((answer + "\n").into()),
            Err(error) => {
                if let Some(reason) = error.cause.clone() {
                    let id = "socket".to_owned();
                    app.observer.observe(&ServeEvent::Failed { id, reason });
                }
                goodbye(&error)
            }
        };
        let is_last = matches!(answer, Message::Close(_));
        if socket.send(answer).await.is_err() || is_last {
            break;
        }
    }
}

/// `marian-server` has no message for errors, and an empty line would be taken for a translation.
fn goodbye(error: &ApiError) -> Message {
    let message = error.message();
    Message::Close(Some(CloseFrame {
        code: if error.is_temporary() {
            close_code::AGAIN
        } else {
            close_code::POLICY
        },
        reason: message[..message.floor_char_boundary(LONGEST_REASON)].into(),
    }))
}

async fn one(app: &Arc<App>, caller: &Caller, model: &str, text: String) -> Result<String, ApiError> {
    let ask = app.ask(caller, None, None)?;
    let texts = vec![text.trim_end_matches(['\n', '\r']).to_owned()];
    ask.check_size(app, &texts)?;
    let slot = app
        .catalogue
        .named(model)
        .ok_or_else(|| ApiError::bad("there is no such model"))?;
    let translated = app.translate(&ask, slot, Wish::default(), texts, Format::Text).await?;
    Ok(translated.into_iter().next().map(|text| text.text).unwrap_or_default())
}
