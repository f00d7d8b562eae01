//! The manifests in `deploy/kubernetes` follow the schemas of what reads them, and name a program and keys that exist.
//! `scripts/fixtures/mpijob_schema.py` makes the schema.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may panic like the test itself.

use serde_json::Value;
use std::path::Path;

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
