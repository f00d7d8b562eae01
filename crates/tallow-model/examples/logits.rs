//! Writes the logits of a model directory, for comparison with other programs (`scripts/check_marian.py`).
//!
//! ```sh
//! cargo run --release -p tallow-model --example logits -- DIRECTORY OUTPUT.safetensors < pairs.jsonl
//! ```
//!
//! Each line of standard input is `[[source ids], [target ids]]`, both ending with `</s>`. For line N, counted from 0,
//! the output has a tensor `logits.N`, `[target length, pieces]`: the prediction of each target token from the tokens
//! before it.

use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::error::Error;
use std::io::stdin;
use std::path::Path;
use tallow_model::{Pass, Tokens, open};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, output] = arguments.as_slice() else {
        return Err("give a model directory and a file to write".into());
    };
    let model = open(Path::new(directory), &Device::Cpu)?.for_inference()?;
    let start = model.architecture().target_pad_id();
    let mut logits: HashMap<String, Tensor> = HashMap::new();
    for (i, line) in stdin().lines().enumerate() {
        let (source, mut target): (Vec<u32>, Vec<u32>) = serde_json::from_str(&line?)?;
        target.rotate_right(1);
        target[0] = start;
        let source = Tokens::new(&[source], &Device::Cpu)?;
        let target = Tokens::new(&[target], &Device::Cpu)?;
        let encoded = model.encode(&source, Pass::default())?;
        let hidden_nd = model.decode(&target, &encoded, Pass::default())?;
        logits.insert(format!("logits.{i}"), model.logits(&hidden_nd)?);
    }
    candle_core::safetensors::save(&logits, output)?;
    Ok(())
}
