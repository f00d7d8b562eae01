//! An encoder alone: it learns to fill a gap in a stretch of a line, from what stands before it and from what follows.
//!
//!     cargo run --release -p tallow --example encoder_alone
//!
//! The line goes round in a circle, so no place tells its word. A decoder alone (`configs/game-of-thrones.toml`) sees
//! the left side only, so it could not know the first word of a stretch.
#![allow(clippy::print_stdout)] // A program may print.

use candle_core::{DType, Device, Tensor};
use tallow_model::{Architecture, Initialisation, ModelConfig, Params, Pass, Tokens, Transformer};
use tallow_ops::{Compute, CrossEntropyOptions, cross_entropy};
use tallow_train::{Gradients, Optimizer, TrainConfig};

const LINE: &str = "When you play the game of thrones, you win or you die.";
const UPDATES: u64 = 150;
/// The words of a stretch.
const STRETCH: usize = 5;

/// The id of a gap, which stands where `<unk>` would; 0 is `</s>`, and words follow.
const GAP: u32 = 1;
const FIRST: u32 = 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<&str> = LINE.split(' ').collect();
    let mut vocabulary: Vec<&str> = Vec::new();
    for word in &words {
        if !vocabulary.contains(word) {
            vocabulary.push(word);
        }
    }
    let id = |word: &&str| vocabulary.iter().position(|other| other == word).unwrap_or(0) as u32 + FIRST;
    let line: Vec<u32> = words.iter().map(id).collect();
    // Every stretch with each of its words left out.
    let places: Vec<(usize, usize)> = (0..line.len())
        .flat_map(|start| (0..STRETCH).map(move |gap| (start, gap)))
        .collect();
    let stretch = |start: usize| {
        (start..start + STRETCH)
            .map(|place| line[place % line.len()])
            .chain([0])
    };
    let with_gap = |(start, gap): &(usize, usize)| {
        let mut sentence: Vec<u32> = stretch(*start).collect();
        sentence[*gap] = GAP;
        sentence
    };
    let sentences: Vec<Vec<u32>> = places.iter().map(with_gap).collect();
    let labels: Vec<u32> = places.iter().flat_map(|(start, _)| stretch(*start)).collect();

    let architecture = Architecture {
        model: ModelConfig {
            d_model: 32,
            feed_forward: 64,
            encoder_layers: 2,
            decoder_layers: 1, // It is not used.
            heads: 2,
            dropout: 0.0,
            ..ModelConfig::default()
        },
        source_vocabulary: vocabulary.len() + 3, // `</s>`, the gap and `<pad>`
        target_vocabulary: vocabulary.len() + 3,
        shared_vocabulary: true,
        eos_id: 0,
        unk_id: GAP,
    };
    let params = Params::initialise(&architecture, Initialisation::Xavier, 1, DType::F32, &Device::Cpu)?;
    let model = Transformer::for_training(&architecture, &params, None)?;
    let output = params.get("model.shared.weight")?.var.as_tensor();
    let options = CrossEntropyOptions {
        smoothing: 0.0,
        r_drop: None,
        classes: architecture.classes(),
        compute: Compute::F32,
    };
    let batch = Tokens::new(&sentences, &Device::Cpu)?;
    let (mut optimizer, config) = (Optimizer::new(&params)?, TrainConfig::default());
    for update in 1..=UPDATES {
        let hidden = model.encode(&batch, Pass::default())?.hidden_nd;
        let loss = cross_entropy(&hidden, output, None, &labels, options)?;
        let store = loss.backward()?;
        // The decoder's parameters have no gradient.
        let gradient = |parameter: &tallow_model::Parameter| match store.get(parameter.var.as_tensor()) {
            Some(gradient) => Ok(gradient.clone()),
            None => parameter.var.as_tensor().zeros_like(),
        };
        let gradients = Gradients {
            loss: f64::from(loss.to_scalar::<f32>()?),
            target_tokens: labels.len(),
            alignment_loss: 0.0,
            linked_tokens: 0,
            tensors: params.iter().map(gradient).collect::<Result<Vec<Tensor>, _>>()?,
        };
        let norm = gradients.norm(1)?;
        optimizer.update(&params, &gradients, norm, (update, 0.01), &config, 1)?;
        if update % 50 == 0 {
            println!(
                "update {update}: loss {:.3} nats per word",
                gradients.loss / labels.len() as f64
            );
        }
    }

    let hidden = model.encode(&batch, Pass::default())?.hidden_nd;
    let logits = model.logits(&hidden)?.to_vec2::<f32>()?;
    let mut right = 0;
    for (number, (start, gap)) in places.iter().enumerate() {
        let scores = &logits[number * (STRETCH + 1) + gap][FIRST as usize..architecture.classes()];
        let best = (0..scores.len())
            .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
            .unwrap_or(0);
        let mut shown: Vec<&str> = (*start..start + STRETCH)
            .map(|place| words[place % words.len()])
            .collect();
        right += usize::from(shown[*gap] == vocabulary[best]);
        shown[*gap] = "___";
        // The first word of every stretch: only what follows can tell it.
        if *gap == 0 {
            println!("{}  ->  {}", shown.join(" "), vocabulary[best]);
        }
    }
    println!("{right} of {} gaps are filled with the right word", places.len());
    Ok(())
}
