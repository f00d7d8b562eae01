//! Settings of the Hugging Face Hub from environment variables, read as Hugging Face's own programs read them.

use crate::Result;
use crate::error::bail;
use std::fmt;
use std::path::{Path, PathBuf};

/// The address of the Hub itself.
const ENDPOINT: &str = "https://huggingface.co";

/// The connection to the Hugging Face Hub: its address, its cache, and the token for private models.
#[derive(Clone, Debug)]
pub struct Hub {
    pub(super) endpoint: String,
    /// The folder of the cache.
    pub(super) cache: PathBuf,
    pub(super) token: Option<Token>,
    /// The file to look for a token in.
    pub(super) token_file: PathBuf,
    /// Whether to use the cache only.
    pub(super) offline: bool,
    /// Whether `hf-hub` draws progress bars on a terminal.
    pub(super) shows_progress: bool,
}

/// A token that tells the Hub who makes the request. It is never shown.
#[derive(Clone)]
pub(super) struct Token {
    secret: String,
    /// The variable or file that it came from.
    pub(super) origin: String,
}

impl Token {
    /// The text to send.
    ///
    /// # Errors
    /// When this cannot be a token. The message does not repeat it.
    pub(super) fn secret(&self) -> Result<&str> {
        if !self.secret.chars().all(|c| c.is_ascii_graphic()) {
            bail!(
                "{}: this is no token of the Hugging Face Hub, which has neither spaces nor accents",
                self.origin
            );
        }
        Ok(&self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "a token from {}", self.origin)
    }
}

impl Hub {
    /// No connection to the Hub at all. A model or tokenizer that must come from it is an error.
    pub fn none() -> Self {
        Self::offline(PathBuf::new())
    }

    /// Whether there is no connection to the Hub.
    pub(super) fn is_none(&self) -> bool {
        self.offline && self.cache.as_os_str().is_empty()
    }

    /// Uses no network, only files in a cache.
    pub fn offline(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: ENDPOINT.to_owned(),
            cache: cache.into(),
            token: None,
            token_file: PathBuf::new(),
            offline: true,
            shows_progress: false,
        }
    }

    /// The Hub as environment variables describe it, by the rules of Hugging Face's own programs; empty variables count
    /// as missing. A program passes `|name| std::env::var(name).ok()` and the home directory of its user.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>, home: &Path) -> Self {
        let value = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let path = |name: &str| {
            value(name).map(|path| match path.strip_prefix("~/") {
                Some(below) => home.join(below),
                None => PathBuf::from(path),
            })
        };
        let is_set =
            |name: &str| ["1", "on", "yes", "true"].contains(&value(name).unwrap_or_default().to_lowercase().as_str());
        let caches = || path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
        let hub_home = path("HF_HOME").unwrap_or_else(|| caches().join("huggingface"));
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| hub_home.join("hub"));
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| hub_home.join("token"));
        let in_variable = |name: &str| Some((variable(name)?, name.to_owned()));
        let in_file = || {
            Some((
                std::fs::read_to_string(&token_file).ok()?,
                token_file.display().to_string(),
            ))
        };
        let found = [
            in_variable("HF_TOKEN"),
            in_variable("HUGGING_FACE_HUB_TOKEN"),
            in_file(),
        ];
        let mut tokens = found
            .into_iter()
            .flatten()
            .map(|(text, origin)| Token {
                secret: text.trim().to_owned(),
                origin,
            })
            .filter(|token| !token.secret.is_empty() && !is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN"));
        let token = tokens.next();
        let endpoint = value("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token,
            token_file,
            offline: is_set("HF_HUB_OFFLINE"),
            shows_progress: false,
        }
    }

    /// The same settings, but without the network if `offline`.
    #[must_use]
    pub fn offline_if(mut self, offline: bool) -> Self {
        self.offline |= offline;
        self
    }

    /// The same settings, but with progress bars on the terminal while files are fetched, if `shows_progress`.
    #[must_use]
    pub fn with_progress(mut self, shows_progress: bool) -> Self {
        self.shows_progress = shows_progress;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Hub {
        let find = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Hub::from_variables(find, Path::new("/home/me"))
    }

    /// The order of precedence follows huggingface_hub's constants.py.
    #[test]
    fn where_the_cache_is() {
        let mut variables = vec![
            ("HF_HUB_CACHE", "/a"),
            ("HUGGINGFACE_HUB_CACHE", "~/b"),
            ("HF_HOME", "/c"),
            ("XDG_CACHE_HOME", "/d"),
        ];
        for expected in [
            "/a",
            "/home/me/b",
            "/c/hub",
            "/d/huggingface/hub",
            "/home/me/.cache/huggingface/hub",
        ] {
            assert_eq!(of(&variables).cache, Path::new(expected));
            if !variables.is_empty() {
                variables[0].1 = "";
                assert_eq!(of(&variables).cache, of(&variables[1..]).cache);
                variables.remove(0);
            }
        }
        assert_eq!(of(&[]).endpoint, "https://huggingface.co");
        assert_eq!(of(&[("HF_ENDPOINT", "http://x/")]).endpoint, "http://x");
        assert!(of(&[("HF_HUB_OFFLINE", "TRUE")]).offline && !of(&[("HF_HUB_OFFLINE", "0")]).offline);
    }

    #[test]
    fn where_the_token_is() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("token"), "of_file\n").unwrap();
        std::fs::write(folder.path().join("other"), " of_other\r\n").unwrap();
        let other = folder.path().join("other");
        let mut variables = vec![
            ("HF_TOKEN", " first\n"),
            ("HUGGING_FACE_HUB_TOKEN", "second"),
            ("HF_TOKEN_PATH", other.to_str().unwrap()),
            ("HF_HOME", home),
        ];
        for expected in ["first", "second", "of_other", "of_file"] {
            let token = of(&variables).token.unwrap();
            assert_eq!(token.secret().unwrap(), expected);
            assert!(!format!("{token:?}").contains(expected), "{token:?}");
            variables.remove(0);
        }
        assert!(of(&[("HF_TOKEN", " ")]).token.is_none());
        assert!(
            of(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")])
                .token
                .is_none()
        );
        // Not a token, for example a whole line of a shell. The error does not repeat it.
        let error = of(&[("HF_TOKEN", "export secret")])
            .token
            .unwrap()
            .secret()
            .unwrap_err()
            .to_string();
        assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
    }
}
