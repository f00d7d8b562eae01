//! A translation server.
//!
//! [`Server::bind`] opens the models of a [`ServeConfig`] and listens; [`Server::run`] answers until it is told to end.
//! Clients speak LibreTranslate's interface, Tallow's own (`/v1`), or the WebSocket of `marian-server`. The sentences
//! of all clients wait in one fair queue (`queue.rs`), and threads take them in batches (`engine.rs`). A translation is
//! that of `Translator::translate`, to the bit, whatever it was batched with.
//!
//! A library: it prints nothing, and what happens is a [`ServeEvent`] for a [`ServeObserver`].

mod cache;
mod catalogue;
mod config;
mod engine;
mod event;
mod http;
mod keys;
mod listener;
mod markup;
mod metrics;
mod queue;
mod server;
mod text;
mod variant;

pub use config::{Limits, ModelEntry, ServeConfig};
pub use event::{ServeEvent, ServeObserver};
pub use keys::{Key, Keys};
pub use server::{Reloader, Server};

use std::path::PathBuf;

/// Why a server cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings make no sense.
    #[error("these settings make no sense:\n  {}", .0.join("\n  "))]
    Config(Vec<String>),
    /// A file cannot be used.
    #[error("{}: {fault}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: String,
    },
    /// Nobody says what a model translates.
    #[error("{0}: the languages of this model are unknown; name them, as in de-en={0}")]
    NoLanguages(String),
    /// Two models have the same name.
    #[error("two models have the name {0}; give one of them another `name`")]
    SameName(String),
    /// The settings of a model's search make no sense.
    #[error("{model}: {fault}")]
    Search {
        /// The model.
        model: String,
        /// Why.
        fault: String,
    },
    /// The address cannot be listened at.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The reason.
        source: std::io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// A model cannot be found or opened.
    #[error(transparent)]
    Model(#[from] tallow::Error),
}
