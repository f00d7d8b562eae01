//! How the server begins, changes its models, and ends.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

mod http_client;
mod small_model;

use http_client::*;
use serde_json::{Value, json};
use std::io::Write;
use std::process::Command;
use std::time::Duration;

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

/// With `watch_seconds`, no signal is needed.
#[test]
fn new_models_are_noticed() {
    let folder = folder();
    let at = folder.path();
    let server = configured(at, "watch_seconds = 1\n");
    let path = at.join("model/generation_config.json");
    let mut changed: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    changed["max_length"] = 2.into();
    std::fs::write(&path, changed.to_string()).unwrap();
    server.wait_for("loaded");
    let expected = translated(at, &["Wir"], &[])[0].clone();
    assert_eq!(
        server.json("/translate", &ask("Wir")).json()["translatedText"],
        expected
    );
}
