//! A server in a process of its own, a client that can misbehave, and work for the server.

// Helpers of a test may panic like the test itself; not every test needs all of them.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use crate::small_model;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// `tallow serve` until the end of a test.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<Value>>>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

impl Served {
    /// Starts a server in a folder, at a free port.
    pub(crate) fn start(at: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tallow"))
            .current_dir(at)
            .args(["serve", "--log", "json"])
            .args(arguments)
            .args(["--listen", "127.0.0.1:0"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut said = String::new();
        let address = loop {
            let Some(line) = lines.next() else { panic!("{said}") };
            let line = line.unwrap();
            said += &line;
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["event"] == "listening" {
                break event["address"].as_str().unwrap().parse().unwrap();
            }
        };
        let events = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                events.lock().unwrap().push(event);
            }
        });
        Self { child, address, log }
    }

    /// Everything that the server has told since it listens.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the server has told of an event.
    pub(crate) fn wait_for(&self, event: &str) -> Value {
        let begin = Instant::now();
        loop {
            if let Some(found) = self.log().into_iter().find(|told| told["event"] == event) {
                return found;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "no {event}: {:?}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// The answer to a request of these bytes.
    pub(crate) fn send(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // A server that refuses may close before everything is written.
        let _ = stream.write_all(request);
        answer(stream)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
    }

    pub(crate) fn post(&self, path: &str, kind: &str, body: &str) -> Answer {
        self.post_with(path, &format!("content-type: {kind}\r\n"), body.as_bytes())
    }

    /// Posts with header lines of one's own.
    pub(crate) fn post_with(&self, path: &str, headers: &str, body: &[u8]) -> Answer {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        self.send(&[head.as_bytes(), body].concat())
    }

    pub(crate) fn json(&self, path: &str, body: &Value) -> Answer {
        self.post(path, "application/json", &body.to_string())
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads an answer up to the end of the connection.
pub(crate) fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A connection that is reset has said before what it has to say.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        panic!("no answer: {text:?}");
    };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let head = head.to_ascii_lowercase();
    let body = match head.contains("transfer-encoding: chunked") {
        true => unchunked(body),
        false => body.to_owned(),
    };
    Answer { status, head, body }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        whole += &rest[..size];
        body = &rest[size + 2..];
    }
    whole
}

pub(crate) fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    small_model::model(folder.path());
    folder
}

pub(crate) fn server(at: &Path, more: &[&str]) -> Served {
    Served::start(at, &[&["de-en=model"][..], more].concat())
}

/// A server with settings of a file.
pub(crate) fn configured(at: &Path, settings: &str) -> Served {
    let model = "\n[[model]]\npath = \"model\"\nsource = \"de\"\ntarget = \"en\"\n";
    std::fs::write(at.join("serve.toml"), settings.to_owned() + model).unwrap();
    Served::start(at, &["--config", "serve.toml"])
}

/// What `tallow translate` makes of lines.
pub(crate) fn translated(at: &Path, lines: &[&str], flags: &[&str]) -> Vec<String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tallow"))
        .current_dir(at)
        .args(["translate", "model"])
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

pub(crate) fn ask(q: impl Into<Value>) -> Value {
    json!({ "q": q.into(), "source": "de", "target": "en" })
}

/// Work that takes a while: what is asked for while it is done, and what becomes of it.
pub(crate) fn long_text() -> Value {
    let lines: Vec<String> = (0..400)
        .map(|i| {
            format!(
                "Ein Hund rennt {i} mal am Meer. {}",
                "Die alte Stadt am Meer ist schön!"
            )
        })
        .collect();
    ask(lines)
}

pub(crate) fn metric(server: &Served, name: &str) -> f64 {
    let text = server.get("/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
}

/// The head of a WebSocket's beginning.
pub(crate) const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
