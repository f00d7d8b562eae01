//! Tallow's own interface: scores, several translations, alignments, pieces, lines as they are ready.

use super::caller::Caller;
use super::error::ApiError;
use super::fields::{body_of, json_of, whole};
use super::libretranslate::Detected;
use super::{App, blocking, put_together};
use crate::catalogue::Slot;
use crate::engine::{Lines, Refusal};
use crate::event::ServeEvent;
use crate::queue::Priority;
use crate::text::{Format, Text};
use crate::variant::{Variant, Wish};
use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tallow_decode::{Candidate, Input, Translation};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

/// The times that a client may set, in milliseconds: up to a day.
const TIMEOUTS_MS: RangeInclusive<u64> = 100..=86_400_000;

/// One text or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "`text` is neither a text nor a list of texts")]
enum Texts {
    One(String),
    Several(Vec<String>),
}

/// The body of `POST /v1/translate`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    text: Texts,
    #[serde(default)]
    format: Format,
    /// The name of a model, in the place of languages.
    #[serde(default)]
    model: Option<String>,
    /// `auto` is detected.
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    n_best: Option<usize>,
    #[serde(default)]
    beam: Option<usize>,
    #[serde(default)]
    alignments: bool,
    #[serde(default)]
    pieces: bool,
    /// What the translation of the first line begins with.
    #[serde(default)]
    prefix: String,
    /// What the translation of the first line contains.
    #[serde(default)]
    phrases: Vec<String>,
    #[serde(default)]
    priority: Priority,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    api_key: Option<String>,
}

impl FromRequest<Arc<App>> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let mut body = json_of(&body_of(request, app).await?)?;
        for key in ["n_best", "beam", "timeout_ms"] {
            if let Some(value) = body.get_mut(key) {
                *value = whole(value.take());
            }
        }
        serde_json::from_value(Value::Object(body)).map_err(|error| ApiError::bad(error.to_string()))
    }
}

/// `POST /v1/translate`.
pub(super) async fn translate(State(app): State<Arc<App>>, caller: Caller, body: Body) -> Result<Response, ApiError> {
    if body.timeout_ms.is_some_and(|timeout| !TIMEOUTS_MS.contains(&timeout)) {
        let (least, most) = (TIMEOUTS_MS.start(), TIMEOUTS_MS.end());
        return Err(ApiError::bad(format!("timeout_ms: from {least} to {most}")));
    }
    let timeout = body.timeout_ms.map(Duration::from_millis);
    let mut ask = app.ask(&caller, body.api_key.as_deref(), timeout)?;
    ask.terms.priority = body.priority;
    let texts = match body.text {
        Texts::One(text) => vec![text],
        Texts::Several(texts) => texts,
    };
    ask.check_size(&app, &texts)?;
    for (name, value, limit) in [
        ("n_best", body.n_best, app.config.limits.n_best),
        ("beam", body.beam, app.config.limits.beam),
    ] {
        if value.is_some_and(|value| value == 0 || value > limit) {
            return Err(ApiError::bad(format!("{name}: from 1 to {limit}")));
        }
    }
    let (slot, detected) = match (&body.model, &body.source, &body.target) {
        (Some(name), None, None) => match app.catalogue.named(name) {
            Some(slot) => (slot, None),
            None => {
                return Err(ApiError::bad(format!(
                    "there is no model {name:?}; GET /v1/models lists them"
                )));
            }
        },
        (None, source, Some(target)) => {
            let direction = app.direction(source.as_deref().unwrap_or("auto"), target, &texts)?;
            let same = || ApiError::bad("source and target are the same language");
            (direction.slot.ok_or_else(same)?, direction.detected)
        }
        _ => {
            return Err(ApiError::bad(
                "name either a `model`, or a `target` and perhaps a `source`",
            ));
        }
    };
    let wish = Wish {
        n_best: body.n_best,
        beam: body.beam,
        attention: body.alignments || body.format.needs_alignment(),
    };
    let variant = app.variant(&ask, slot, &wish).await?;
    let shows = Shows {
        alignments: body.alignments,
        pieces: body.pieces,
    };
    if body.stream && body.format != Format::Text {
        return Err(ApiError::bad("stream: only plain text comes line by line"));
    }
    let (prefix, phrases) = (body.prefix, body.phrases);
    let ask_more = move |inputs: &mut [Input]| {
        if let Some(first) = inputs.first_mut() {
            first.prefix = prefix;
            first.phrases = phrases;
        }
    };
    let (texts, lines) = app.begin(&ask, &variant, texts, body.format, ask_more).await?;
    let model = slot.name.clone();
    if body.stream {
        let stream = Stream {
            app: app.clone(),
            model,
            variant,
            // Which line of which text each line is.
            places: texts
                .iter()
                .enumerate()
                .flat_map(|(text, lines)| (0..lines.inputs.len()).map(move |line| (text, line)))
                .collect(),
            shows,
            deadline: ask.terms.deadline,
        };
        return Ok(stream.answer(lines));
    }
    let found = ask.in_time(lines.all()).await?;
    let answer = blocking(move || answer_to_json(&model, &variant, texts, found, shows));
    let mut answer = ask.in_time(answer).await?;
    if let Some(Detected { code, confidence }) = detected {
        answer["detected"] = json!({ "language": code, "confidence": confidence });
    }
    Ok(Json(answer).into_response())
}

fn answer_to_json(
    model: &str,
    variant: &Variant,
    texts: Vec<Text>,
    found: Vec<Translation>,
    shows: Shows,
) -> Result<Value, Refusal> {
    let source_tokens: usize = found.iter().map(Translation::source_tokens).sum();
    let best = found.iter().filter_map(|translation| translation.candidates.first());
    let target_tokens: usize = best.map(|best| best.hypothesis.tokens.len()).sum();
    let mut answers = Vec::new();
    for text in put_together(texts, found, variant)? {
        let lines = text.translations.iter();
        let lines: Vec<Value> = lines
            .map(|line| line_to_json(variant, line, shows))
            .collect::<Result<_, _>>()?;
        answers.push(json!({ "text": text.text, "lines": lines }));
    }
    Ok(json!({
        "model": model,
        "translations": answers,
        "usage": { "source_tokens": source_tokens, "target_tokens": target_tokens },
    }))
}

/// What a line of an answer has beside its text and score.
#[derive(Clone, Copy, Debug)]
struct Shows {
    alignments: bool,
    pieces: bool,
}

fn line_to_json(variant: &Variant, line: &Translation, shows: Shows) -> Result<Value, Refusal> {
    let candidate = |(rank, candidate): (usize, &Candidate)| candidate_to_json(variant, line, rank, candidate, shows);
    let candidates = line.candidates.iter().enumerate().map(candidate);
    let mut shown = json!({ "candidates": candidates.collect::<Result<Vec<Value>, _>>()? });
    if line.parts.len() > 1 {
        shown["parts"] = line.parts.iter().map(|part| json!(part.text)).collect();
    }
    if line.cut_tokens > 0 {
        shown["cut_tokens"] = json!(line.cut_tokens);
    }
    Ok(shown)
}

fn candidate_to_json(
    variant: &Variant,
    line: &Translation,
    rank: usize,
    candidate: &Candidate,
    shows: Shows,
) -> Result<Value, Refusal> {
    let translator = &variant.translator;
    let hypothesis = &candidate.hypothesis;
    let mut shown = json!({
        "text": candidate.text,
        "score": hypothesis.score,
        "log_probability": hypothesis.log_probability,
    });
    if shows.pieces {
        shown["pieces"] = json!(translator.target_pieces(&hypothesis.tokens));
        shown["log_probabilities"] = json!(hypothesis.token_log_probabilities);
    }
    // Of a line in parts, the attention of the best translation alone is at hand part by part.
    if shows.alignments && (rank == 0 || line.parts.len() == 1) {
        let alone = Translation {
            parts: line.parts.clone(),
            best: match line.parts.len() {
                1 => vec![hypothesis.clone()],
                _ => line.best.clone(),
            },
            candidates: Vec::new(),
            cut_tokens: 0,
            unknown_tag: None,
        };
        shown["alignment"] = json!(translator.word_pairs(&alone).map_err(Refusal::of)?);
    }
    Ok(shown)
}

/// Server-sent events: `line` for each line in order, then `done`; or `error`.
struct Stream {
    app: Arc<App>,
    model: String,
    variant: Arc<Variant>,
    /// The text and the line of each line.
    places: Vec<(usize, usize)>,
    shows: Shows,
    deadline: Instant,
}

impl Stream {
    fn answer(self, lines: Lines) -> Response {
        let (sender, receiver) = channel::<Result<Event, Infallible>>(16);
        tokio::spawn(async move {
            // Who has gone needs no more lines; dropping them cancels what has not begun.
            let last = tokio::select! {
                () = sender.closed() => return,
                last = self.send(lines, &sender) => last,
            };
            let last = last.unwrap_or_else(|refusal| {
                let error = ApiError::from(refusal);
                if let Some(reason) = error.cause.clone() {
                    let id = "stream".to_owned();
                    self.app.observer.observe(&ServeEvent::Failed { id, reason });
                }
                event("error", &json!({ "error": error.message() }))
            });
            let _ = sender.send(Ok(last)).await;
        });
        Sse::new(ReceiverStream::new(receiver)).into_response()
    }

    /// Sends all lines, and returns the last event.
    async fn send(&self, mut lines: Lines, sender: &Sender<Result<Event, Infallible>>) -> Result<Event, Refusal> {
        let mut early: Vec<Option<Translation>> = vec![None; self.places.len()];
        let mut next = 0;
        while next < self.places.len() {
            let late = |_| Refusal::Late;
            let received = tokio::time::timeout_at(self.deadline.into(), lines.next())
                .await
                .map_err(late)?;
            let lost = || Refusal::Failed("a line is lost".into());
            let (line, translation) = received.ok_or_else(lost)?;
            early[line] = Some(translation?);
            while let Some(translation) = early.get_mut(next).and_then(Option::take) {
                let (text, number) = self.places[next];
                let mut data = line_to_json(&self.variant, &translation, self.shows)?;
                data["text"] = json!(text);
                data["line"] = json!(number);
                let _ = sender.send(Ok(event("line", &data))).await;
                next += 1;
            }
        }
        Ok(event("done", &json!({ "model": self.model })))
    }
}

fn event(name: &str, data: &Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

/// `GET /v1/models`.
pub(super) async fn models(State(app): State<Arc<App>>) -> Json<Value> {
    let model = |slot: &Slot| {
        let loaded = slot.loaded();
        json!({
            "name": slot.name,
            "source": slot.source,
            "target": slot.target,
            "loaded": loaded.is_some(),
            "search": loaded.map(|model| model.plain().translator.config().summary()),
        })
    };
    Json(json!({ "models": app.catalogue.slots().iter().map(model).collect::<Vec<Value>>() }))
}
