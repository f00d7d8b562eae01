//! Models of a simulated Hub: the place of its cache, access to private models, and the messages to the user.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

use hub_server::{COMMIT, Manner, Server};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

mod hub_server;

/// A token in the form that the Hub issues. It must never be shown.
const TOKEN: &str = "hf_neverShowThis";

/// The model's folder in a cache.
const CACHED: &str = "models--some--model";

/// A folder with the model, `model`, and lines to translate.
fn project() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    let files = [
        ("../tallow-text/tests/fixtures/marian/languages", "source.spm"),
        ("../tallow-text/tests/fixtures/marian/languages", "target.spm"),
        ("../tallow-text/tests/fixtures/marian/languages", "vocab.json"),
        (
            "../tallow-text/tests/fixtures/marian/languages",
            "tokenizer_config.json",
        ),
        ("tests/fixtures/opus/model", "generation_config.json"),
        ("tests/fixtures/opus/model", "model.safetensors"),
        ("tests/fixtures/opus/model", "config.json"),
    ];
    for (place, name) in files {
        std::fs::copy(crates.join(place).join(name), model.join(name)).unwrap();
    }
    std::fs::copy(crates.join("tests/fixtures/opus/train.en"), folder.path().join("lines")).unwrap();
    folder
}

/// Translates with a model. Of the environment variables for the Hub, only these are set.
fn translate(at: &Path, model: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallow"));
    command
        .current_dir(at)
        .args(["translate", model, "--input", "lines", "--beam", "1"]);
    let known = [
        "HF_HUB_CACHE",
        "HUGGINGFACE_HUB_CACHE",
        "HF_HOME",
        "XDG_CACHE_HOME",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "HF_TOKEN_PATH",
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    ];
    for name in known {
        command.env_remove(name);
    }
    command.env("HOME", at.join("home")).envs(variables.iter().copied());
    let output = command.output().unwrap();
    for shown in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(shown).contains(TOKEN), "the token is shown");
    }
    output
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Asserts that a translation has succeeded.
fn assert_translates(at: &Path, output: &Output) {
    assert!(output.status.success(), "{}", said(output));
    assert_eq!(output.stdout, translate(at, "model", &[]).stdout);
}

/// The error message of a command that must fail.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    assert!(
        output.stdout.is_empty() && !said(output).contains("panicked"),
        "{}",
        said(output)
    );
    said(output)
}

/// Every variable that names the cache is obeyed, in order of precedence.
#[test]
fn the_cache_is_where_the_variables_say() {
    let folder = project();
    let at = folder.path();
    let server = Server::start(at.join("model"));
    let places = ["a", "b", "c", "d", "home"].map(|name| at.join(name));
    let [a, b, c, d, _] = places.each_ref().map(|place| place.to_str().unwrap());
    let mut variables = vec![
        ("HF_HUB_CACHE", a),
        ("HUGGINGFACE_HUB_CACHE", b),
        ("HF_HOME", c),
        ("XDG_CACHE_HOME", d),
        ("HF_ENDPOINT", server.url()),
    ];
    for cache in ["a", "b", "c/hub", "d/huggingface/hub", "home/.cache/huggingface/hub"] {
        let cache = at.join(cache).join(CACHED);
        assert!(!cache.exists());
        assert_translates(at, &translate(at, "some/model", &variables));
        let snapshot = cache.join("snapshots").join(COMMIT);
        assert!(snapshot.join("config.json").is_file(), "{}", cache.display());
        // Other programs find the files there, too: names in the snapshot, contents beside it.
        assert_eq!(
            std::fs::read(cache.join("blobs/config.json")).unwrap(),
            std::fs::read(at.join("model/config.json")).unwrap()
        );
        assert_eq!(std::fs::read_to_string(cache.join("refs/main")).unwrap(), COMMIT);
        variables.remove(0);
    }
}

/// A complete cache without write permission; one whose note of a branch was written by a shell; and one that lacks the
/// model, where the message names the folder.
#[test]
fn what_the_cache_has_is_enough() {
    let folder = project();
    let at = folder.path();
    let server = Server::start(at.join("model"));
    let home = at.join("hf");
    let online = [("HF_HOME", home.to_str().unwrap()), ("HF_ENDPOINT", server.url())];
    let offline = [online[0], ("HF_HUB_OFFLINE", "1")];
    let error = refused(&translate(at, "some/model", &offline));
    let cache = home.join("hub").join(CACHED);
    assert!(error.contains(cache.to_str().unwrap()), "{error}");
    assert_translates(at, &translate(at, "some/model", &online));
    std::fs::write(cache.join("refs/main"), format!("{COMMIT}\n")).unwrap();
    assert_translates(at, &translate(at, "some/model", &offline));
    // Even an administrator cannot write below a file.
    std::fs::remove_dir_all(cache.join("refs")).unwrap();
    std::fs::write(cache.join("refs"), "").unwrap();
    let output = translate(at, "some/model", &online);
    assert_translates(at, &output);
    assert!(said(&output).contains("cannot be written"), "{}", said(&output));
    // But a missing file has to be written there.
    std::fs::remove_dir_all(&cache).unwrap();
    std::fs::write(&cache, "").unwrap();
    let error = refused(&translate(at, "some/model", &online));
    assert!(
        error.contains(cache.to_str().unwrap()) && error.contains("cannot be written"),
        "{error}"
    );
}

/// A private model can be fetched with a token from any of its places.
#[test]
fn private_models() {
    let folder = project();
    let at = folder.path();
    let server = Server::with(
        at.join("model"),
        Manner {
            token: Some((TOKEN, 401)),
            ..Manner::default()
        },
    );
    let endpoint = ("HF_ENDPOINT", server.url());
    let error = refused(&translate(at, "some/model", &[endpoint]));
    let token_file = at.join("home/.cache/huggingface/token");
    for part in [
        "some/model",
        "private, gated, or misspelled",
        "HF_TOKEN",
        token_file.to_str().unwrap(),
    ] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    let error = refused(&translate(at, "some/model", &[endpoint, ("HF_TOKEN", "hf_old")]));
    assert!(
        error.contains("token of HF_TOKEN") && !error.contains("hf_old"),
        "{error}"
    );

    let with_spaces = format!(" {TOKEN}\r\n");
    std::fs::create_dir_all(token_file.parent().unwrap()).unwrap();
    std::fs::write(at.join("other"), &with_spaces).unwrap();
    let other = at.join("other");
    let other = other.to_str().unwrap();
    let places: [&[(&str, &str)]; 4] = [
        &[("HF_TOKEN", &with_spaces), ("HUGGING_FACE_HUB_TOKEN", "hf_old")],
        &[("HUGGING_FACE_HUB_TOKEN", TOKEN)],
        &[("HF_TOKEN_PATH", other)],
        &[],
    ];
    for (i, variables) in places.into_iter().enumerate() {
        if variables.is_empty() {
            std::fs::write(&token_file, &with_spaces).unwrap();
        }
        let cache = at.join(format!("cache-{i}"));
        let cache = ("HF_HUB_CACHE", cache.to_str().unwrap());
        let output = translate(at, "some/model", &[&[endpoint, cache], variables].concat());
        assert_translates(at, &output);
    }
}

/// The token is sent only if the Hub refuses a request without it, because it also goes to the server with the files.
#[test]
fn the_token_is_a_last_resort() {
    let folder = project();
    let at = folder.path();
    let bearer = Some(format!("Bearer {TOKEN}"));
    let gate = |status: u16, is_listed: bool| (Some((TOKEN, status)), is_listed);
    let open = (None, true);
    for (i, (token, is_listed)) in [open, gate(401, false), gate(404, false), gate(403, true)]
        .into_iter()
        .enumerate()
    {
        let files = Server::start(at.join("model"));
        let server = Server::with(
            at.join("model"),
            Manner {
                token,
                is_listed,
                elsewhere: Some(files.url().replace("127.0.0.1", "localhost")),
                ..Manner::default()
            },
        );
        let cache = at.join(format!("cache-{i}"));
        let variables = [
            ("HF_ENDPOINT", server.url()),
            ("HF_HUB_CACHE", cache.to_str().unwrap()),
            ("HF_TOKEN", TOKEN),
        ];
        assert_translates(at, &translate(at, "some/model", &variables));
        let who: Vec<Option<String>> = server.requests().into_iter().map(|(_, who)| who).collect();
        // For each of the 7 files, first one byte and then all of it.
        assert_eq!(files.requests().len(), 2 * 7);
        if token.is_none() {
            assert!(files.requests().iter().all(|(_, who)| who.is_none()));
            assert_eq!(who, vec![None; 1 + 2 * 7]);
        } else {
            // The list of files and, if the list is public, the first file are requested without it.
            let without = if is_listed { 2 } else { 1 };
            assert!(who[..without].iter().all(Option::is_none), "{who:?}");
            assert_eq!(who[without..], vec![bearer.clone(); usize::from(!is_listed) + 2 * 7]);
        }
    }
}

/// The message tells these causes apart: unaccepted conditions, no such model, no such revision, no connection.
#[test]
fn refusals() {
    let folder = project();
    let at = folder.path();
    let gated = Server::with(
        at.join("model"),
        Manner {
            token: Some(("other", 403)),
            is_listed: true,
            ..Manner::default()
        },
    );
    let conditions = format!(
        "is gated: its conditions have to be accepted at {}/some/model",
        gated.url()
    );
    let endpoint = ("HF_ENDPOINT", gated.url());
    let without: &[_] = &[endpoint];
    for (variables, way_out) in [
        (without, "in HF_TOKEN"),
        (&[endpoint, ("HF_TOKEN", TOKEN)], "token of HF_TOKEN"),
    ] {
        let error = refused(&translate(at, "some/model", variables));
        assert!(error.contains(&conditions) && error.contains(way_out), "{error}");
    }
    let open = Server::start(at.join("model"));
    let error = refused(&translate(at, "some/modle", &[("HF_ENDPOINT", open.url())]));
    assert!(
        error.contains("there is no some/modle") && error.contains("HF_TOKEN"),
        "{error}"
    );
    let error = refused(&translate(at, "some/model@v2", &[("HF_ENDPOINT", open.url())]));
    assert!(error.contains("\"v2\""), "{error}");
    let error = refused(&translate(at, "some/model", &[("HF_ENDPOINT", "http://127.0.0.1:9")]));
    assert!(error.contains("some/model") && error.contains("onnect"), "{error}");
}

/// An interrupted download is one error, and the next attempt continues it. A partial file that is not the beginning of
/// the file is not continued.
#[test]
fn interrupted_downloads() {
    let folder = project();
    let at = folder.path();
    let manner = Manner {
        breaks_off: Some("model.safetensors"),
        ..Manner::default()
    };
    let server = Server::with(at.join("model"), manner);
    let home = at.join("hf");
    let variables = [("HF_HOME", home.to_str().unwrap()), ("HF_ENDPOINT", server.url())];
    let error = refused(&translate(at, "some/model", &variables));
    for part in ["some/model", "model.safetensors", "broke off", "try again"] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    let cache = home.join("hub").join(CACHED);
    let (blobs, snapshot) = (cache.join("blobs"), cache.join("snapshots").join(COMMIT));
    let [name, part] = ["model.safetensors", "model.part"].map(|name| blobs.join(name));
    let weights = std::fs::read(at.join("model/model.safetensors")).unwrap();
    let half = &weights[..weights.len() / 2];
    assert_eq!(std::fs::read(&part).unwrap(), half);
    assert_translates(at, &translate(at, "some/model", &variables));
    let (all, longer) = (weights.clone(), [&weights[..], b"x"].concat());
    for found in [half, &all, &longer] {
        std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
        std::fs::remove_file(&name).unwrap();
        std::fs::write(&part, found).unwrap();
        assert_translates(at, &translate(at, "some/model", &variables));
        assert_eq!(std::fs::read(&name).unwrap(), weights);
        assert!(!part.exists());
    }
    // A name whose contents another program has removed.
    #[cfg(unix)]
    {
        std::fs::remove_file(snapshot.join("config.json")).unwrap();
        std::os::unix::fs::symlink("../../blobs/removed", snapshot.join("config.json")).unwrap();
        assert_translates(at, &translate(at, "some/model", &variables));
    }
}

/// A model whose weights are in several files: all of them are fetched.
#[test]
fn weights_in_several_files() {
    let folder = project();
    let at = folder.path();
    let local = translate(at, "model", &[]).stdout;
    split(&at.join("model"));
    assert_eq!(translate(at, "model", &[]).stdout, local);
    let server = Server::start(at.join("model"));
    let home = at.join("hf");
    let variables = [("HF_HOME", home.to_str().unwrap()), ("HF_ENDPOINT", server.url())];
    assert_eq!(translate(at, "some/model", &variables).stdout, local);
    let offline = [variables[0], ("HF_HUB_OFFLINE", "1")];
    assert_eq!(translate(at, "some/model", &offline).stdout, local);
    // Without one of them, the model is incomplete.
    let snapshot = home.join("hub").join(CACHED).join("snapshots").join(COMMIT);
    std::fs::remove_file(snapshot.join("model-00002-of-00002.safetensors")).unwrap();
    assert!(refused(&translate(at, "some/model", &offline)).contains("not all of it"));
    std::fs::remove_file(at.join("model/model-00001-of-00002.safetensors")).unwrap();
    let other = at.join("hf2");
    let fresh = [("HF_HOME", other.to_str().unwrap()), variables[1]];
    let error = refused(&translate(at, "some/model", &fresh));
    assert!(error.contains("model-00001-of-00002.safetensors"), "{error}");
}

/// Splits the weights of a directory into two files, as transformers does.
fn split(directory: &Path) {
    let whole: PathBuf = directory.join("model.safetensors");
    let bytes = std::fs::read(&whole).unwrap();
    let header_length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes[8..8 + header_length]).unwrap();
    let data = &bytes[8 + header_length..];
    let names: Vec<&String> = header.keys().filter(|name| *name != "__metadata__").collect();
    let mut map = serde_json::Map::new();
    for (number, names) in names.chunks(names.len().div_ceil(2)).enumerate() {
        let file = format!("model-0000{}-of-00002.safetensors", number + 1);
        let (mut part, mut values) = (serde_json::Map::new(), Vec::new());
        for name in names {
            let mut entry = header[*name].clone();
            let [start, end] = [0, 1].map(|i| entry["data_offsets"][i].as_u64().unwrap() as usize);
            entry["data_offsets"] = serde_json::json!([values.len(), values.len() + end - start]);
            values.extend_from_slice(&data[start..end]);
            part.insert((*name).clone(), entry);
            map.insert((*name).clone(), file.clone().into());
        }
        let header = serde_json::Value::from(part).to_string();
        let mut written = (header.len() as u64).to_le_bytes().to_vec();
        written.extend(header.bytes());
        written.extend(values);
        std::fs::write(directory.join(file), written).unwrap();
    }
    let index = serde_json::json!({ "metadata": { "total_size": data.len() }, "weight_map": map });
    std::fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
    std::fs::remove_file(whole).unwrap();
}
