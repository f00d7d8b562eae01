//! What the server refuses, over real connections.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

mod http_client;
mod small_model;

use http_client::*;
use std::io::{Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};

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
