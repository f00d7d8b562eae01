//! `tallow serve`.

use crate::arguments::{LogFormat, ServeArguments};
use crate::colour::{Stream, Tone, warning};
use crate::commands::search_flags::decode_key;
use crate::hub::hub;
use crate::usage::wrong_usage;
use crate::{INTERRUPTED, threads};
use anyhow::{Context, Result, anyhow};
use std::fs::OpenOptions;
use std::io::{Read, Write, stderr};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tallow::config::parse_value;
use tallow::humanize::memory;
use tallow_decode::NamedChoice;
use tallow_serve::{Key, Keys, ModelEntry, Reloader, ServeConfig, ServeEvent, ServeObserver, Server};

/// Threads for connections. They have little to do beside those that translate.
const CONNECTION_THREADS: usize = 2;

/// The most lines of the log that wait to be written.
const LOG_LINES: usize = 4096;

/// The wait for the last lines of the log.
const LOG_TIME: Duration = Duration::from_secs(1);

/// The wait for the answer to a probe.
const PROBE_TIME: Duration = Duration::from_secs(2);

pub(crate) fn run(arguments: ServeArguments) -> Result<ExitCode> {
    if let (Some(client), Some(keys)) = (&arguments.new_key, &arguments.keys) {
        return new_key(client, keys);
    }
    if let Some(address) = arguments.probe {
        return probe(address);
    }
    threads::set_operation_threads(1);
    threads::keep_freed_memory();
    let config = config_of(&arguments)?;
    let log = Log::start(arguments.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONNECTION_THREADS)
        .enable_all()
        .build()
        .context("cannot start the threads for connections")?;
    let served = runtime.block_on(async {
        // Caught from the beginning: a reload while models are being loaded must not end the process.
        let signals = Signals::catch()?;
        let observer = log.observer();
        let server = Server::bind(config, hub(arguments.hub.offline), observer).await?;
        let stop = signals.end(server.reloader());
        server.run(stop).await;
        anyhow::Ok(ExitCode::SUCCESS)
    });
    // A model that is still being fetched does not hold up the end.
    runtime.shutdown_background();
    log.end();
    served
}

/// The settings: those of the file, changed by the flags.
fn config_of(arguments: &ServeArguments) -> Result<ServeConfig> {
    let mut config = match &arguments.settings {
        None => ServeConfig {
            model: arguments.models.iter().map(|model| entry_of(model)).collect(),
            ..ServeConfig::default()
        },
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            let fault = |fault| wrong_usage(format!("{}: {fault}", path.display()));
            ServeConfig::parse(&text).map_err(fault)?
        }
    };
    config.listen = arguments.listen.unwrap_or(config.listen);
    config.workers = arguments.workers.unwrap_or(config.workers);
    config.keys = arguments.keys.clone().or(config.keys);
    for entry in &mut config.model {
        for set in &arguments.set {
            let (key, value) = decode_key(set)?;
            entry.decode.insert(key.to_owned(), parse_value(value));
        }
        if let Some(beam) = arguments.beam {
            let beam = i64::try_from(beam).map_err(|_| wrong_usage("--beam: too wide"))?;
            entry.decode.insert("beam".to_owned(), beam.into());
        }
        if let Some(compute) = arguments.compute {
            entry.decode.insert("compute".to_owned(), compute.name().into());
        }
    }
    Ok(config)
}

/// A model of the command line: its path, or its languages and its path.
fn entry_of(model: &str) -> ModelEntry {
    let is_code = |code: &str| !code.is_empty() && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let languages = model.split_once('=').and_then(|(pair, path)| {
        let (source, target) = pair.split_once('-')?;
        (is_code(source) && is_code(target)).then_some((source, target, path))
    });
    match languages {
        Some((source, target, path)) => ModelEntry {
            path: path.to_owned(),
            source: source.to_owned(),
            target: target.to_owned(),
            ..ModelEntry::default()
        },
        None => ModelEntry {
            path: model.to_owned(),
            ..ModelEntry::default()
        },
    }
}

/// Asks a server whether it lives; for containers, which have no other program to ask with.
fn probe(address: SocketAddr) -> Result<ExitCode> {
    let silent = || format!("{address} does not answer");
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIME).with_context(silent)?;
    stream.set_read_timeout(Some(PROBE_TIME))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).with_context(silent)?;
    let status = answer.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(ExitCode::SUCCESS),
        _ => Err(anyhow!("{address}: {status}")),
    }
}

/// Makes a key. Only its hash is kept.
fn new_key(client: &str, path: &Path) -> Result<ExitCode> {
    let mut keys = match path.exists() {
        true => Keys::open(path)?,
        false => Keys::default(),
    };
    if keys.key.iter().any(|key| key.name == client) {
        return Err(wrong_usage(format!(
            "{}: {client:?} has a key already; remove it from the file, or choose another name",
            path.display()
        )));
    }
    let (key, secret) = Key::generate(client).context("there are no random numbers")?;
    let text = toml::to_string(&Keys { key: vec![key.clone()] })?;
    keys.key.push(key);
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let cannot = || format!("cannot write {}", path.display());
    let mut file = options.open(path).with_context(cannot)?;
    // A file that a person has changed may end without a line end.
    file.write_all(format!("\n{text}").as_bytes()).with_context(cannot)?;
    println!("{secret}");
    eprintln!("this key is shown only now; {} has its hash", path.display());
    Ok(ExitCode::SUCCESS)
}

/// The signals that a server obeys.
#[cfg(unix)]
struct Signals {
    end: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn catch() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let caught = |kind| signal(kind).context("signals cannot be caught");
        Ok(Self {
            end: caught(SignalKind::terminate())?,
            interrupt: caught(SignalKind::interrupt())?,
            hang_up: caught(SignalKind::hangup())?,
        })
    }

    /// Resolves at the first SIGTERM or SIGINT; the second ends the process at once. SIGHUP looks for new models.
    async fn end(mut self, reloader: Reloader) {
        loop {
            tokio::select! {
                _ = self.end.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hang_up.recv() => {
                    let reloader = reloader.clone();
                    tokio::task::spawn_blocking(move || reloader.reload());
                }
            }
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = self.end.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            // The user has asked twice, and a server has nothing to save.
            #[allow(clippy::exit)]
            std::process::exit(i32::from(INTERRUPTED));
        });
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn catch() -> Result<Self> {
        Ok(Self)
    }

    async fn end(self, _: Reloader) {
        // Without signals, the server runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The log: lines for standard error, written by a thread of its own, so that a reader that stalls or leaves holds up
/// no request. What does not fit is left out and counted.
struct Log {
    format: LogFormat,
    sender: SyncSender<String>,
    lost: Arc<AtomicU64>,
    writer: JoinHandle<()>,
}

impl Log {
    fn start(format: LogFormat) -> Self {
        let (sender, receiver) = sync_channel::<String>(LOG_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        let writer = std::thread::spawn(move || {
            for line in receiver {
                // Nobody to tell.
                let _ = writeln!(stderr(), "{line}");
                let lost = counted.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(stderr(), "{} {lost} lines of this log are lost", warning());
                }
            }
        });
        Self {
            format,
            sender,
            lost,
            writer,
        }
    }

    fn observer(&self) -> Arc<dyn ServeObserver> {
        let (format, sender, lost) = (self.format, self.sender.clone(), self.lost.clone());
        Arc::new(move |event: &ServeEvent| {
            let Some(line) = line_of(format, event) else { return };
            if sender.try_send(line).is_err() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// Writes what is left. Whoever does not read is not waited for.
    fn end(self) {
        drop(self.sender);
        let begin = Instant::now();
        while !self.writer.is_finished() && begin.elapsed() < LOG_TIME {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// An event as a line of the log.
fn line_of(format: LogFormat, event: &ServeEvent) -> Option<String> {
    let is_warning = matches!(event, ServeEvent::NotLoaded { .. } | ServeEvent::Failed { .. });
    match format {
        LogFormat::Quiet if !is_warning => None,
        LogFormat::Json => serde_json::to_string(event).ok(),
        LogFormat::Text | LogFormat::Quiet => for_person(event),
    }
}

fn for_person(event: &ServeEvent) -> Option<String> {
    Some(match event {
        ServeEvent::Listening { address } => {
            let address = Stream::Error.paint(Tone::Good, &format!("http://{address}/"));
            format!("listening at {address}; Ctrl-C ends")
        }
        ServeEvent::Loaded { model, bytes, seconds } => {
            format!("{model}: loaded, {} ({seconds:.1} s)", memory(*bytes as f64))
        }
        ServeEvent::Left { model } => format!("{model}: has left the memory"),
        ServeEvent::NotLoaded { model, reason } => {
            format!("{} {model}: the model before it stays: {reason}", warning())
        }
        ServeEvent::Notice { text } => text.clone(),
        ServeEvent::Request {
            id,
            method,
            route,
            status,
            milliseconds,
        } => format!("{id} {method} {route} {status} {milliseconds:.1} ms"),
        ServeEvent::Failed { id, reason } => format!("{} {id}: {reason}", warning()),
        ServeEvent::Draining => "ending after the requests at hand; Ctrl-C again ends at once".into(),
        ServeEvent::Ended { cut_off: 0 } => "ended".into(),
        ServeEvent::Ended { cut_off } => format!("{} ended; {cut_off} connections were cut off", warning()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_stand_before_a_path() {
        let of = |model: &str| {
            let entry = entry_of(model);
            (entry.source, entry.target, entry.path)
        };
        let owned = |parts: [&str; 3]| {
            let [source, target, path] = parts.map(str::to_owned);
            (source, target, path)
        };
        assert_eq!(of("de-en=runs/a"), owned(["de", "en", "runs/a"]));
        assert_eq!(of("runs/a-b=c/d"), owned(["", "", "runs/a-b=c/d"]));
        assert_eq!(of("runs/a"), owned(["", "", "runs/a"]));
    }
}
