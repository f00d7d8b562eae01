//! What the server answers, over real connections.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

mod http_client;
mod small_model;

use http_client::*;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const LINES: [&str; 5] = [
    "Ein Hund rennt.",
    "Wir",
    "",
    "Die alte Stadt am Meer ist schön!",
    "Ein Hund",
];

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
            "timeout_ms: from 100 to",
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
