//! The interface of LibreTranslate, so that its clients work unchanged.

use super::caller::Caller;
use super::error::ApiError;
use super::fields::Fields;
use super::{App, Ask, Direction};
use crate::catalogue::name_of;
use crate::text::{Format, TranslatedText};
use crate::variant::Wish;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;

/// `POST /translate`.
pub(super) async fn translate(
    State(app): State<Arc<App>>,
    caller: Caller,
    fields: Fields,
) -> Result<Json<Value>, ApiError> {
    let ask = app.ask(&caller, fields.text("api_key")?, None)?;
    let (mut texts, is_list) = fields.texts()?;
    let (source, target) = (fields.needed("source")?, fields.needed("target")?);
    let most = fields.count("alternatives")?.unwrap_or_default();
    let limit = app.config.limits.n_best - 1;
    if most > limit {
        let message = format!("Invalid request: alternatives parameter must be <= {limit}");
        return Err(ApiError::bad(message));
    }
    if !fields.is_json {
        // Forms have other line ends than their texts.
        texts.iter_mut().for_each(|text| *text = text.replace("\r\n", "\n"));
    }
    ask.check_size(&app, &texts)?;
    let format = match fields.text("format")?.unwrap_or_default() {
        "" | "text" => Format::Text,
        "html" => Format::Html,
        other => return Err(ApiError::bad(format!("{other} format is not supported"))),
    };
    let direction = app.direction(source, target, &texts)?;
    let detected = direction.detected.as_ref().map(Detected::to_json);
    let (texts, alternatives) = translated(&app, &ask, direction, texts, most, format).await?;
    let mut result = match is_list {
        true => json!({ "translatedText": texts }),
        false => json!({ "translatedText": texts[0] }),
    };
    if let Some(detected) = detected {
        result["detectedLanguage"] = match is_list {
            true => json!(vec![detected; texts.len()]),
            false => detected,
        };
    }
    if most > 0 {
        result["alternatives"] = match is_list {
            true => json!(alternatives),
            false => json!(alternatives[0]),
        };
    }
    Ok(Json(result))
}

/// The translations of texts, and the alternatives to each.
async fn translated(
    app: &Arc<App>,
    ask: &Ask,
    direction: Direction<'_>,
    texts: Vec<String>,
    most: usize,
    format: Format,
) -> Result<(Vec<String>, Vec<Vec<String>>), ApiError> {
    let Some(slot) = direction.slot else {
        // From a language to itself.
        let none = vec![Vec::new(); texts.len()];
        return Ok((texts, none));
    };
    let wish = Wish {
        // Markup has no alternatives, as in LibreTranslate.
        n_best: (most > 0 && format == Format::Text).then_some(most + 1),
        ..Wish::default()
    };
    let translated = app.translate(ask, slot, wish, texts, format).await?;
    let both = |text: TranslatedText| {
        let others = text.alternatives(most);
        (text.text, others)
    };
    Ok(translated.into_iter().map(both).unzip())
}

/// A language that was detected.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Detected {
    pub(super) code: String,
    /// From 0 to 1.
    pub(super) confidence: f64,
}

impl Detected {
    fn to_json(&self) -> Value {
        json!({ "confidence": (self.confidence * 100.0).round(), "language": self.code })
    }
}

/// `POST /detect`.
pub(super) async fn detect(
    State(app): State<Arc<App>>,
    caller: Caller,
    fields: Fields,
) -> Result<Json<Value>, ApiError> {
    let ask = app.ask(&caller, fields.text("api_key")?, None)?;
    let (texts, _) = fields.texts()?;
    ask.check_size(&app, &texts)?;
    let found = app.detect(&texts, None);
    // LibreTranslate's word for "none".
    let none = || Detected {
        code: app.sources().first().map(|code| (*code).to_owned()).unwrap_or_default(),
        confidence: 0.0,
    };
    Ok(Json(json!([found.unwrap_or_else(none).to_json()])))
}

/// `GET /languages`.
pub(super) async fn languages(State(app): State<Arc<App>>) -> Json<Value> {
    let codes = app.languages();
    let language = |code: &&str| {
        let slots = app.catalogue.slots().iter().filter(|slot| slot.source == **code);
        let mut targets: Vec<&str> = slots.map(|slot| &slot.target[..]).collect();
        targets.push(code);
        targets.sort_unstable();
        targets.dedup();
        json!({ "code": code, "name": name_of(code), "targets": targets })
    };
    Json(codes.iter().map(language).collect())
}

/// `GET /frontend/settings`.
pub(super) async fn settings(State(app): State<Arc<App>>) -> Json<Value> {
    let first = app.catalogue.slots().first();
    let language = |code: Option<&str>| {
        let code = code.unwrap_or_default();
        json!({ "code": code, "name": name_of(code) })
    };
    Json(json!({
        "charLimit": app.config.limits.characters,
        "frontendTimeout": 500,
        "apiKeys": app.keys.is_some(),
        "keyRequired": app.config.needs_key(),
        "suggestions": false,
        "filesTranslation": false,
        "supportedFilesFormat": [],
        "language": {
            "source": language(first.map(|slot| &slot.source[..])),
            "target": language(first.map(|slot| &slot.target[..])),
        },
    }))
}
