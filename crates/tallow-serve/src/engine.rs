//! Threads that translate what waits in the queue.
//!
//! A request is lines; a line is sentences. Sentences of all requests wait in one queue, and each free thread takes a
//! batch of them. The translation of a line does not depend on the batches of its sentences.

use crate::cache::{Found, Sentences};
use crate::metrics::Metrics;
use crate::queue::{ClientId, Priority, Queue, Queued};
use crate::variant::Variant;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tallow_decode::{DecodeError, Hypothesis, Input, ReadLines, Sentence, Translation};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a batch adds to the sums of tokens and seconds fades by this factor with each later one.
const FADING: f64 = 0.9;

/// The time between two looks for sentences that nobody waits for any more, while requests are refused.
const SWEEP_TIME: Duration = Duration::from_millis(100);

/// The speed that is assumed before the first batch, in source tokens per second.
const FIRST_SPEED: f64 = 2000.0;

/// The most tokens that wait, as a multiple of the share of a lone client: while clients come one after another, those
/// before have more than the share that is left for each.
const MOST_SHARES: usize = 16;

/// Why there is no translation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Too much waits already.
    #[error("too many texts are waiting; try again in {} s", .retry_after.as_secs().max(1))]
    Busy {
        /// When there may be room.
        retry_after: Duration,
    },
    /// The request's time is over.
    #[error("the translation was not ready in time")]
    Late,
    /// The server is about to end.
    #[error("the server is about to end")]
    Ending,
    /// The request is too large.
    #[error("{0}")]
    TooMuch(String),
    /// The text cannot be translated as it is asked for.
    #[error("{0}")]
    Impossible(String),
    /// The model failed.
    #[error("the translation failed")]
    Failed(String),
}

impl Refusal {
    /// The reason of an error: the request, or the model.
    pub(crate) fn of(error: DecodeError) -> Self {
        match error {
            DecodeError::LongLine { .. }
            | DecodeError::LongRequest { .. }
            | DecodeError::PhrasesNeedBeams { .. }
            | DecodeError::PhrasesOfParts { .. }
            | DecodeError::UnknownText { .. }
            | DecodeError::UnknownForbidden(_)
            | DecodeError::Config(_)
            | DecodeError::Request(_) => Self::Impossible(error.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// How a request is treated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Who asks.
    pub(crate) client: ClientId,
    /// How urgent it is.
    pub(crate) priority: Priority,
    /// When its time is over.
    pub(crate) deadline: Instant,
}

/// The translation of a line of a request, by its number.
pub(crate) type OfLine = (usize, Result<Translation, Refusal>);

/// Lines of a request that are being translated. They arrive in any order. Dropping this cancels what has not begun.
#[derive(Debug)]
pub(crate) struct Lines {
    receiver: UnboundedReceiver<OfLine>,
    count: usize,
}

impl Lines {
    /// The next line that is ready, and its number; none after the last.
    pub(crate) async fn next(&mut self) -> Option<OfLine> {
        self.receiver.recv().await
    }

    /// All lines in their order.
    ///
    /// # Errors
    /// That of the first line that has no translation.
    pub(crate) async fn all(mut self) -> Result<Vec<Translation>, Refusal> {
        let mut lines: Vec<Option<Translation>> = vec![None; self.count];
        while let Some((line, translation)) = self.next().await {
            lines[line] = Some(translation?);
        }
        let lines: Option<Vec<Translation>> = lines.into_iter().collect();
        lines.ok_or_else(|| Refusal::Failed("a line is lost".into()))
    }
}

/// A line whose sentences are searched for.
#[derive(Debug)]
struct Line {
    variant: Arc<Variant>,
    read: ReadLines,
    found: Vec<OnceLock<Found>>,
    /// The number of sentences that are not found yet.
    missing: AtomicUsize,
    number: usize,
    sender: UnboundedSender<OfLine>,
    deadline: Instant,
}

impl Line {
    /// Takes what was found for a sentence; the last one completes the line.
    fn take(&self, sentence: usize, found: Found) {
        let is_first = self.found[sentence].set(found).is_ok();
        if is_first && self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.complete();
        }
    }

    fn complete(&self) {
        let found = self.found.iter().filter_map(OnceLock::get);
        let found: Vec<Vec<Hypothesis>> = found.map(|found| found.to_vec()).collect();
        let lines = self.variant.translator.finish(self.read.clone(), found);
        let line = lines.map_err(Refusal::of).and_then(|mut lines| {
            let nothing = || Refusal::Failed("a line is missing".into());
            lines.pop().ok_or_else(nothing)
        });
        self.reply(line);
    }

    fn reply(&self, line: Result<Translation, Refusal>) {
        // Who does not wait any more has dropped the receiver.
        let _ = self.sender.send((self.number, line));
    }
}

/// A sentence in the queue.
#[derive(Debug)]
struct Waiting {
    line: Arc<Line>,
    sentence: usize,
    arrival: Instant,
}

impl Waiting {
    fn sentence(&self) -> &Sentence {
        &self.line.read.sentences()[self.sentence]
    }
}

impl Queued for Waiting {
    fn class(&self) -> u64 {
        self.line.variant.id
    }

    fn length(&self) -> usize {
        self.sentence().tokens.len()
    }

    fn rows(&self) -> usize {
        self.line.variant.translator.rows()
    }

    fn batch_limit(&self) -> usize {
        self.line.variant.translator.batch_limit()
    }

    fn is_wanted(&self) -> bool {
        !self.line.sender.is_closed()
    }
}

/// Limits of an [`Engine`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineSettings {
    /// The number of threads that translate.
    pub(crate) workers: usize,
    /// The most source tokens that wait.
    pub(crate) queue_tokens: usize,
    /// The bytes of the cache of sentences.
    pub(crate) cache_bytes: u64,
}

#[derive(Debug)]
struct State {
    queue: Queue<Waiting>,
    is_ending: bool,
    swept: Instant,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told when a sentence has come, or the end.
    news: Condvar,
    settings: EngineSettings,
    cache: Sentences,
    metrics: Arc<Metrics>,
    /// Source tokens of searches, and the seconds that they took a worker.
    speed: Mutex<(f64, f64)>,
}

/// A queue and the threads that work on it.
#[derive(Debug)]
pub(crate) struct Engine {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(settings: EngineSettings, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue: Queue::default(),
                is_ending: false,
                swept: Instant::now(),
            }),
            news: Condvar::new(),
            settings,
            cache: Sentences::new(settings.cache_bytes),
            metrics,
            speed: Mutex::new((FIRST_SPEED, 1.0)),
        });
        let engine = Self {
            shared,
            threads: Mutex::default(),
        };
        for worker in 0..settings.workers {
            let shared = engine.shared.clone();
            let builder = std::thread::Builder::new().name(format!("translate {worker}"));
            lock(&engine.threads).push(builder.spawn(move || shared.work())?);
        }
        Ok(engine)
    }

    /// Whether a request may come in now.
    ///
    /// # Errors
    /// When too much waits, or the wait would be longer than the request's time.
    pub(crate) fn admit(&self, terms: Terms) -> Result<(), Refusal> {
        self.shared.admit(&mut self.shared.lock(), terms)
    }

    /// Begins to translate lines. Blocks while it reads them, for about a millisecond per thousand words.
    ///
    /// # Errors
    /// When too much waits, or a line cannot be translated as it is asked for.
    pub(crate) fn translate(&self, variant: &Arc<Variant>, inputs: &[Input], terms: Terms) -> Result<Lines, Refusal> {
        self.admit(terms)?;
        let (sender, receiver) = unbounded_channel();
        let mut waiting = Vec::new();
        let arrival = Instant::now();
        for (number, input) in inputs.iter().enumerate() {
            let read = variant
                .translator
                .read(std::slice::from_ref(input), number as u64)
                .map_err(Refusal::of)?;
            let count = read.sentences().len();
            let line = Arc::new(Line {
                variant: variant.clone(),
                read,
                found: (0..count).map(|_| OnceLock::new()).collect(),
                missing: AtomicUsize::new(count),
                number,
                sender: sender.clone(),
                deadline: terms.deadline,
            });
            if count == 0 {
                line.complete();
            }
            for sentence in 0..count {
                let known = variant.is_repeatable.then(|| {
                    let sentence = &line.read.sentences()[sentence];
                    self.shared.cache.get(variant.id, sentence)
                });
                match known.flatten() {
                    Some(found) => {
                        self.shared.metrics.cached.inc();
                        line.take(sentence, found);
                    }
                    None => waiting.push(Waiting {
                        line: line.clone(),
                        sentence,
                        arrival,
                    }),
                }
            }
        }
        let count = waiting.len();
        if count > 0 {
            let mut state = self.shared.lock();
            self.shared.admit(&mut state, terms)?;
            for sentence in waiting {
                state.queue.push(sentence, terms.client, terms.priority);
            }
            self.shared.tell_queue(&state);
        }
        match count {
            0 => {}
            1 => self.shared.news.notify_one(),
            _ => self.shared.news.notify_all(),
        }
        Ok(Lines {
            receiver,
            count: inputs.len(),
        })
    }

    /// The bytes of the cache of sentences.
    pub(crate) fn cache_bytes(&self) -> u64 {
        self.shared.cache.bytes()
    }

    /// Ends the threads after what they are working on. What waits gets [`Refusal::Ending`].
    pub(crate) fn end(&self) {
        self.shared.lock().is_ending = true;
        self.shared.news.notify_all();
        for thread in lock(&self.threads).drain(..) {
            // A thread that panicked has nothing left to do.
            let _ = thread.join();
        }
        let mut state = self.shared.lock();
        loop {
            let rest = state.queue.take(1);
            if rest.is_empty() {
                break;
            }
            rest.iter().for_each(|waiting| waiting.line.reply(Err(Refusal::Ending)));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Source tokens per second of a worker.
    fn speed(&self) -> f64 {
        let (tokens, seconds) = *lock(&self.speed);
        tokens / seconds.max(1e-6)
    }

    fn tell_queue(&self, state: &State) {
        self.metrics.queued_sentences.set(state.queue.len() as i64);
        self.metrics.queued_tokens.set(state.queue.tokens() as i64);
    }

    /// Each client has its share of the queue, so that none fills it for the others.
    fn admit(&self, state: &mut State, terms: Terms) -> Result<(), Refusal> {
        if state.is_ending {
            return Err(Refusal::Ending);
        }
        let now = Instant::now();
        if now >= terms.deadline {
            return Err(Refusal::Late);
        }
        let speed = self.speed() * self.settings.workers as f64;
        let most = self.settings.queue_tokens;
        // Clients take turns, so a client waits for its own tokens and as many of each other one.
        let room = |queue: &Queue<Waiting>| {
            let (own, clients) = (queue.tokens_of(terms.client), queue.clients_with(terms.client));
            let before = (own * clients).min(queue.tokens());
            let wait = Duration::from_secs_f64(before as f64 / speed);
            let has_room = own < most / clients && queue.tokens() < MOST_SHARES * most;
            (has_room && now + wait < terms.deadline, wait)
        };
        if room(&state.queue).0 {
            return Ok(());
        }
        if now - state.swept >= SWEEP_TIME {
            state.swept = now;
            state.queue.drop_unwanted();
            self.tell_queue(state);
        }
        match room(&state.queue) {
            (true, _) => Ok(()),
            (false, retry_after) => Err(Refusal::Busy { retry_after }),
        }
    }

    /// What a thread does until the end.
    fn work(&self) {
        while let Some(batch) = self.next() {
            let begin = Instant::now();
            let (late, batch): (Vec<Waiting>, Vec<Waiting>) =
                batch.into_iter().partition(|waiting| waiting.line.deadline <= begin);
            late.iter().for_each(|waiting| waiting.line.reply(Err(Refusal::Late)));
            self.search(&batch);
        }
    }

    /// Waits for the next batch; none at the end.
    fn next(&self) -> Option<Vec<Waiting>> {
        let mut state = self.lock();
        loop {
            if state.is_ending {
                return None;
            }
            let batch = state.queue.take(self.settings.workers);
            self.tell_queue(&state);
            if !batch.is_empty() {
                return Some(batch);
            }
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Searches for the sentences of a batch and passes on what is found. Should a sentence bring down the search of
    /// its batch, the others are searched for once more, one by one.
    fn search(&self, batch: &[Waiting]) {
        let searched = catch_unwind(AssertUnwindSafe(|| self.try_search(batch)));
        let refusal = match searched {
            Ok(Ok(())) => return,
            Ok(Err(refusal)) => refusal,
            Err(_) => Refusal::Failed("a search panicked".into()),
        };
        match batch {
            [one] => one.line.reply(Err(refusal)),
            several => several.chunks(1).for_each(|one| self.search(one)),
        }
    }

    fn try_search(&self, batch: &[Waiting]) -> Result<(), Refusal> {
        let Some(first) = batch.first() else { return Ok(()) };
        let begin = Instant::now();
        let variant = &first.line.variant;
        let sentences: Vec<&Sentence> = batch.iter().map(Waiting::sentence).collect();
        let found = variant.translator.search(&sentences).map_err(Refusal::of)?;
        self.count(batch, begin, begin.elapsed());
        for (waiting, found) in batch.iter().zip(found) {
            let target = found.iter().map(|found| found.tokens.len()).max().unwrap_or_default();
            self.metrics.target_tokens.inc_by(target as u64);
            let found: Found = Arc::new(found);
            if variant.is_repeatable {
                self.cache.insert(variant.id, waiting.sentence(), found.clone());
            }
            waiting.line.take(waiting.sentence, found);
        }
        Ok(())
    }

    fn count(&self, batch: &[Waiting], begin: Instant, spent: Duration) {
        let tokens: usize = batch.iter().map(Waiting::length).sum();
        let metrics = &self.metrics;
        metrics.batch_sentences.observe(batch.len() as f64);
        metrics.search_seconds.observe(spent.as_secs_f64());
        metrics.sentences.inc_by(batch.len() as u64);
        metrics.source_tokens.inc_by(tokens as u64);
        for waiting in batch {
            let waited = begin.saturating_duration_since(waiting.arrival);
            metrics.queue_seconds.observe(waited.as_secs_f64());
        }
        let mut speed = lock(&self.speed);
        speed.0 = FADING * speed.0 + tokens as f64;
        speed.1 = FADING * speed.1 + spent.as_secs_f64();
    }
}

/// A lock that a panic of another thread does not take away: nothing is left half done under it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
