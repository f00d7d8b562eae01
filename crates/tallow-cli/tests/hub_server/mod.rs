//! The part of the Hugging Face Hub that is needed to fetch one model: the list of its files and the files. A private
//! model requires a token. If the files are on another server, the Hub redirects to it. The server sends the requested
//! range of a file.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The only commit of the only model, `some/model`.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request: its path, and its authorization.
type Request = (String, Option<String>);

pub(crate) struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// The behaviour of a server.
#[derive(Clone, Default)]
pub(crate) struct Manner {
    /// The token that opens the model, and the status for requests without it.
    pub(crate) token: Option<(&'static str, u16)>,
    /// Whether everybody may see the list of files, as for a gated model.
    pub(crate) is_listed: bool,
    /// A file of which only half is sent at the first request.
    pub(crate) breaks_off: Option<&'static str>,
    /// The server that has the files.
    pub(crate) elsewhere: Option<String>,
}

impl Server {
    /// Serves the files of a folder until the test ends.
    pub(crate) fn start(folder: PathBuf) -> Self {
        Self::with(folder, Manner::default())
    }

    pub(crate) fn with(folder: PathBuf, mut manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // It is no error here if the client closes the connection.
                let _ = answer(stream.unwrap(), &folder, &mut manner, &seen);
            }
        });
        Self { url, requests }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    folder: &Path,
    manner: &mut Manner,
    requests: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let (mut range, mut authorization) = (None, None);
    for line in lines {
        let line = line?;
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_lowercase().as_str() {
            "range" => range = value.trim().strip_prefix("bytes=").map(str::to_owned),
            "authorization" => authorization = Some(value.trim().to_owned()),
            "" => break,
            _ => {}
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    requests.lock().unwrap().push((path.to_owned(), authorization.clone()));
    let empty = |status: &str, headers: String| (status.to_owned(), headers, Vec::new());
    let is_open = manner.is_listed && path.starts_with("/api/");
    let refused = manner
        .token
        .filter(|(token, _)| !is_open && authorization != Some(format!("Bearer {token}")));
    let of_branch = |revision: &&str| path == format!("/api/models/some/model/revision/{revision}");
    let of_commit = format!("/some/model/resolve/{COMMIT}/");
    let (status, headers, body) = if let Some((_, status)) = refused {
        empty(&format!("{status} Refused"), String::new())
    } else if ["main", COMMIT].iter().any(of_branch) {
        let names = std::fs::read_dir(folder)?.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files: Vec<_> = names.map(|name| serde_json::json!({ "rfilename": name })).collect();
        let info = serde_json::json!({ "sha": COMMIT, "siblings": files });
        ("200 OK".to_owned(), String::new(), info.to_string().into_bytes())
    } else if let Some(name) = path.strip_prefix(&of_commit) {
        match (std::fs::read(folder.join(name)), &manner.elsewhere) {
            (Err(_), _) => empty("404 Not Found", "x-error-code: EntryNotFound\r\n".to_owned()),
            (Ok(_), Some(server)) => empty(
                "302 Found",
                format!("location: {server}{path}\r\nx-linked-etag: \"linked-{name}\"\r\nx-repo-commit: {COMMIT}\r\n"),
            ),
            (Ok(bytes), None) => part_of(&bytes, name, range.as_deref()),
        }
    } else {
        empty("404 Not Found", String::new())
    };
    let length = body.len();
    let is_whole = length < 2 || manner.breaks_off.is_none_or(|name| !path.ends_with(name));
    let sent = if is_whole { length } else { length / 2 };
    manner.breaks_off = manner.breaks_off.filter(|_| is_whole);
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    stream.write_all(&body[..sent])
}

fn part_of(bytes: &[u8], name: &str, range: Option<&str>) -> (String, String, Vec<u8>) {
    let etag = format!("x-repo-commit: {COMMIT}\r\netag: \"{name}\"\r\n");
    let Some((start, end)) = range.and_then(|range| range.split_once('-')) else {
        return ("200 OK".to_owned(), etag, bytes.to_vec());
    };
    let (start, all) = (start.parse::<usize>().unwrap(), bytes.len());
    if start >= all {
        return ("416 Range Not Satisfiable".to_owned(), etag, Vec::new());
    }
    let end = end.parse::<usize>().map_or(all, |last| all.min(last + 1));
    let headers = format!("{etag}content-range: bytes {start}-{}/{all}\r\n", end - 1);
    ("206 Partial Content".to_owned(), headers, bytes[start..end].to_vec())
}
