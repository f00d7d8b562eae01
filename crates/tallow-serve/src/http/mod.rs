//! The interfaces of the server over HTTP.

mod caller;
mod error;
mod fields;
mod libretranslate;
mod openapi;
mod pages;
mod socket;
mod v1;

use crate::catalogue::{Catalogue, LoadedModel, Slot};
use crate::config::ServeConfig;
use crate::engine::{Engine, Lines, Refusal, Terms};
use crate::event::{ServeEvent, ServeObserver};
use crate::keys::{Key, Keys};
use crate::metrics::{Metrics, RequestLabels, RouteLabels};
use crate::queue::{ClientId, Priority};
use crate::text::{Format, Text, TranslatedText};
use crate::variant::{Variant, Wish};
use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use caller::Caller;
use error::{ApiError, Cause};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use hyper::body::Incoming;
use libretranslate::Detected;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tallow_data::Language;
use tallow_decode::{Input, Translation};
use tokio::sync::watch;

/// The route of the WebSocket.
const SOCKET: &str = "/translate/socket";

/// The header with the number of a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest number of a request that a client may choose.
const LONGEST_ID: usize = 64;

/// From this many clients on, those that have not come for a while are forgotten.
const MANY_CLIENTS: usize = 1 << 12;

/// Limits of requests per minute, for clients with one limit.
type Limiter = DefaultKeyedRateLimiter<ClientId>;

/// What all requests share.
pub(crate) struct App {
    pub(crate) config: ServeConfig,
    pub(crate) catalogue: Catalogue,
    pub(crate) engine: Engine,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) keys: Option<Keys>,
    limiters: Vec<(u32, Limiter)>,
    pub(crate) observer: Arc<dyn ServeObserver>,
    /// Whether the server accepts no more connections. All that is open has a receiver.
    pub(crate) stop: watch::Sender<bool>,
    ids: AtomicU64,
    first_id: u64,
}

/// Where texts go.
struct Direction<'a> {
    /// The model; none from a language to itself.
    slot: Option<&'a Slot>,
    detected: Option<Detected>,
}

/// A request that is allowed.
#[derive(Clone, Copy, Debug)]
struct Ask {
    terms: Terms,
    characters: usize,
}

impl Ask {
    /// Whether texts are within the limits.
    fn check_size(&self, app: &App, texts: &[String]) -> Result<(), ApiError> {
        let most = app.config.limits.texts;
        let too_much = |size: usize, limit: usize| {
            ApiError::bad(format!(
                "Invalid request: request ({size}) exceeds text limit ({limit})"
            ))
        };
        if texts.len() > most {
            return Err(too_much(texts.len(), most));
        }
        let characters = texts.iter().map(|text| text.chars().count()).sum();
        match characters > self.characters {
            true => Err(too_much(characters, self.characters)),
            false => Ok(()),
        }
    }

    /// What comes of some work, if it comes in time.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let late = |_| Refusal::Late;
        tokio::time::timeout_at(self.terms.deadline.into(), work)
            .await
            .map_err(late)?
    }
}

impl App {
    pub(crate) fn new(
        config: ServeConfig,
        catalogue: Catalogue,
        engine: Engine,
        keys: Option<Keys>,
        metrics: Arc<Metrics>,
        observer: Arc<dyn ServeObserver>,
    ) -> Self {
        let of_keys = keys
            .iter()
            .flat_map(|keys| keys.key.iter().map(|key| key.requests_per_minute));
        let mut rates: Vec<u32> = of_keys.chain([config.limits.requests_per_minute]).collect();
        rates.sort_unstable();
        rates.dedup();
        let limiter = |rate: u32| Some((rate, RateLimiter::keyed(Quota::per_minute(NonZeroU32::new(rate)?))));
        Self {
            limiters: rates.into_iter().filter_map(limiter).collect(),
            config,
            catalogue,
            engine,
            metrics,
            keys,
            observer,
            stop: watch::Sender::new(false),
            ids: AtomicU64::new(0),
            // Numbers of another start of the server are others, most of the time.
            first_id: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_micros() as u64),
        }
    }

    /// Whether a request may be answered: by its key, its rate, and what waits already.
    fn ask(&self, caller: &Caller, key: Option<&str>, timeout: Option<Duration>) -> Result<Ask, ApiError> {
        let secret = key.filter(|key| !key.is_empty()).or(caller.key.as_deref());
        let key = match (&self.keys, secret) {
            (Some(keys), Some(secret)) => {
                let unknown = || ApiError::new(StatusCode::FORBIDDEN, "Invalid API key");
                Some(keys.find(secret).ok_or_else(unknown)?)
            }
            _ => None,
        };
        if key.is_none() && self.config.needs_key() {
            return Err(ApiError::bad("Please contact the server operator to get an API key"));
        }
        let client = match key {
            Some(key) => ClientId::of(("key", &key.name)),
            None => ClientId::of(("address", caller.network())),
        };
        self.check_rate(client, key)?;
        let most = Duration::from_secs_f64(self.config.limits.request_seconds);
        let terms = Terms {
            client,
            priority: Priority::Interactive,
            deadline: Instant::now() + timeout.unwrap_or(most).min(most),
        };
        self.engine.admit(terms)?;
        Ok(Ask {
            terms,
            characters: key
                .and_then(|key| key.characters)
                .unwrap_or(self.config.limits.characters),
        })
    }

    fn check_rate(&self, client: ClientId, key: Option<&Key>) -> Result<(), ApiError> {
        let rate = key.map_or(self.config.limits.requests_per_minute, |key| key.requests_per_minute);
        let Some((_, limiter)) = self.limiters.iter().find(|(of, _)| *of == rate) else {
            return Ok(());
        };
        let until = limiter.check_key(&client);
        // Those that have not come for a while need not be remembered. Looking for them takes a while, too.
        if limiter.len() > MANY_CLIENTS && self.ids.load(Ordering::Relaxed).is_multiple_of(MANY_CLIENTS as u64) {
            limiter.retain_recent();
        }
        until.map_err(|until| {
            let wait = until.wait_time_from(DefaultClock::default().now());
            let message = format!("Slowdown: {rate} per 1 minute");
            ApiError::later(StatusCode::TOO_MANY_REQUESTS, message, wait)
        })
    }

    /// The languages that models read.
    fn sources(&self) -> Vec<&str> {
        let mut codes: Vec<&str> = Vec::new();
        for slot in self.catalogue.slots() {
            if !codes.contains(&&slot.source[..]) {
                codes.push(&slot.source);
            }
        }
        codes
    }

    /// The languages that models read or write.
    fn languages(&self) -> Vec<&str> {
        let mut codes = self.sources();
        for slot in self.catalogue.slots() {
            if !codes.contains(&&slot.target[..]) {
                codes.push(&slot.target);
            }
        }
        codes
    }

    /// The language of texts, among those that models read, perhaps only those into a target.
    fn detect(&self, texts: &[String], target: Option<&str>) -> Option<Detected> {
        let reads = |code: &&str| target.is_none_or(|target| self.catalogue.between(code, target).is_some());
        let codes = self.sources().into_iter().filter(reads);
        let (codes, languages): (Vec<&str>, Vec<Language>) =
            codes.filter_map(|code| Some((code, Language::of_code(code)?))).unzip();
        // The beginning of a text says enough.
        let mut text = String::new();
        for next in texts {
            text.extend(next.chars().take(2000));
            text.push('\n');
            if text.len() > 4000 {
                break;
            }
        }
        let (place, confidence) = Language::detect(&text, &languages)?;
        Some(Detected {
            code: codes[place].to_owned(),
            confidence,
        })
    }

    /// The model for texts in a language, which may be `auto`.
    fn direction(&self, source: &str, target: &str, texts: &[String]) -> Result<Direction<'_>, ApiError> {
        let languages = self.languages();
        let unknown = |code: &str| ApiError::bad(format!("{code} is not supported"));
        if !languages.contains(&target) {
            return Err(unknown(target));
        }
        let detected = match source {
            "auto" => {
                let sources = self.sources();
                let into = |code: &&&str| self.catalogue.between(code, target).is_some();
                // What cannot be told is in the first language there is, with no confidence.
                let first = || sources.iter().find(into).or(sources.first());
                let found = self.detect(texts, Some(target)).or_else(|| {
                    let code = (*first()?).to_owned();
                    Some(Detected { code, confidence: 0.0 })
                });
                Some(found.ok_or_else(|| unknown("auto"))?)
            }
            code if languages.contains(&code) => None,
            other => return Err(unknown(other)),
        };
        let source = detected.as_ref().map_or(source, |detected| &detected.code);
        let slot = self.catalogue.between(source, target);
        if slot.is_none() && source != target {
            let name = |code: &str| format!("{} ({code})", crate::catalogue::name_of(code));
            let (source, target) = (name(source), name(target));
            let message = format!("{target} is not available as a target language from {source}");
            return Err(ApiError::bad(message));
        }
        Ok(Direction { slot, detected })
    }

    /// A model's search for a wish; the model is loaded if it is not there.
    async fn variant(self: &Arc<Self>, ask: &Ask, slot: &Slot, wish: &Wish) -> Result<Arc<Variant>, Refusal> {
        let model: Arc<LoadedModel> = match self.catalogue.loaded(slot) {
            Some(model) => model,
            None => ask.in_time(self.load(slot)).await?,
        };
        if *wish == Wish::default() {
            return Ok(model.plain().clone());
        }
        let wish = wish.clone();
        ask.in_time(blocking(move || model.variant(&wish))).await
    }

    /// Loads a model. Whoever waits for it takes no thread.
    async fn load(self: &Arc<Self>, slot: &Slot) -> Result<Arc<LoadedModel>, Refusal> {
        let _one_at_a_time = slot.turn.lock().await;
        let (app, name) = (self.clone(), slot.name.clone());
        blocking(move || match app.catalogue.named(&name) {
            Some(slot) => app.catalogue.get(slot),
            None => Err(Refusal::Failed(format!("no model {name}"))),
        })
        .await
    }

    /// Cuts texts up and begins to translate their lines. `ask_more` may ask for more of the translations.
    async fn begin(
        self: &Arc<Self>,
        ask: &Ask,
        variant: &Arc<Variant>,
        texts: Vec<String>,
        format: Format,
        ask_more: impl FnOnce(&mut [Input]) + Send + 'static,
    ) -> Result<(Vec<Text>, Lines), Refusal> {
        let (app, variant, terms) = (self.clone(), variant.clone(), ask.terms);
        let begin = move || {
            let texts: Vec<Text> = texts.iter().map(|text| Text::new(text, format)).collect();
            let mut inputs: Vec<Input> = texts.iter().flat_map(|text| text.inputs.iter().cloned()).collect();
            let (lines, limit) = (inputs.len(), app.config.limits.lines);
            let most = limit / variant.translator.config().n_best.max(1);
            if lines > most {
                return Err(Refusal::TooMuch(format!(
                    "Invalid request: request ({lines} lines) exceeds text limit ({most} lines with so many translations of each)"
                )));
            }
            ask_more(&mut inputs);
            Ok((texts, app.engine.translate(&variant, &inputs, terms)?))
        };
        ask.in_time(blocking(begin)).await
    }

    /// Translates texts by a model.
    async fn translate(
        self: &Arc<Self>,
        ask: &Ask,
        slot: &Slot,
        wish: Wish,
        texts: Vec<String>,
        format: Format,
    ) -> Result<Vec<TranslatedText>, Refusal> {
        let wish = Wish {
            attention: wish.attention || format.needs_alignment(),
            ..wish
        };
        let variant = self.variant(ask, slot, &wish).await?;
        let (texts, lines) = self.begin(ask, &variant, texts, format, |_| ()).await?;
        let found = ask.in_time(lines.all()).await?;
        ask.in_time(blocking(move || put_together(texts, found, &variant)))
            .await
    }

    fn next_id(&self) -> String {
        let number = self.first_id.wrapping_add(self.ids.fetch_add(1, Ordering::Relaxed));
        format!("{number:x}")
    }
}

/// The texts with the translations of their parts. Takes time for long texts.
fn put_together(texts: Vec<Text>, found: Vec<Translation>, variant: &Variant) -> Result<Vec<TranslatedText>, Refusal> {
    let mut found = found.into_iter();
    let translated = |text: Text| {
        let of_text = found.by_ref().take(text.inputs.len()).collect();
        text.translated(of_text, &variant.translator)
    };
    texts.into_iter().map(translated).collect()
}

/// Runs what would block other requests on a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Refusal> + Send + 'static) -> Result<T, Refusal> {
    let panicked = |_| Refusal::Failed("a thread panicked".into());
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}

/// Sends a WebSocket of `marian-server` to its own route. Its clients open it where others post.
pub(crate) fn to_socket(request: &mut Request<Incoming>) {
    let upgrade = request.headers().get(header::UPGRADE);
    let opens = upgrade.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let path = request.uri().path();
    if !opens || path.trim_end_matches('/') != "/translate" {
        return;
    }
    let query = request
        .uri()
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    if let Ok(uri) = format!("{SOCKET}{query}").parse() {
        *request.uri_mut() = uri;
    }
}

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(pages::page))
        .route("/translate", post(libretranslate::translate))
        .route(SOCKET, get(socket::translate))
        .route("/detect", post(libretranslate::detect))
        .route("/languages", get(libretranslate::languages))
        .route("/frontend/settings", get(libretranslate::settings))
        .route("/v1/translate", post(v1::translate))
        .route("/v1/models", get(v1::models))
        .route("/health", get(pages::health))
        .route("/ready", get(pages::ready))
        .route("/metrics", get(pages::metrics))
        .route("/docs", get(pages::docs))
        .route("/openapi.json", get(pages::openapi))
        .fallback(|| async { ApiError::new(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this address takes other methods")
        })
        .layer(from_fn_with_state(app.clone(), watch))
        .with_state(app)
}

/// Counts, times and logs a request, gives it a number, and answers browsers that ask for permission.
async fn watch(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    let begin = Instant::now();
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let is_fine = |id: &&str| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    // Counts requests, too, so it is taken in any case.
    let own = app.next_id();
    let id = id.filter(is_fine).map_or(own, str::to_owned);
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", |path| path.as_str()).to_owned();
    let method = request.method().clone();
    let origin = request.headers().get(header::ORIGIN).cloned();
    app.metrics.in_flight.inc();
    // Should the client go away, this future is dropped and the guard still counts.
    let guard = InFlight(&app.metrics);
    let mut response = match method == Method::OPTIONS && !app.config.cors.is_empty() {
        true => StatusCode::NO_CONTENT.into_response(),
        false => next.run(request).await,
    };
    drop(guard);
    let status = response.status().as_u16();
    if let Some(Cause(reason)) = response.extensions_mut().remove::<Cause>() {
        let id = id.clone();
        app.observer.observe(&ServeEvent::Failed { id, reason });
    }
    let spent = begin.elapsed();
    let labels = RequestLabels {
        route: route.clone(),
        status,
    };
    app.metrics.requests.get_or_create(&labels).inc();
    let labels = RouteLabels { route: route.clone() };
    app.metrics
        .request_seconds
        .get_or_create(&labels)
        .observe(spent.as_secs_f64());
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !app.config.cors.is_empty() {
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = origin.filter(|origin| allows(&app.config.cors, origin)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("retry-after, x-request-id"),
        );
        let allowed = HeaderValue::from_static("authorization, content-type, x-api-key, x-request-id");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST"),
        );
    }
    app.observer.observe(&ServeEvent::Request {
        id,
        method: method.to_string(),
        route,
        status,
        milliseconds: (spent.as_secs_f64() * 1e6).round() / 1e3,
    });
    response
}

struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

fn allows(origins: &[String], origin: &HeaderValue) -> bool {
    origins
        .iter()
        .any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
}
