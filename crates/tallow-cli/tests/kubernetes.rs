//! The manifests in `deploy/kubernetes` follow the schemas of what reads them, and name a program and keys that exist.
//! `scripts/fixtures/mpijob_schema.py` and `kubernetes_schemas.py` make the schemas.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// What is wrong with a value, by its place. Keys that a schema does not know are wrong, as for `kubectl --validate`.
fn faults(schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let Some(schema) = schema.as_object() else { return };
    if let Some(kind) = schema.get("type").and_then(Value::as_str) {
        let fits = match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "boolean" => value.is_boolean(),
            _ => value.is_number(),
        };
        if !fits {
            found.push(format!("{place}: no {kind}"));
            return;
        }
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        found.push(format!("{place}: {value} is none of {allowed:?}"));
    }
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    if let Some(value) = value.as_f64()
        && (number("minimum").is_some_and(|least| value < least) || number("maximum").is_some_and(|most| value > most))
    {
        found.push(format!("{place}: {value} is out of range"));
    }
    for required in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if value.get(required.as_str().unwrap()).is_none() {
            found.push(format!("{place}: {required} is missing"));
        }
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let place = format!("{place}.{key}");
        let of_key = schema.get("properties").and_then(|properties| properties.get(key));
        match of_key.or(schema.get("additionalProperties")) {
            Some(schema) => faults(schema, inner, &place, found),
            None if schema.contains_key("properties") => found.push(format!("{place}: unknown key")),
            None => {}
        }
    }
    if let Some(schema) = schema.get("items") {
        for (number, inner) in value.as_array().into_iter().flatten().enumerate() {
            faults(schema, inner, &format!("{place}[{number}]"), found);
        }
    }
}

fn job() -> (Value, Value) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let schema = serde_json::from_str(&read("tests/fixtures/mpijob.schema.json")).unwrap();
    let job = serde_saphyr::from_str(&read("../../deploy/kubernetes/mpijob.yaml")).unwrap();
    (schema, job)
}

/// The schemas of the server's manifests by kind, and the manifests.
fn server() -> (Value, Vec<Value>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let schemas = serde_json::from_str(&read("tests/fixtures/serving.schemas.json")).unwrap();
    let manifests = serde_saphyr::from_multiple(&read("../../deploy/kubernetes/serving.yaml")).unwrap();
    (schemas, manifests)
}

fn all_faults(schema: &Value, job: &Value) -> Vec<String> {
    let mut found = Vec::new();
    faults(schema, job, "", &mut found);
    found
}

#[test]
fn the_job_follows_its_schema() {
    let (schema, job) = job();
    assert_eq!(all_faults(&schema, &job), Vec::<String>::new());
    // Each of these is found.
    let changes: [(&str, &str, Value); 5] = [
        ("/spec", "slotsPerWorkers", 1.into()),
        ("/spec", "mpiImplementation", "LAM".into()),
        ("/spec/mpiReplicaSpecs/Worker", "replicas", "four".into()),
        ("/spec/mpiReplicaSpecs/Worker/template/spec", "containers", Value::Null),
        (
            "/spec/mpiReplicaSpecs/Worker/template/spec/containers/0",
            "mounts",
            Value::Array(vec![]),
        ),
    ];
    for (place, key, value) in changes {
        let mut changed = job.clone();
        changed.pointer_mut(place).unwrap()[key] = value;
        assert_eq!(all_faults(&schema, &changed).len(), 1, "{place} {key}");
    }
}

#[test]
fn the_server_follows_its_schemas() {
    let (schemas, manifests) = server();
    let kinds: Vec<&str> = manifests
        .iter()
        .map(|manifest| manifest["kind"].as_str().unwrap())
        .collect();
    let expected = [
        "ConfigMap",
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
    ];
    assert_eq!(kinds, expected);
    for manifest in &manifests {
        let kind = manifest["kind"].as_str().unwrap();
        assert_eq!(all_faults(&schemas[kind], manifest), Vec::<String>::new(), "{kind}");
    }
    // Each of these is found.
    for (number, place, key, value) in [
        (1, "/spec", "replica", Value::from(1)),
        (
            1,
            "/spec/template/spec/containers/0/readinessProbe",
            "periodSeconds",
            "often".into(),
        ),
        (1, "/spec/template/spec", "containers", Value::Null),
        (2, "/spec/ports/0", "ports", 80.into()),
        (4, "/spec", "maxReplicas", "ten".into()),
    ] {
        let mut changed = manifests[number].clone();
        changed.pointer_mut(place).unwrap()[key] = value;
        let kind = changed["kind"].as_str().unwrap();
        assert_eq!(all_faults(&schemas[kind], &changed).len(), 1, "{place} {key}");
    }
}

/// The settings are settings, the addresses of probes exist, and there is time for the end.
#[test]
fn the_server_is_one() {
    let (_, manifests) = server();
    let settings = manifests[0]["data"]["serve.toml"].as_str().unwrap();
    let config = tallow_serve::ServeConfig::parse(settings).unwrap();
    let pod = &manifests[1]["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let port = u64::from(config.listen.port());
    assert_eq!(container["ports"][0]["containerPort"].as_u64(), Some(port));
    for (probe, path) in [
        ("startupProbe", "/health"),
        ("readinessProbe", "/ready"),
        ("livenessProbe", "/health"),
    ] {
        assert_eq!(container[probe]["httpGet"]["path"], path);
    }
    let grace = pod["terminationGracePeriodSeconds"].as_f64().unwrap();
    let pause = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_f64().unwrap();
    assert!(grace > pause + config.limits.drain_seconds);
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(
        mounts
            .iter()
            .any(|mount| config.model[0].path.starts_with(mount["mountPath"].as_str().unwrap()))
    );
    let metric = &manifests[4]["spec"]["metrics"][0]["pods"]["metric"]["name"];
    assert_eq!(metric, "tallow_queue_tokens");
    // The container file and the unit start it with flags that exist.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/serving");
    let output = Command::new(env!("CARGO_BIN_EXE_tallow"))
        .args(["serve", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for name in ["Containerfile", "tallow.service"] {
        let text = std::fs::read_to_string(root.join(name)).unwrap();
        let words = text
            .lines()
            .filter(|line| line.contains("bin/tallow"))
            .flat_map(|line| line.split(['"', ' ', ',']));
        let flags: Vec<&str> = words
            .filter(|word| word.starts_with("--") && !word.contains('=') && *word != "--release" && *word != "--locked")
            .collect();
        assert!(flags.len() > 2);
        flags
            .iter()
            .for_each(|flag| assert!(help.contains(flag), "{name}: {flag}"));
    }
}

/// The processes are as many as the workers, and a lost pod resumes the run.
#[test]
fn the_job_starts_what_it_has_room_for() {
    let (_, job) = job();
    let specs = &job["spec"]["mpiReplicaSpecs"];
    let workers = specs["Worker"]["replicas"].as_u64().unwrap();
    let slots = job["spec"]["slotsPerWorker"].as_u64().unwrap();
    let script = specs["Launcher"]["template"]["spec"]["containers"][0]["args"][0]
        .as_str()
        .unwrap();
    assert!(script.contains(&format!("mpirun -n {} ", workers * slots)), "{script}");
    assert!(
        script.contains("--resume") && script.contains("tallow train"),
        "{script}"
    );
}
