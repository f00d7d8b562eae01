//! What happens in a server, for its log.

use serde::Serialize;

/// Something that happened. Texts of clients are in none of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ServeEvent {
    /// The server accepts connections.
    Listening {
        /// Where.
        address: String,
    },
    /// A model is ready.
    Loaded {
        /// Its name in requests.
        model: String,
        /// Its memory.
        bytes: u64,
        /// The time that it took.
        seconds: f64,
    },
    /// A model has left the memory, so that another has room.
    Left {
        /// Its name in requests.
        model: String,
    },
    /// A model cannot be loaded. The one before it stays, if there was one.
    NotLoaded {
        /// Its name in requests.
        model: String,
        /// Why.
        reason: String,
    },
    /// A message about a model.
    Notice {
        /// Its text.
        text: String,
    },
    /// A request was answered.
    Request {
        /// The number in the header `X-Request-Id`.
        id: String,
        /// The method.
        method: String,
        /// The path, as the server knows it.
        route: String,
        /// The status of the response.
        status: u16,
        /// The time from the head of the request to that of the response.
        milliseconds: f64,
    },
    /// A translation failed through no fault of the client.
    Failed {
        /// The request, by its header `X-Request-Id`.
        id: String,
        /// Why.
        reason: String,
    },
    /// The server accepts no more connections and ends after the requests at hand.
    Draining,
    /// The server has ended.
    Ended {
        /// Requests that were cut off because they took too long.
        cut_off: usize,
    },
}

/// Who hears of events.
pub trait ServeObserver: Send + Sync {
    /// Receives an event. Called by many threads.
    fn observe(&self, event: &ServeEvent);
}

impl<F: Fn(&ServeEvent) + Send + Sync> ServeObserver for F {
    fn observe(&self, event: &ServeEvent) {
        self(event);
    }
}
