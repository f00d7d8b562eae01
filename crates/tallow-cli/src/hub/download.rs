//! Requests to the Hugging Face Hub.

use super::cache::CachedModel;
use super::environment::{Environment, Token};
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write, stderr};
use std::path::Path;
use std::time::Duration;
use ureq::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, ETAG, LOCATION, RANGE};
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::{Agent, Body};

/// How long the Hub may take to be reached, and to begin an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// A chain of redirections that is longer has no end.
const MOST_REDIRECTIONS: usize = 8;
/// The list of a repository's files is never longer, in bytes.
const LONGEST_LIST: u64 = 64 << 20;

/// The Hub, and who asks it.
pub(super) struct Hub<'a> {
    agent: Agent,
    environment: &'a Environment,
}

/// What the Hub says about a revision of a repository.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    #[serde(default)]
    pub(super) sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Info {
    /// The files that it has.
    pub(super) fn files(&self) -> Vec<String> {
        self.siblings.iter().map(|file| file.rfilename.clone()).collect()
    }
}

impl<'a> Hub<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        let agent = Agent::config_builder()
            // Redirections are followed here, and what is no success is told here.
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .user_agent(concat!("tallow/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        Self { agent, environment }
    }

    /// What a revision has now.
    pub(super) fn info(&self, name: &str, revision: &str) -> Result<Info> {
        let endpoint = &self.environment.endpoint;
        let revision_in_url = revision.replace('/', "%2F");
        let url = format!("{endpoint}/api/models/{name}/revision/{revision_in_url}");
        let (response, _) = self.get(&url, 0)?;
        if !response.status().is_success() {
            bail!("{}", self.refusal(&response, name, revision));
        }
        let mut body = response.into_body();
        let text = body.with_config().limit(LONGEST_LIST).read_to_vec();
        serde_json::from_slice(&text.context("its answer breaks off")?).context("its answer is not understood")
    }

    /// Brings a file of a commit into the cache.
    pub(super) fn fetch(&self, name: &str, commit: &str, file: &str, cache: &CachedModel) -> Result<()> {
        let url = format!("{}/{name}/resolve/{commit}/{file}", self.environment.endpoint);
        let (response, etag) = self.get(&url, 0)?;
        if !response.status().is_success() {
            bail!("{}", self.refusal(&response, name, commit));
        }
        let etag = etag.unwrap_or_else(|| format!("{commit}-{file}"));
        let blob = cache.blob(&etag);
        let write = |error: io::Error| {
            let folder = cache.folder().display();
            anyhow::Error::new(error).context(format!("the Hub's cache, {folder}, cannot be written"))
        };
        if !blob.exists() {
            std::fs::create_dir_all(cache.blob("")).map_err(write)?;
            let unfinished = cache.blob(&format!("{etag}.incomplete"));
            let part = OpenOptions::new()
                .append(true)
                .create(true)
                .open(&unfinished)
                .map_err(write)?;
            // Another process may be fetching the same.
            part.lock().map_err(write)?;
            if !blob.exists() {
                self.complete(&url, file, response, part)?;
                check(&unfinished, &etag)?;
                std::fs::rename(&unfinished, &blob).map_err(write)?;
            }
        }
        cache.link(&etag, commit, file).map_err(write)
    }

    /// Adds to a file what it lacks.
    fn complete(&self, url: &str, name: &str, whole: Response<Body>, mut part: File) -> Result<()> {
        let size = length(whole.headers());
        let start = part.metadata()?.len();
        let (response, start) = if start > 0 && size.is_none_or(|size| start < size) {
            let (rest, _) = self.get(url, start)?;
            if rest.status() == StatusCode::PARTIAL_CONTENT {
                (rest, start)
            } else {
                part.set_len(0)?;
                (self.get(url, 0)?.0, 0)
            }
        } else {
            part.set_len(0)?;
            (whole, 0)
        };
        if !response.status().is_success() {
            bail!("the Hub answers {}", response.status());
        }
        let progress = bar(name, size);
        progress.set_position(start);
        let mut body = progress.wrap_read(response.into_body().into_reader());
        let copied = copy(&mut body, &mut part);
        progress.finish_and_clear();
        copied?;
        let found = part.metadata()?.len();
        if size.is_some_and(|size| size != found) {
            bail!("it broke off after {found} bytes; what is here is kept, try again");
        }
        part.sync_all()?;
        Ok(())
    }

    /// Asks for a URL, from a byte on, and for what it redirects to; returns the answer and the name that the Hub has for the
    /// contents. The token goes to the Hub alone, not to other servers that it points to.
    fn get(&self, url: &str, start: u64) -> Result<(Response<Body>, Option<String>)> {
        let (mut url, mut name) = (url.to_owned(), None);
        for _ in 0..MOST_REDIRECTIONS {
            let mut request = self.agent.get(&url).header(ACCEPT_ENCODING, "identity");
            let is_of_hub = origin(&url).is_some() && origin(&url) == origin(&self.environment.endpoint);
            if let Some(token) = self.token().filter(|_| is_of_hub) {
                request = request.header(AUTHORIZATION, token.header()?);
            }
            if start > 0 {
                request = request.header(RANGE, format!("bytes={start}-"));
            }
            let response = request.call()?;
            if is_of_hub {
                name = name_of_contents(response.headers()).or(name);
            }
            let target = response.headers().get(LOCATION).and_then(|target| target.to_str().ok());
            match target.filter(|_| response.status().is_redirection()) {
                Some(target) => url = resolve(&url, target).with_context(|| format!("it redirects to {target:?}"))?,
                None => return Ok((response, name)),
            }
        }
        bail!("it redirects without end")
    }

    fn token(&self) -> Option<&Token> {
        self.environment.token.as_ref()
    }

    /// What an answer means that brings nothing.
    fn refusal(&self, response: &Response<Body>, name: &str, revision: &str) -> String {
        let status = response.status();
        let Environment {
            endpoint, token_file, ..
        } = self.environment;
        let code = response
            .headers()
            .get("x-error-code")
            .and_then(|code| code.to_str().ok());
        let way_out = match self.token() {
            Some(token) => format!(
                "The token of {} has been sent; it may have expired, or may not read this model.",
                token.origin
            ),
            None => format!(
                "If it is private or gated, give a token that may read it: in HF_TOKEN, or in the file {}.",
                token_file.display()
            ),
        };
        match (status.as_u16(), code) {
            (404, Some("RevisionNotFound")) => format!("{name} has no revision {revision:?} there"),
            (401 | 403, Some("GatedRepo")) => format!(
                "{name} is gated: its conditions have to be accepted at {endpoint}/{name} first (status {}). {way_out}",
                status.as_u16()
            ),
            (401 | 403, _) => format!(
                "{name} is private, gated, or misspelled: the Hub shows it to nobody without leave (status {}). {way_out}",
                status.as_u16()
            ),
            (404, _) => format!("there is no {name} at revision {revision:?}, or it is private. {way_out}"),
            _ => format!("the Hub answers {status}; try again later"),
        }
    }
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    let part = |part: &str| part.to_lowercase();
    Some((part(uri.scheme_str()?), part(uri.authority()?.as_str())))
}

/// The URL that a redirection leads to.
fn resolve(url: &str, target: &str) -> Option<String> {
    if target.starts_with("http://") || target.starts_with("https://") {
        return Some(target.to_owned());
    }
    let uri: Uri = url.parse().ok()?;
    let is_path = target.starts_with('/') && !target.starts_with("//");
    is_path.then(|| Some(format!("{}://{}{target}", uri.scheme_str()?, uri.authority()?)))?
}

/// The Hub's name for the contents of a file: their hash.
fn name_of_contents(headers: &HeaderMap) -> Option<String> {
    let tag = headers
        .get("x-linked-etag")
        .or_else(|| headers.get(ETAG))?
        .to_str()
        .ok()?;
    let name = tag.trim_start_matches("W/").trim_matches('"');
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    (is_name && !name.starts_with('.')).then(|| name.to_owned())
}

/// Bytes of the body.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Compares the contents of a file with their name, where that is a SHA-256.
fn check(path: &Path, name: &str) -> Result<()> {
    let is_sum = name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit());
    if is_sum && tallow_train::sha256(path)? != name.to_lowercase() {
        // Not to be gone on with.
        std::fs::remove_file(path)?;
        bail!("it arrived damaged; try again");
    }
    Ok(())
}

fn copy(from: &mut impl Read, to: &mut File) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from
            .read(&mut buffer)
            .context("the connection broke off; what is here is kept, try again")?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read])
            .context("the Hub's cache cannot be written")?;
    }
}

fn bar(name: &str, size: Option<u64>) -> ProgressBar {
    let (Some(size), true) = (size, stderr().is_terminal()) else {
        return ProgressBar::hidden();
    };
    let style = ProgressStyle::with_template("{msg} {bar:30} {bytes} of {total_bytes}, {eta}");
    ProgressBar::new(size)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections() {
        let hub = "https://hub.example/a/b?c=d";
        assert_eq!(resolve(hub, "/x?y").as_deref(), Some("https://hub.example/x?y"));
        assert_eq!(
            resolve(hub, "https://cdn.example/x").as_deref(),
            Some("https://cdn.example/x")
        );
        for odd in ["//cdn.example/x", "x", "", "file:///etc/passwd"] {
            assert_eq!(resolve(hub, odd), None, "{odd}");
        }
        let same = |a: &str, b: &str| origin(a).is_some() && origin(a) == origin(b);
        assert!(same("https://hub.example/a", "https://HUB.example/b"));
        // Another host, port or scheme is another server, and so is what only begins like the Hub.
        for other in [
            "https://cdn.example/",
            "https://hub.example:444/",
            "http://hub.example/",
            "https://hub.example.evil/",
            "https://hub.example@evil/",
        ] {
            assert!(!same("https://hub.example/", other), "{other}");
        }
    }

    #[test]
    fn names_of_contents() {
        let of = |header: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ETAG, "\"other\"".parse().unwrap());
            headers.insert(header, value.parse().unwrap());
            name_of_contents(&headers)
        };
        assert_eq!(of("x-linked-etag", "\"4d7a\"").as_deref(), Some("4d7a"));
        assert_eq!(of("etag", "W/\"4d7a-x\"").as_deref(), Some("4d7a-x"));
        for odd in ["\"../x\"", "\"\"", "\".hidden\""] {
            assert_eq!(of("etag", odd), None, "{odd}");
        }
    }
}
