//! Counts and times for Prometheus.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A request by where it went and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RequestLabels {
    pub(crate) route: String,
    pub(crate) status: u16,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RouteLabels {
    pub(crate) route: String,
}

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) requests: Family<RequestLabels, Counter>,
    pub(crate) request_seconds: Family<RouteLabels, Histogram>,
    pub(crate) in_flight: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) connections_refused: Counter,
    pub(crate) queued_sentences: Gauge,
    pub(crate) queued_tokens: Gauge,
    pub(crate) queue_seconds: Histogram,
    pub(crate) search_seconds: Histogram,
    pub(crate) batch_sentences: Histogram,
    pub(crate) sentences: Counter,
    pub(crate) cached: Counter,
    pub(crate) source_tokens: Counter,
    pub(crate) target_tokens: Counter,
    pub(crate) cache_bytes: Gauge,
    pub(crate) models_loaded: Gauge,
    pub(crate) models_bytes: Gauge,
}

/// From half a millisecond to about half a minute.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 17))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            queued_sentences: Gauge::default(),
            queued_tokens: Gauge::default(),
            queue_seconds: seconds(),
            search_seconds: seconds(),
            batch_sentences: Histogram::new(exponential_buckets(1.0, 2.0, 9)),
            sentences: Counter::default(),
            cached: Counter::default(),
            source_tokens: Counter::default(),
            target_tokens: Counter::default(),
            cache_bytes: Gauge::default(),
            models_loaded: Gauge::default(),
            models_bytes: Gauge::default(),
        };
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let mut registry = Registry::with_prefix("tallow");
        registry.register("requests", "Answered requests", self.requests.clone());
        let help = "Seconds from the head of a request to that of its response";
        registry.register("request_seconds", help, self.request_seconds.clone());
        registry.register("requests_in_flight", "Requests being answered", self.in_flight.clone());
        registry.register("connections", "Open connections", self.connections.clone());
        let help = "Connections beyond the limit";
        registry.register("connections_refused", help, self.connections_refused.clone());
        registry.register("queue_sentences", "Sentences that wait", self.queued_sentences.clone());
        let help = "Source tokens that wait";
        registry.register("queue_tokens", help, self.queued_tokens.clone());
        let help = "Seconds that a sentence waited for its batch";
        registry.register("queue_seconds", help, self.queue_seconds.clone());
        registry.register("search_seconds", "Seconds of a batch", self.search_seconds.clone());
        registry.register("batch_sentences", "Sentences of a batch", self.batch_sentences.clone());
        registry.register("sentences", "Translated sentences", self.sentences.clone());
        let help = "Sentences whose translation was in the cache";
        registry.register("cached_sentences", help, self.cached.clone());
        registry.register("source_tokens", "Translated source tokens", self.source_tokens.clone());
        let help = "Target tokens of the longest translation of each sentence";
        registry.register("target_tokens", help, self.target_tokens.clone());
        registry.register(
            "cache_bytes",
            "Bytes of the cache of sentences",
            self.cache_bytes.clone(),
        );
        registry.register("models_loaded", "Models in memory", self.models_loaded.clone());
        registry.register(
            "models_bytes",
            "Bytes of the models in memory",
            self.models_bytes.clone(),
        );
        self.registry = registry;
        self
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_in_the_text() {
        let metrics = Metrics::new();
        let labels = RequestLabels {
            route: "/translate".into(),
            status: 200,
        };
        metrics.requests.get_or_create(&labels).inc();
        metrics.queued_tokens.set(7);
        let text = metrics.text().unwrap();
        for line in [
            "tallow_requests_total{route=\"/translate\",status=\"200\"} 1",
            "tallow_queue_tokens 7",
            "tallow_batch_sentences_count 0",
        ] {
            assert!(text.contains(line), "{line}:\n{text}");
        }
    }
}
