//! The settings of a server: a TOML file, or what the command line makes of its flags.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use tallow_decode::DecodeConfig;

/// The most connections: more than any system gives files for.
const MOST_CONNECTIONS: usize = 1 << 24;

/// The settings of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeConfig {
    /// The address and port to listen at; port 0 takes any free one. Default `127.0.0.1:5000`, which only this machine
    /// reaches.
    pub listen: SocketAddr,
    /// Threads that translate; 0 means one for each core. Default 0.
    pub workers: usize,
    /// The models.
    pub model: Vec<ModelEntry>,
    /// What the server accepts.
    pub limits: Limits,
    /// Mebibytes for translations of sentences that may come again; 0 keeps none. Default 64.
    pub cache_mib: u64,
    /// Mebibytes for models; those that were used least recently leave. 0 sets no limit. Default 0.
    pub models_mib: u64,
    /// A file of keys. Default none: everybody may translate.
    pub keys: Option<PathBuf>,
    /// Whether only clients with a key may translate. Default true, if there is a file of keys.
    pub key_required: Option<bool>,
    /// Origins of pages that may use the server from a browser, such as `https://example.org`, or `*`. Default none.
    pub cors: Vec<String>,
    /// Whether the address of a client is the last one in the header `X-Forwarded-For`, because a proxy is in front.
    /// Default false.
    pub behind_proxy: bool,
    /// Seconds between two looks for new models on the disk; 0 looks only at SIGHUP. Default 0.
    pub watch_seconds: u64,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 5000)),
            workers: 0,
            model: Vec::new(),
            limits: Limits::default(),
            cache_mib: 64,
            models_mib: 0,
            keys: None,
            key_required: None,
            cors: Vec::new(),
            behind_proxy: false,
            watch_seconds: 0,
        }
    }
}

/// A model to serve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelEntry {
    /// A run, a checkpoint, a model directory, or a name on the Hub.
    pub path: String,
    /// The name in requests and metrics. Default `<source>-<target>`.
    pub name: String,
    /// The code of the language that it reads. Default: that of its run or its name.
    pub source: String,
    /// The code of the language that it writes. Default: that of its run or its name.
    pub target: String,
    /// Keys of `[decode]` that differ from the model's own.
    pub decode: toml::Table,
}

/// What the server accepts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Characters of a request. Default 100,000.
    pub characters: usize,
    /// Texts of a request. Default 1,000.
    pub texts: usize,
    /// Lines of a request, times the translations of each. Default 10,000.
    pub lines: usize,
    /// Translations of a text. Default 10.
    pub n_best: usize,
    /// The widest beam that a request may ask for. Default 10.
    pub beam: usize,
    /// Bytes of a request's body. Default 1 MiB.
    pub body_bytes: usize,
    /// Bytes of a request's head. Default 16 KiB.
    pub head_bytes: usize,
    /// Connections at the same time. Default 1,024.
    pub connections: usize,
    /// Seconds for a request's head to arrive, also the first of a connection. Default 10.
    pub head_seconds: f64,
    /// Seconds for a request's body to arrive. Default 30.
    pub body_seconds: f64,
    /// Seconds without progress while a response is sent. Default 30.
    pub write_seconds: f64,
    /// Seconds until a translation must be ready. Default 60.
    pub request_seconds: f64,
    /// Source tokens that wait; more are refused. Default 100,000.
    pub queue_tokens: usize,
    /// Requests per minute of a client without a key; 0 sets no limit. Default 0.
    pub requests_per_minute: u32,
    /// Seconds that a WebSocket may be silent. Default 300.
    pub socket_seconds: f64,
    /// Seconds for the requests at hand when the server ends. Default 30.
    pub drain_seconds: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            characters: 100_000,
            texts: 1000,
            lines: 10_000,
            n_best: 10,
            beam: 10,
            body_bytes: 1 << 20,
            head_bytes: 16 << 10,
            connections: 1024,
            head_seconds: 10.0,
            body_seconds: 30.0,
            write_seconds: 30.0,
            request_seconds: 60.0,
            queue_tokens: 100_000,
            requests_per_minute: 0,
            socket_seconds: 300.0,
            drain_seconds: 30.0,
        }
    }
}

impl ServeConfig {
    /// Reads a TOML file. Relative paths in it are as the process sees them. [`Self::faults`] tells what makes no
    /// sense.
    ///
    /// # Errors
    /// A message that names the line and the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// What makes no sense, one message for each.
    pub fn faults(&self) -> Vec<String> {
        let limits = &self.limits;
        let mut faults = Vec::new();
        for (key, value) in [
            ("characters", limits.characters),
            ("texts", limits.texts),
            ("lines", limits.lines),
            ("n_best", limits.n_best),
            ("beam", limits.beam),
            ("body_bytes", limits.body_bytes),
            ("connections", limits.connections),
            ("queue_tokens", limits.queue_tokens),
        ] {
            if value == 0 {
                faults.push(format!("limits.{key}: 0 would refuse everything"));
            }
        }
        if limits.connections > MOST_CONNECTIONS {
            faults.push(format!(
                "limits.connections: {} is above {MOST_CONNECTIONS}",
                limits.connections
            ));
        }
        if limits.beam < limits.n_best {
            faults.push("limits.beam: below limits.n_best, which needs as wide a beam".into());
        }
        // The HTTP library reads in buffers of at least this size.
        if limits.head_bytes < 8192 {
            faults.push(format!("limits.head_bytes: {} is below 8192", limits.head_bytes));
        }
        for (key, value) in [
            ("head_seconds", limits.head_seconds),
            ("body_seconds", limits.body_seconds),
            ("write_seconds", limits.write_seconds),
            ("request_seconds", limits.request_seconds),
            ("socket_seconds", limits.socket_seconds),
            ("drain_seconds", limits.drain_seconds),
        ] {
            if !(value > 0.0 && value <= 86_400.0) {
                faults.push(format!("limits.{key}: {value} is no number of seconds up to a day"));
            }
        }
        if self.key_required == Some(true) && self.keys.is_none() {
            faults.push("key_required: there are no keys; name their file with `keys`".into());
        }
        if self.model.is_empty() {
            faults.push("model: there is none; each [[model]] needs a `path`".into());
        }
        for (number, entry) in self.model.iter().enumerate() {
            if entry.path.is_empty() {
                faults.push(format!("model {}: it has no `path`", number + 1));
            }
            if entry.source.is_empty() != entry.target.is_empty() {
                faults.push(format!("model {}: `source` and `target` go together", number + 1));
            }
        }
        faults
    }

    /// Whether only clients with a key may translate.
    pub fn needs_key(&self) -> bool {
        self.key_required.unwrap_or(self.keys.is_some())
    }
}

impl ModelEntry {
    /// The settings of its search: the model's own, changed by `decode`.
    ///
    /// # Errors
    /// A message that names the key.
    pub(crate) fn search(&self, own: &DecodeConfig) -> Result<DecodeConfig, String> {
        let mut table = toml::Table::try_from(own).map_err(|error| error.to_string())?;
        table.extend(self.decode.clone());
        DecodeConfig::deserialize(toml::Value::Table(table)).map_err(|error| format!("decode: {}", error.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read() {
        let text =
            "listen = \"0.0.0.0:80\"\n[limits]\ntexts = 5\n[[model]]\npath = \"runs/a\"\ndecode = { beam = 2 }\n";
        let config = ServeConfig::parse(text).unwrap();
        assert_eq!((config.listen.port(), config.limits.texts), (80, 5));
        let search = config.model[0].search(&DecodeConfig::default()).unwrap();
        assert_eq!((search.beam, search.max_length), (2, 100));
        assert!(!config.needs_key());
    }

    #[test]
    fn faults_are_told() {
        for (text, told) in [
            ("", "model: there is none"),
            ("lisen = 1", "unknown field `lisen`"),
            ("[[model]]\npath = \"a\"\nsource = \"de\"", "go together"),
            ("[limits]\ntexts = 0\n[[model]]\npath = \"a\"", "limits.texts: 0"),
            ("key_required = true\n[[model]]\npath = \"a\"", "no keys"),
            (
                "[limits]\nrequest_seconds = -1\n[[model]]\npath = \"a\"",
                "limits.request_seconds",
            ),
            ("listen = \"here\"\n[[model]]\npath = \"a\"", "line 1"),
        ] {
            let error = match ServeConfig::parse(text) {
                Ok(config) => config.faults().join("\n"),
                Err(error) => error,
            };
            assert!(error.contains(told), "{text}: {error}");
        }
        let entry = ModelEntry {
            decode: toml::from_str("beem = 3").unwrap(),
            ..ModelEntry::default()
        };
        let error = entry.search(&DecodeConfig::default()).unwrap_err();
        assert!(error.contains("beem"), "{error}");
    }
}
