//! The server, over real connections: what it answers, what it refuses, and how it begins and ends.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

mod http_client;
mod small_model;

use http_client::{Served, answer};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LINES: [&str; 5] = [
    "Ein Hund rennt.",
    "Wir",
    "",
    "Die alte Stadt am Meer ist schön!",
    "Ein Hund",
];

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    small_model::model(folder.path());
    folder
}

fn server(at: &Path, more: &[&str]) -> Served {
    Served::start(at, &[&["de-en=model"][..], more].concat())
}

/// A server with settings of a file.
fn configured(at: &Path, settings: &str) -> Served {
    let model = "\n[[model]]\npath = \"model\"\nsource = \"de\"\ntarget = \"en\"\n";
    std::fs::write(at.join("serve.toml"), settings.to_owned() + model).unwrap();
    Served::start(at, &["--config", "serve.toml"])
}

/// What `tallow translate` makes of lines.
fn translated(at: &Path, lines: &[&str], flags: &[&str]) -> Vec<String> {
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

fn ask(q: impl Into<Value>) -> Value {
    json!({ "q": q.into(), "source": "de", "target": "en" })
}

#[test]
fn translations_are_those_of_the_command_line() {
    let folder = folder();
    let at = folder.path();
    let expected = translated(at, &LINES, &[]);
    let server = server(at, &["--workers", "2"]);
    // Many clients at once, so that the sentences of some share a batch.
    let one = |number: usize| {
        for round in 0..6 {
            let line = (number + round) % LINES.len();
            let text = LINES[line];
            if text.is_empty() {
                continue;
            }
            let answer = server.json("/translate", &ask(text));
            assert_eq!(answer.json(), json!({ "translatedText": expected[line] }));
        }
    };
    std::thread::scope(|scope| (0..12).for_each(|number| drop(scope.spawn(move || one(number)))));
    // Several texts, and a text of several lines, whose ends stay.
    let answer = server.json("/translate", &ask(LINES.to_vec()));
    assert_eq!(answer.json()["translatedText"], json!(expected));
    let answer = server.json("/translate", &ask(format!("{}\r\n\n{}\n", LINES[0], LINES[1])));
    assert_eq!(
        answer.json()["translatedText"],
        format!("{}\r\n\n{}\n", expected[0], expected[1])
    );
    // The model had to translate each sentence only once.
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("tallow_sentences_total "), "{metrics}");
    assert!(!metrics.contains("tallow_cached_sentences_total 0\n"), "{metrics}");
    assert!(
        metrics.contains("tallow_requests_total{route=\"/translate\",status=\"200\"} "),
        "{metrics}"
    );
}

#[test]
fn clients_of_libretranslate_are_understood() {
    let folder = folder();
    let at = folder.path();
    let expected = translated(at, &["Wir"], &[]);
    let server = Served::start(at, &["de-en=model", "cs-en=model"]);
    let form = "application/x-www-form-urlencoded";
    for (kind, body) in [
        (form, "q=Wir&source=de&target=en".to_owned()),
        (
            form,
            "q=Wir&source=de&target=en&format=text&alternatives=0&api_key=".to_owned(),
        ),
        ("application/json; charset=utf-8", ask("Wir").to_string()),
        (
            "multipart/form-data; boundary=xx",
            [("q", "Wir"), ("source", "de"), ("target", "en")]
                .map(|(name, value)| {
                    format!("--xx\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                })
                .concat()
                + "--xx--\r\n",
        ),
    ] {
        let answer = server.post("/translate", kind, &body);
        assert_eq!(answer.json(), json!({ "translatedText": expected[0] }), "{kind}");
    }
    let answer = server.post("/translate?q=Wir&source=de&target=en", "", "");
    assert_eq!(answer.json()["translatedText"], expected[0]);
    // Other translations, and the language of a text.
    let mut body = ask("Ein Hund rennt auf der Straße und bellt.");
    body["alternatives"] = 3.into();
    body["source"] = "auto".into();
    let answer = server.json("/translate", &body).json();
    let others: Vec<&str> = answer["alternatives"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!((1..=3).contains(&others.len()) && !others.contains(&answer["translatedText"].as_str().unwrap()));
    assert_eq!(answer["detectedLanguage"]["language"], "de");
    let answer = server.json(
        "/detect",
        &json!({ "q": "Muž v modré košili stojí na žebříku a myje okno." }),
    );
    assert_eq!(answer.json()[0]["language"], "cs");
    assert!(answer.json()[0]["confidence"].as_f64().unwrap() > 50.0);
    // From a language to itself.
    let answer = server.json("/translate", &json!({ "q": ["Wir"], "source": "de", "target": "de" }));
    assert_eq!(answer.json()["translatedText"], json!(["Wir"]));
    let languages = server.get("/languages").json();
    assert_eq!(
        languages[0],
        json!({ "code": "de", "name": "German", "targets": ["de", "en"] })
    );
    assert_eq!(
        languages[2],
        json!({ "code": "en", "name": "English", "targets": ["en"] })
    );
    let settings = server.get("/frontend/settings").json();
    assert_eq!(
        settings["language"]["target"],
        json!({ "code": "en", "name": "English" })
    );
    assert_eq!(server.get("/health").json(), json!({ "status": "ok" }));
    assert_eq!(server.get("/ready").status, 200);
    // Errors, in the same words.
    for (change, told) in [
        (json!({ "q": null }), "Invalid request: missing q parameter"),
        (json!({ "q": [] }), "Invalid request: missing q parameter"),
        (
            json!({ "q": 5 }),
            "Invalid request: q parameter is neither a text nor a list of texts",
        ),
        (json!({ "source": null }), "Invalid request: missing source parameter"),
        (json!({ "target": "" }), "Invalid request: missing target parameter"),
        (
            json!({ "target": ["en"] }),
            "Invalid request: target parameter is no text",
        ),
        (json!({ "source": "xx" }), "xx is not supported"),
        (json!({ "source": "en", "target": "de" }), "de is not supported"),
        (
            json!({ "source": "cs", "target": "cs", "format": "pdf" }),
            "pdf format is not supported",
        ),
        (
            json!({ "alternatives": 99 }),
            "Invalid request: alternatives parameter must be <= 9",
        ),
        (
            json!({ "alternatives": "x" }),
            "Invalid request: alternatives parameter is not a number",
        ),
    ] {
        let mut body = ask("Wir");
        for (key, value) in change.as_object().unwrap() {
            body[key] = value.clone();
        }
        let answer = server.json("/translate", &body);
        // What no model writes is not supported; what one only writes has another message.
        if change["source"] != "en" {
            assert_eq!(
                (answer.status, answer.json()),
                (400, json!({ "error": told })),
                "{change}"
            );
        }
        assert_eq!(answer.status, 400, "{change}");
    }
    for (body, told) in [
        ("", "Invalid JSON format"),
        ("[]", "Invalid JSON format"),
        ("{\"q\": \"\u{1}", "Invalid JSON"),
    ] {
        let answer = server.post("/translate", "application/json", body);
        assert!(answer.status == 400 && answer.body.contains(told), "{answer:?}");
    }
    let answer = server.post_with("/translate", "content-type: application/json\r\n", b"{\"q\": \"\xff\"}");
    assert_eq!(answer.status, 400);
    assert_eq!(server.get("/nothing").status, 404);
    assert_eq!(server.get("/detect").status, 405);
    assert_eq!(server.get("/translate").header("allow"), Some("post"));
}

#[test]
fn the_own_interface_tells_more() {
    let folder = folder();
    let at = folder.path();
    let server = server(at, &[]);
    let flags = ["--n-best", "3", "--distinct", "--format", "json"];
    let line: Value = serde_json::from_str(&translated(at, &["Ein Hund"], &flags)[0]).unwrap();
    let body = json!({ "text": "Ein Hund", "target": "en", "n_best": 3, "pieces": true, "alignments": true });
    let answer = server.json("/v1/translate", &body).json();
    assert_eq!(
        (&answer["model"], &answer["detected"]["language"]),
        (&json!("de-en"), &json!("de"))
    );
    let found = &answer["translations"][0]["lines"][0];
    let candidates = found["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 3);
    for (candidate, expected) in candidates.iter().zip(line["candidates"].as_array().unwrap()) {
        assert_eq!(candidate["text"], expected["text"], "{line}");
        assert_eq!(candidate["score"], expected["score"], "{line}");
    }
    assert!(
        !candidates[0]["pieces"].as_array().unwrap().is_empty()
            && candidates.iter().all(|candidate| candidate["alignment"].is_array())
    );
    assert!(answer["usage"]["source_tokens"].as_u64().unwrap() >= 2);
    // The beginning of a translation.
    let text = candidates[0]["text"].as_str().unwrap();
    let prefix = text.split(' ').next().unwrap();
    let answer = server.json(
        "/v1/translate",
        &json!({ "text": "Wir", "model": "de-en", "prefix": prefix }),
    );
    let begun = answer.json()["translations"][0]["text"].as_str().unwrap().to_owned();
    assert!(begun.starts_with(prefix), "{begun}");
    // Lines as they are ready, in their order.
    let expected = translated(at, &LINES, &[]);
    let body = json!({ "text": [LINES[..2].join("\n"), LINES[2..].join("\n")], "target": "en", "stream": true });
    let events = server.json("/v1/translate", &body).body;
    let lines: Vec<Value> = events
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    let texts = lines.iter().filter_map(|line| line["candidates"][0]["text"].as_str());
    assert_eq!(texts.collect::<Vec<&str>>(), expected);
    let places = lines.iter().map(|line| (line["text"].as_u64(), line["line"].as_u64()));
    let places: Vec<_> = places.take(5).collect();
    assert_eq!(
        places,
        [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)].map(|(a, b)| (Some(a), Some(b)))
    );
    assert!(events.trim_end().ends_with("{\"model\":\"de-en\"}"), "{events}");
    let models = server.get("/v1/models").json();
    assert_eq!(
        (&models["models"][0]["name"], &models["models"][0]["loaded"]),
        (&json!("de-en"), &json!(true))
    );
    for (body, told) in [
        (json!({ "text": "Wir" }), "name either a `model`"),
        (json!({ "text": "Wir", "model": "x" }), "there is no model"),
        (
            json!({ "text": "Wir", "target": "en", "n_best": 0 }),
            "n_best: from 1 to 10",
        ),
        (
            json!({ "text": "Wir", "target": "en", "beam": 11 }),
            "beam: from 1 to 10",
        ),
        (
            json!({ "text": "Wir", "target": "en", "timeout_ms": 0 }),
            "timeout_ms: 100 or more",
        ),
        (
            json!({ "text": "Wir", "target": "en", "beem": 2 }),
            "unknown field `beem`",
        ),
        (
            json!({ "text": "Wir", "target": "en", "prefix": "a ".repeat(300) }),
            "prefix and phrases need",
        ),
        (json!({ "text": 5, "target": "en" }), "text"),
        (
            json!({ "text": "Wir", "target": "en", "format": "html", "stream": true }),
            "only plain text",
        ),
        (
            json!({ "text": "a\n".repeat(2000), "target": "en", "n_best": 10 }),
            "2000 lines",
        ),
        (json!({ "target": "en" }), "missing field `text`"),
    ] {
        let answer = server.json("/v1/translate", &body);
        let error = answer.json()["error"]
            .as_str()
            .unwrap_or_else(|| panic!("{body}: {answer:?}"))
            .to_owned();
        let is_impossible = body["prefix"].is_string();
        assert_eq!(answer.status, if is_impossible { 409 } else { 400 });
        assert!(error.contains(told), "{body}: {error}");
        assert!(!error.contains(at.to_str().unwrap()));
    }
}

#[test]
fn markup_comes_back() {
    let folder = folder();
    let server = server(folder.path(), &[]);
    let html = "<!DOCTYPE html><p class=\"x\">Ein <b>Hund</b> rennt.</p><script>a < b</script>\n<ul><li>Wir</ul>";
    let mut body = ask(html);
    body["format"] = "html".into();
    let translated = server.json("/translate", &body).json()["translatedText"]
        .as_str()
        .unwrap()
        .to_owned();
    let tags = |text: &str| {
        let after = text.split('<').skip(1).filter_map(|part| part.split_once('>'));
        let mut tags: Vec<String> = after.map(|(tag, _)| tag.to_owned()).collect();
        tags.sort();
        tags.dedup();
        tags
    };
    assert_eq!(tags(&translated), tags(html), "{translated}");
    assert!(
        translated.starts_with("<!DOCTYPE html><p class=\"x\">") && translated.contains("<script>a < b</script>\n")
    );
    assert!(!translated.contains("Hund"));
    let body = json!({ "text": "# Ein *Hund*\n\n```\nWir\n```\n", "target": "en", "format": "markdown" });
    let answer = server.json("/v1/translate", &body).json();
    let text = answer["translations"][0]["text"].as_str().unwrap();
    assert!(
        text.starts_with("# ") && text.ends_with("\n\n```\nWir\n```\n") && text.contains('*'),
        "{text}"
    );
    // What has no text comes back as it is.
    for html in ["<hr>", "  ", "<img src=x>"] {
        let mut body = ask(html);
        body["format"] = "html".into();
        assert_eq!(server.json("/translate", &body).json()["translatedText"], html);
    }
}

/// The description of the interface names the routes that there are.
#[test]
fn the_description_is_of_this_server() {
    let folder = folder();
    let server = server(folder.path(), &[]);
    let described = server.get("/openapi.json").json();
    for (path, methods) in described["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let answer = match method.as_str() {
                "get" => server.get(path),
                _ => server.json(path, &json!({})),
            };
            let expected: &[u16] = if method == "get" { &[200] } else { &[400] };
            assert!(expected.contains(&answer.status), "{method} {path}: {answer:?}");
            let statuses = &methods[method]["responses"];
            assert!(statuses[answer.status.to_string()].is_object(), "{method} {path}");
        }
    }
    for page in ["/", "/docs"] {
        let answer = server.get(page);
        assert!(answer.status == 200 && answer.body.starts_with("<!doctype html>"));
        assert!(
            answer
                .header("content-security-policy")
                .unwrap()
                .contains("default-src 'none'")
        );
        assert!(
            !answer.body.contains("https://") && !answer.body.contains("http://"),
            "{page} loads from elsewhere"
        );
    }
}

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Sockets count as connections, and only pages of this server open them.
#[test]
fn sockets_have_limits() {
    let folder = folder();
    let settings = "[limits]\nconnections = 3\nsocket_seconds = 0.5\n";
    let server = configured(folder.path(), settings);
    let open = |origin: &str| {
        let mut stream = server.connect();
        let head = format!("GET /translate HTTP/1.1\r\nhost: here.example\r\n{origin}{UPGRADE}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        (String::from_utf8_lossy(&begin).into_owned(), stream)
    };
    assert_eq!(open("origin: https://there.example\r\n").0, "HTTP/1.1 403");
    let sockets = [open(""), open("origin: http://here.example\r\n"), open("")];
    assert!(
        sockets.iter().all(|(status, _)| status == "HTTP/1.1 101"),
        "{sockets:?}"
    );
    assert_eq!(server.get("/health").status, 503);
    // Those that say nothing make room.
    let begin = Instant::now();
    while server.get("/health").status != 200 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A frame of a client, which masks its text.
fn frame(text: &str) -> Vec<u8> {
    let mask = [1u8, 2, 3, 4];
    let masked = text.bytes().enumerate().map(|(i, byte)| byte ^ mask[i % 4]);
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 126);
    [vec![0x81, 0x80 | length], mask.to_vec(), masked.collect()].concat()
}

fn frame_of_server(stream: &mut impl Read) -> (u8, Vec<u8>) {
    let (mut head, mut long) = ([0; 2], [0; 2]);
    stream.read_exact(&mut head).unwrap();
    let mut length = usize::from(head[1]);
    if length == 126 {
        stream.read_exact(&mut long).unwrap();
        length = usize::from(u16::from_be_bytes(long));
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text).unwrap();
    (head[0] & 15, text)
}

#[test]
fn the_socket_is_that_of_marian_server() {
    let folder = folder();
    let at = folder.path();
    let expected = translated(at, &LINES, &[]);
    let mut server = server(at, &[]);
    let mut stream = server.connect();
    let head = "GET /translate HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answered = Vec::new();
    while !answered.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answered.push(byte[0]);
    }
    let answered = String::from_utf8(answered).unwrap();
    assert!(
        answered.contains("101 Switching") && answered.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{answered}"
    );
    for _ in 0..2 {
        stream.write_all(&frame(&(LINES.join("\n") + "\n"))).unwrap();
        let (kind, text) = frame_of_server(&mut stream);
        // The length of the small model's translations fits into the frames read here.
        assert_eq!(
            (kind, String::from_utf8(text).unwrap()),
            (1, expected.join("\n") + "\n")
        );
    }
    // An open socket does not keep the server from its end.
    server.signal("-TERM");
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn sizes_are_limited() {
    let folder = folder();
    let limits = "[limits]\ncharacters = 100\ntexts = 3\nbody_bytes = 2000\nhead_bytes = 8192\n";
    let server = configured(folder.path(), limits);
    let error = |answer: http_client::Answer, status: u16| {
        assert_eq!(answer.status, status, "{answer:?}");
        answer.json()["error"].as_str().unwrap().to_owned()
    };
    let told = error(server.json("/translate", &ask("a ".repeat(60))), 400);
    assert_eq!(told, "Invalid request: request (120) exceeds text limit (100)");
    let told = error(server.json("/translate", &ask(vec!["a"; 4])), 400);
    assert_eq!(told, "Invalid request: request (4) exceeds text limit (3)");
    // Said before, and found out.
    let told = error(server.json("/translate", &ask("a".repeat(3000))), 413);
    assert_eq!(told, "the body has more than 2000 bytes");
    let chunk = format!("{:x}\r\n{}\r\n", 3000, "a".repeat(3000));
    let head = "POST /translate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    error(server.send(format!("{head}{chunk}0\r\n\r\n").as_bytes()), 413);
    let head = format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(20_000));
    assert_eq!(server.send(head.as_bytes()).status, 431);
    assert_eq!(server.send(b"no HTTP at all\r\n\r\n").status, 400);
}

#[test]
fn slow_clients_do_not_hold_the_server() {
    let folder = folder();
    let limits = "[limits]\nhead_seconds = 0.4\nbody_seconds = 0.4\nconnections = 6\n";
    let server = configured(folder.path(), limits);
    // A head that never ends.
    let mut stream = server.connect();
    stream.write_all(b"GET /health HTT").unwrap();
    let begin = Instant::now();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(
        (0.3..10.0).contains(&begin.elapsed().as_secs_f64()),
        "{:?}",
        begin.elapsed()
    );
    // A body that never comes.
    let head = "POST /translate HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\nconnection: close\r\n\r\n";
    assert_eq!(server.send(head.as_bytes()).status, 408);
    // More connections than there is room for: those beyond are told, the others are answered.
    let mut idle: Vec<_> = (0..6).map(|_| server.connect()).collect();
    for stream in &mut idle {
        stream.write_all(b"GET").unwrap();
    }
    std::thread::sleep(Duration::from_millis(100));
    let refused = server.get("/health");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    idle[0]
        .write_all(b" /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    assert_eq!(answer(idle.remove(0)).status, 200);
    drop(idle);
    let begin = Instant::now();
    while server.get("/health").status != 200 {
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
    // Clients that go away in the middle.
    for part in [1, 20, 60, 90] {
        let request = format!(
            "POST /translate HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{}",
            "q".repeat(40)
        );
        let mut stream = server.connect();
        let _ = stream.write_all(&request.as_bytes()[..part]);
    }
    assert_eq!(server.json("/translate", &ask("Wir")).status, 200);
}

/// Work that takes a while: what is asked for while it is done, and what becomes of it.
fn long_text() -> Value {
    let lines: Vec<String> = (0..400)
        .map(|i| format!("Ein Hund rennt {i} mal am Meer. {}", LINES[3]))
        .collect();
    ask(lines)
}

fn metric(server: &Served, name: &str) -> f64 {
    let text = server.get("/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
}

#[test]
fn what_waits_is_limited_and_given_up() {
    let folder = folder();
    let settings = "workers = 1\ncache_mib = 0\n[limits]\nqueue_tokens = 200\nrequest_seconds = 300\n";
    let server = configured(folder.path(), settings);
    let body = long_text().to_string();
    let head = format!(
        "POST /translate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: \
         {}\r\n\r\n",
        body.len()
    );
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    let begin = Instant::now();
    while metric(&server, "tallow_queue_tokens") < 200.0 {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "the work is too short for this test"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    let refused = server.json("/translate", &ask("Wir"));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    // The client goes away; what has not begun is not done.
    drop(stream);
    let begin = Instant::now();
    while server.json("/translate", &ask("Wir")).status != 200 {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(metric(&server, "tallow_sentences_total") < 400.0);
    assert_eq!(metric(&server, "tallow_queue_tokens"), 0.0);
}

/// A client that fills the queue fills its own share only.
#[test]
fn clients_share_the_queue() {
    let folder = folder();
    let settings = "workers = 1\ncache_mib = 0\nbehind_proxy = true\n[limits]\nqueue_tokens = 4000\n";
    let server = configured(folder.path(), settings);
    let body = long_text().to_string();
    let head = |client: &str, length: usize| {
        format!(
            "POST /translate HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             x-forwarded-for: 10.9.9.9, {client}\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut stream = server.connect();
    stream
        .write_all((head("10.0.0.1", body.len()) + &body).as_bytes())
        .unwrap();
    let begin = Instant::now();
    while metric(&server, "tallow_queue_tokens") < 4000.0 {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "the work is too short for this test"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    let small = ask("Wir").to_string();
    let send = |client: &str| server.send((head(client, small.len()) + &small).as_bytes()).status;
    assert_eq!(send("10.0.0.1"), 503);
    assert_eq!(send("10.0.0.2"), 200);
    assert!(
        metric(&server, "tallow_queue_tokens") > 500.0,
        "the second client has waited for the first"
    );
    assert_eq!(answer(stream).status, 200);
}

#[test]
fn rates_are_limited() {
    let folder = folder();
    let server = configured(folder.path(), "[limits]\nrequests_per_minute = 3\n");
    let statuses: Vec<u16> = (0..4).map(|_| server.json("/translate", &ask("Wir")).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    let refused = server.json("/translate", &ask("Wir"));
    assert!(
        refused.json()["error"]
            .as_str()
            .unwrap()
            .starts_with("Slowdown: 3 per 1 minute"),
        "{refused:?}"
    );
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait));
    // Probes have no limit.
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn keys_open_the_server() {
    let folder = folder();
    let at = folder.path();
    let new_key = |client: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_tallow"))
            .current_dir(at)
            .args(["serve", "--keys", "keys.toml", "--new-key", client])
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap().trim().to_owned(),
        )
    };
    let (code, shop) = new_key("shop");
    assert!(code == Some(0) && shop.len() >= 40);
    assert_eq!(new_key("shop").0, Some(2));
    // A person has changed the file, and left out the last line end.
    let kept = std::fs::read_to_string(at.join("keys.toml")).unwrap();
    std::fs::write(at.join("keys.toml"), kept.trim_end()).unwrap();
    let (_, desk) = new_key("desk");
    let kept = std::fs::read_to_string(at.join("keys.toml")).unwrap();
    assert!(kept.contains("shop") && kept.contains("desk") && !kept.contains(&shop) && !kept.contains(&desk));
    let server = server(at, &["--keys", "keys.toml"]);
    let with = |headers: &str, key: Option<&str>| {
        let mut body = ask("Wir");
        if let Some(key) = key {
            body["api_key"] = key.into();
        }
        let headers = format!("content-type: application/json\r\n{headers}");
        server
            .post_with("/translate", &headers, body.to_string().as_bytes())
            .status
    };
    assert_eq!(with("", None), 400);
    assert_eq!(with("", Some("wrong")), 403);
    assert_eq!(with("x-api-key: wrong\r\n", None), 403);
    assert_eq!(with("", Some(&shop)), 200);
    assert_eq!(with(&format!("x-api-key: {desk}\r\n"), None), 200);
    assert_eq!(with(&format!("authorization: Bearer {desk}\r\n"), None), 200);
    assert_eq!(server.get("/frontend/settings").json()["keyRequired"], true);
    let log = server.log();
    assert!(!log.iter().any(|line| line.to_string().contains(&shop)), "{log:?}");
}

/// A container asks in this way whether the server lives.
#[test]
fn a_probe_tells_whether_the_server_lives() {
    let folder = folder();
    let probe = |address: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
        command
            .args(["serve", "--probe", address])
            .output()
            .unwrap()
            .status
            .code()
    };
    let server = server(folder.path(), &[]);
    let address = server.address.to_string();
    assert_eq!(probe(&address), Some(0));
    drop(server);
    assert_eq!(probe(&address), Some(1));
}

#[test]
fn browsers_need_permission() {
    let folder = folder();
    let server = configured(folder.path(), "cors = [\"https://a.example\"]\n");
    let from = |origin: &str, method: &str| {
        let head = format!("{method} /languages HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\nconnection: close\r\n\r\n");
        server.send(head.as_bytes())
    };
    let allowed = from("https://a.example", "GET");
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(
        from("https://b.example", "GET").header("access-control-allow-origin"),
        None
    );
    let preflight = from("https://a.example", "OPTIONS");
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-methods")),
        (204, Some("get, post"))
    );
    // Requests have numbers, also of their own choice.
    let answer = server.send(b"GET /health HTTP/1.1\r\nhost: x\r\nx-request-id: mine-1\r\nconnection: close\r\n\r\n");
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    let other = server.get("/health");
    assert!(
        other
            .header("x-request-id")
            .is_some_and(|id| !id.is_empty() && id != "mine-1")
    );
    let begin = Instant::now();
    let told = loop {
        let log = server.log();
        if let Some(told) = log.into_iter().find(|event| event["id"] == "mine-1") {
            break told;
        }
        assert!(begin.elapsed() < Duration::from_secs(10));
    };
    assert_eq!((&told["route"], &told["status"]), (&json!("/health"), &json!(200)));
}

#[test]
fn what_comes_too_late_is_given_up() {
    let folder = folder();
    let server = configured(
        folder.path(),
        "workers = 1\ncache_mib = 0\n[limits]\nrequest_seconds = 0.3\n",
    );
    let begin = Instant::now();
    let late = server.json("/translate", &long_text());
    assert_eq!(late.status, 504, "{late:?}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    let begin = Instant::now();
    while server.json("/translate", &ask("Wir")).status != 200 {
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
    assert!(metric(&server, "tallow_sentences_total") < 400.0);
}

/// Translations go on while models change; a damaged one leaves the one before it in its place.
#[test]
fn models_change_without_a_lost_request() {
    let folder = folder();
    let at = folder.path();
    let server = server(at, &["--workers", "2"]);
    let before = translated(at, &["Wir"], &[])[0].clone();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut statuses = Vec::new();
                    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                        statuses.push(server.json("/translate", &ask("Ein Hund rennt.")).status);
                    }
                    statuses
                })
            })
            .collect();
        // Settings of the search that end every translation after one token make another model.
        let path = at.join("model/generation_config.json");
        let settings = std::fs::read_to_string(&path).unwrap();
        let mut changed: Value = serde_json::from_str(&settings).unwrap();
        changed["max_length"] = 2.into();
        changed["num_beams"] = 1.into();
        std::fs::write(&path, changed.to_string()).unwrap();
        let expected = translated(at, &["Wir"], &[])[0].clone();
        assert_ne!(expected, before);
        let now = || {
            server.json("/translate", &ask("Wir")).json()["translatedText"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(now(), before);
        server.signal("-HUP");
        server.wait_for("loaded");
        assert_eq!(now(), expected);
        let weights = at.join("model/model.safetensors");
        let bytes = std::fs::read(&weights).unwrap();
        std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
        server.signal("-HUP");
        let told = server.wait_for("not_loaded");
        assert!(told["reason"].as_str().unwrap().contains("model.safetensors"), "{told}");
        assert_eq!(now(), expected);
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        for client in clients {
            let statuses = client.join().unwrap();
            assert!(
                statuses.len() > 1 && statuses.iter().all(|status| *status == 200),
                "{statuses:?}"
            );
        }
    });
}

#[test]
fn the_end_waits_for_the_requests_at_hand() {
    let folder = folder();
    let mut server = configured(folder.path(), "workers = 1\ncache_mib = 0\n");
    let body = long_text().to_string();
    let head = format!(
        "POST /translate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = server.connect();
    stream.write_all((head + &body).as_bytes()).unwrap();
    while metric(&server, "tallow_queue_tokens") == 0.0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    server.signal("-TERM");
    let answer = answer(stream);
    assert_eq!(answer.json()["translatedText"].as_array().unwrap().len(), 400);
    assert!(server.child.wait().unwrap().success());
    let names: Vec<Value> = server.log().iter().map(|event| event["event"].clone()).collect();
    assert!(
        names.contains(&json!("draining")) && names.contains(&json!("ended")),
        "{names:?}"
    );
}

#[test]
fn faults_of_the_beginning_are_told() {
    let folder = folder();
    let at = folder.path();
    let fault = |arguments: &[&str], code: i32| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
        let output = command.current_dir(at).arg("serve").args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        said
    };
    assert!(fault(&["model"], 1).contains("de-en=model"), "no languages");
    assert!(fault(&["de-en=nothing"], 1).contains("nothing"));
    assert!(fault(&[], 2).contains("MODEL"));
    assert!(fault(&["de-en=model", "de-en=model", "--listen", "127.0.0.1:0"], 1).contains("the name de-en"));
    assert!(fault(&["de-en=model", "--listen", "127.0.0.1:0", "--set", "decode.beem=1"], 1).contains("beem"));
    std::fs::write(at.join("bad.toml"), "lisen = 5\n").unwrap();
    let said = fault(&["--config", "bad.toml"], 2);
    assert!(
        said.contains("bad.toml") && said.contains("line 1") && said.contains("lisen"),
        "{said}"
    );
    let server = server(at, &[]);
    let taken = server.address.to_string();
    assert!(fault(&["de-en=model", "--listen", &taken], 1).contains(&format!("cannot listen at {taken}")));
}
