//! The page of a look: one HTML file that needs nothing else.

use super::Look;
use crate::Result;
use crate::page::page;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Looks at one sentence, of one model or of several checkpoints of a run, as a page that works from a disk, without a
/// network.
///
/// # Errors
/// When the numbers cannot be written.
pub fn to_html(looks: &[Look]) -> Result<String> {
    let data = looks.iter().map(data_of).collect::<Result<Vec<Value>>>()?;
    page(include_str!("page.html"), &Value::from(data))
}

fn data_of(look: &Look) -> Result<Value> {
    let mut data = serde_json::to_value(look)?;
    for (name, stack) in [("encoder", &look.encoder), ("decoder", &look.decoder)] {
        for (number, attention) in stack.attention.iter().enumerate() {
            for (head, view) in attention.heads.iter().enumerate() {
                let place = &mut data[name]["attention"][number]["heads"][head];
                // Most of the page. The page computes the weights itself.
                place["products"] = packed(&view.products.0);
                place["weights"] = Value::Null;
            }
        }
    }
    Ok(data)
}

/// Rows of numbers as whole numbers of 16 bits, times a scale.
fn packed(rows: &[Vec<f32>]) -> Value {
    let greatest = rows.iter().flatten().fold(0f32, |greatest, x| greatest.max(x.abs()));
    let scale = greatest.max(f32::MIN_POSITIVE) / f32::from(i16::MAX);
    let numbers = rows.iter().flatten().map(|x| (x / scale).round() as i16);
    let bytes: Vec<u8> = numbers.flat_map(i16::to_le_bytes).collect();
    json!({ "scale": scale, "columns": rows.first().map_or(0, Vec::len), "data": STANDARD.encode(bytes) })
}
