//! The description of the interface, with the languages, models and limits of this server.

use super::App;
use serde_json::{Value, json};

/// The OpenAPI document.
///
/// # Errors
/// When the template is damaged.
pub(super) fn describe(app: &App) -> serde_json::Result<Value> {
    let mut all: Value = serde_json::from_str(include_str!("openapi.json"))?;
    let limits = &app.config.limits;
    let slots = app.catalogue.slots();
    let targets_of = |source: &str| {
        let slots = slots.iter().filter(|slot| slot.source == source);
        let mut targets: Vec<&str> = slots.map(|slot| &slot.target[..]).collect();
        targets.sort_unstable();
        targets.dedup();
        targets
    };
    let mut all_targets: Vec<&str> = slots.iter().map(|slot| &slot.target[..]).collect();
    all_targets.sort_unstable();
    all_targets.dedup();
    let sources = app.sources();
    let schemas = &mut all["components"]["schemas"];
    let pair =
        |source: Value, targets: &[&str]| json!({ "properties": { "source": source, "target": { "enum": targets } } });
    // A language is translated into itself, too.
    let with_itself = |source: &&str| {
        let targets = [targets_of(source), vec![*source]].concat();
        pair(json!({ "const": source }), &targets)
    };
    let mut pairs: Vec<Value> = sources.iter().map(with_itself).collect();
    pairs.push(pair(json!({ "const": "auto" }), &all_targets));
    for name in ["TranslateRequest", "TranslateForm"] {
        schemas[name]["anyOf"] = pairs.clone().into();
        schemas[name]["properties"]["alternatives"]["maximum"] = (limits.n_best - 1).into();
    }
    let none = json!({ "type": "null" });
    let names: Vec<&str> = slots.iter().map(|slot| &slot.name[..]).collect();
    let mut ways = vec![json!({
        "required": ["model"],
        "properties": { "model": { "enum": names }, "source": none, "target": none },
    })];
    let mut add = |source: Value, required: &[&str], targets: &[&str]| {
        ways.push(json!({
            "required": required,
            "properties": { "model": none, "source": source, "target": { "enum": targets } },
        }));
    };
    for source in &sources {
        add(json!({ "const": source }), &["source", "target"], &targets_of(source));
    }
    add(json!({ "enum": ["auto", null] }), &["target"], &all_targets);
    let request = &mut schemas["V1Request"];
    request["anyOf"] = ways.into();
    request["properties"]["n_best"]["maximum"] = limits.n_best.into();
    request["properties"]["beam"]["maximum"] = limits.beam.into();
    for (name, key) in [("TranslateRequest", "q"), ("V1Request", "text")] {
        schemas[name]["properties"][key]["oneOf"][1]["maxItems"] = limits.texts.into();
    }
    Ok(all)
}
