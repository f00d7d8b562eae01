//! A server from its settings to its end.

use crate::catalogue::Catalogue;
use crate::config::ServeConfig;
use crate::engine::{Engine, EngineSettings};
use crate::event::{ServeEvent, ServeObserver};
use crate::http::{App, router};
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::{Error, listener};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tallow::Hub;
use tokio::net::TcpListener;

/// The wait for searches whose results nobody gets any more.
const END_TIME: Duration = Duration::from_secs(2);

/// A server that listens.
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
}

/// Looks for new models while a server runs. Cheap to clone.
#[derive(Clone)]
pub struct Reloader(Arc<App>);

impl Reloader {
    /// Loads the models whose files have changed. Requests at hand keep the model that they began with, and a model
    /// that cannot be loaded leaves the one before it in its place. Blocks.
    pub fn reload(&self) {
        self.0.catalogue.reload();
    }
}

impl Server {
    /// Opens the models and listens. Blocks while models are loaded.
    ///
    /// # Errors
    /// When the settings make no sense, a model cannot be opened, or the address cannot be listened at.
    pub async fn bind(config: ServeConfig, hub: Hub, observer: Arc<dyn ServeObserver>) -> Result<Self, Error> {
        let faults = config.faults();
        if !faults.is_empty() {
            return Err(Error::Config(faults));
        }
        let keys = config.keys.as_deref().map(Keys::open).transpose()?;
        // First of all, because it is what fails most often.
        let address = config.listen;
        let taken = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(taken)?;
        let metrics = Arc::new(Metrics::new());
        let limit = config.models_mib << 20;
        let catalogue = Catalogue::open(&config.model, hub, limit, metrics.clone(), observer.clone())?;
        let settings = EngineSettings {
            workers: match config.workers {
                0 => tallow::cores(),
                workers => workers,
            },
            queue_tokens: config.limits.queue_tokens,
            cache_bytes: config.cache_mib << 20,
        };
        let engine = Engine::start(settings, metrics.clone()).map_err(Error::Thread)?;
        let app = App::new(config, catalogue, engine, keys, metrics, observer);
        Ok(Self {
            app: Arc::new(app),
            listener,
        })
    }

    /// The address that the server listens at.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What looks for new models.
    pub fn reloader(&self) -> Reloader {
        Reloader(self.app.clone())
    }

    /// Answers until `stop`, then ends after the requests at hand, or after `limits.drain_seconds`.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { app, listener } = self;
        let observer = app.observer.clone();
        if let Ok(address) = listener.local_addr() {
            let address = address.to_string();
            observer.observe(&ServeEvent::Listening { address });
        }
        let seconds = app.config.watch_seconds;
        let watcher = (seconds > 0).then(|| tokio::spawn(watch(Reloader(app.clone()), Duration::from_secs(seconds))));
        let stop = async {
            stop.await;
            observer.observe(&ServeEvent::Draining);
        };
        let cut_off = listener::serve(listener, router(app.clone()), app.clone(), stop).await;
        if let Some(watcher) = watcher {
            watcher.abort();
        }
        // Joins threads, which blocks for as long as a search takes.
        let ending = app.clone();
        let end = tokio::task::spawn_blocking(move || ending.engine.end());
        let _ = tokio::time::timeout(END_TIME, end).await;
        observer.observe(&ServeEvent::Ended { cut_off });
    }
}

async fn watch(reloader: Reloader, pause: Duration) {
    loop {
        tokio::time::sleep(pause).await;
        let reloader = reloader.clone();
        let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
    }
}
