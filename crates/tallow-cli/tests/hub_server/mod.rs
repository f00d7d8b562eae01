//! As much of the Hugging Face Hub as fetching one model needs: what its branch has, and its files.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The one commit of the one model, `some/model`.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub(crate) struct Server {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// Serves the files of a folder for as long as the test runs.
    pub(crate) fn start(folder: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counter.fetch_add(1, Ordering::SeqCst);
                // A client that goes away is its own affair.
                let _ = answer(stream.unwrap(), &folder);
            }
        });
        Self { url, requests }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut range = None;
    for line in lines {
        let line = line?.to_lowercase();
        if line.is_empty() {
            break;
        }
        range = line.strip_prefix("range: bytes=").map(str::to_owned).or(range);
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let not_found = ("404 Not Found".to_owned(), String::new(), Vec::new());
    let (status, headers, body) = if ["main", COMMIT]
        .iter()
        .any(|r| path == format!("/api/models/some/model/revision/{r}"))
    {
        let names = std::fs::read_dir(folder)?.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files: Vec<_> = names.map(|name| serde_json::json!({ "rfilename": name })).collect();
        let info = serde_json::json!({ "sha": COMMIT, "siblings": files });
        ("200 OK".to_owned(), String::new(), info.to_string().into_bytes())
    } else if let Some(name) = path.strip_prefix(&format!("/some/model/resolve/{COMMIT}/")) {
        match std::fs::read(folder.join(name)) {
            Err(_) => not_found,
            Ok(bytes) => {
                let (start, end) = range
                    .as_deref()
                    .and_then(|range| range.split_once('-'))
                    .unwrap_or(("0", ""));
                let (start, all) = (start.parse::<usize>().unwrap(), bytes.len());
                let end = end.parse::<usize>().map_or(all, |last| all.min(last + 1));
                let headers = format!(
                    "x-repo-commit: {COMMIT}\r\netag: \"{name}\"\r\ncontent-range: bytes {start}-{}/{all}\r\n",
                    end.saturating_sub(1)
                );
                ("206 Partial Content".to_owned(), headers, bytes[start..end].to_vec())
            }
        }
    } else {
        not_found
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    stream.write_all(&body)
}
