//! Requests to the Hugging Face Hub, made by `hf-hub`.

use super::cache::CachedModel;
use super::environment::{Hub, Token};
use crate::error::{WithContext, bail};
use crate::notice::{Listener, Notice};
use crate::{HubError, Result};
use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo};
use std::io::ErrorKind;
use std::time::Duration;

/// The longest time to connect to the Hub, and to wait for the start of an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest accepted size of the list of a repository's files, in bytes.
const LONGEST_LIST: u64 = 64 << 20;
/// The HTTP status of a request for the rest of a file that begins at its end or after it.
const NOTHING_LEFT: u16 = 416;
/// The Hub's error code for a model whose conditions the user must accept first.
const GATED: &str = "GatedRepo";
/// The Hub's error code for a branch, tag or commit that a model does not have.
const NO_REVISION: &str = "RevisionNotFound";

/// A client of the Hub.
pub(super) struct Client<'a> {
    api: Api,
    hub: &'a Hub,
    listener: &'a dyn Listener,
    /// The token to send with every request. It stays `None` until the Hub refuses a request without it, because
    /// `hf-hub` also sends it to the server of the files.
    token: Option<&'a Token>,
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub, listener: &'a dyn Listener) -> Result<Self> {
        Ok(Self {
            api: api(hub, None)?,
            hub,
            listener,
            token: None,
        })
    }

    /// The present commit and files of a revision.
    pub(super) fn info(&mut self, repository: &Repo) -> Result<RepoInfo> {
        loop {
            let request = self.api.repo(repository.clone()).info_request().config();
            let request = request
                .http_status_as_error(false)
                .timeout_connect(Some(PATIENCE))
                .timeout_recv_response(Some(PATIENCE))
                .build();
            let mut response = request.call().map_err(HubError::of)?;
            let status = response.status().as_u16();
            if response.status().is_success() {
                let body = response.body_mut().with_config().limit(LONGEST_LIST);
                return body
                    .read_json()
                    .map_err(HubError::of)
                    .context("its answer is not understood");
            }
            let code = response.headers().get("x-error-code");
            let code = code.and_then(|code| code.to_str().ok());
            if code == Some(NO_REVISION) || !self.takes_token(status)? {
                bail!("{}", self.refusal(status, code, repository));
            }
        }
    }

    /// Fetches a file of a commit into the cache.
    pub(super) fn fetch(&mut self, repository: &Repo, file: &str, cache: &CachedModel) -> Result<()> {
        let path = cache.snapshot(repository.revision()).join(file);
        let unwritable = || format!("the Hub's cache, {}, cannot be written", cache.folder().display());
        // `hf-hub` would keep a link that leads nowhere.
        if path.is_symlink() && !path.exists() {
            std::fs::remove_file(&path).with_context(unwritable)?;
        }
        let mut waits = false;
        // Another process may fetch the file while this one waits.
        while !path.exists() {
            let asked = self.api.repo(repository.clone());
            let fetched = if file.is_ascii() {
                asked.download(file)
            } else {
                // The progress bar of `hf-hub` may cut the name within a character.
                asked.download_with_progress(file, ())
            };
            let error = match fetched {
                Ok(found) => {
                    if found != path {
                        bail!("the Hub answers with a file of another commit");
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            match (&error, status(&error)) {
                (ApiError::LockAcquisition(_), _) => {
                    if !waits {
                        self.listener.notice(&Notice::Waiting(file.to_owned()));
                    }
                    waits = true;
                }
                (ApiError::IoError(cause), _) if is_of_disk(cause.kind()) => {
                    return Err(error).with_context(unwritable);
                }
                (ApiError::IoError(_), _) => {
                    return Err(error)
                        .context("the connection broke off; the part that has arrived is kept, try again");
                }
                (ApiError::InvalidResume, _) | (_, Some(NOTHING_LEFT)) => {
                    if !self.discards_part(&asked.url(file), cache)? {
                        return Err(error.into());
                    }
                }
                (_, Some(status)) => {
                    if !self.takes_token(status)? {
                        // The file is known to exist, so the repository is not private.
                        bail!("{}", self.refusal(status, Some(GATED), repository));
                    }
                }
                (_, None) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether a request with this status is worth another try with the token. If so, the client uses the token from
    /// now on.
    fn takes_token(&mut self, status: u16) -> Result<bool> {
        let token = self.hub.token.as_ref();
        let helps = matches!(status, 401 | 403 | 404) && self.token.is_none() && token.is_some();
        if helps {
            self.api = api(self.hub, token)?;
            self.token = token;
        }
        Ok(helps)
    }

    /// Removes the partial download of a file if it is not the beginning of that file, because `hf-hub` would request
    /// the rest of it forever. The result says whether there was one.
    fn discards_part(&self, url: &str, cache: &CachedModel) -> Result<bool> {
        let part = cache.part(self.api.metadata(url)?.etag());
        let is_there = part.metadata().is_ok_and(|part| part.len() > 0);
        if is_there {
            std::fs::remove_file(&part).with_context(|| format!("cannot remove {}", part.display()))?;
        }
        Ok(is_there)
    }

    /// An explanation of an unsuccessful answer.
    fn refusal(&self, status: u16, code: Option<&str>, repository: &Repo) -> String {
        let (name, revision) = (repository.url(), repository.revision());
        let Hub {
            endpoint, token_file, ..
        } = self.hub;
        let way_out = match self.token {
            Some(token) => format!(
                "The token of {} has been sent; it may have expired, or may not read this model.",
                token.origin
            ),
            None => format!(
                "If it is private or gated, give a token that may read it: in HF_TOKEN, or in the file {}.",
                token_file.display()
            ),
        };
        match (status, code) {
            (404, Some(NO_REVISION)) => format!("{name} has no revision {revision:?} there"),
            (401 | 403, Some(GATED)) => format!(
                "{name} is gated: its conditions have to be accepted at {endpoint}/{name} first (status {status}). {way_out}"
            ),
            (401 | 403, _) => format!(
                "{name} is private, gated, or misspelled: the Hub does not show it without permission (status {status}). {way_out}"
            ),
            (404, _) => format!("there is no {name} at revision {revision:?}, or it is private. {way_out}"),
            _ => format!("the Hub answers with status {status}; try again later"),
        }
    }
}

/// The Hub that the environment names.
fn api(hub: &Hub, token: Option<&Token>) -> Result<Api> {
    let token = token.map(Token::secret).transpose()?;
    // `new` would panic if there is no home directory.
    ApiBuilder::from_cache(Cache::new(hub.cache.clone()))
        .with_endpoint(hub.endpoint.clone())
        .with_token(token.map(str::to_owned))
        .with_progress(hub.shows_progress)
        .build()
        .context("the Hub cannot be asked")
}

/// The HTTP status with which the Hub refused a file. `hf-hub` does not export the type that holds it, so it is taken
/// from the text.
fn status(error: &ApiError) -> Option<u16> {
    let ApiError::RequestError(error) = error else {
        return None;
    };
    error.to_string().strip_prefix("http status: ")?.parse().ok()
}

/// Whether an error of this kind comes from the disk, not from the connection.
fn is_of_disk(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::AlreadyExists
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::QuotaExceeded
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::StorageFull
    )
}
