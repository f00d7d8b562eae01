//! `tallow export`.

use crate::arguments::{ExportArguments, ExportForm};
use crate::located::Located;
use crate::threads;
use anyhow::{Context, Result, bail};
use candle_core::Device;
use std::path::Path;
use std::process::ExitCode;
use tallow_model::{NPZ_FILE, Opened, marian_faults, npz_faults, save_npz};
use tallow_text::Tokenizers;

pub(crate) fn run(arguments: ExportArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    let output = &arguments.output;
    if output.exists() {
        bail!("{}: exists already; choose another --output", output.display());
    }
    let located = Located::find(&arguments.model, arguments.hub.offline)?;
    let (opened, tokenizers) = located.open(&Device::Cpu)?;
    let made = |faults: Vec<String>, hint: &str| {
        if faults.is_empty() {
            return std::fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()));
        }
        bail!(
            "{} cannot be written in this form:\n  {}{hint}",
            located.directory.display(),
            faults.join("\n  ")
        )
    };
    match arguments.form {
        ExportForm::Huggingface => {
            let is_for_marian = npz_faults(&opened.architecture).is_empty();
            let mut faults = marian_faults(&opened.architecture);
            let hint = if !faults.is_empty() && is_for_marian {
                "\n--form marian can express it, for ct2-marian-converter"
            } else {
                ""
            };
            faults.extend(tokenizer_faults(&tokenizers));
            made(faults, hint)?;
            let decode = located.decode_config();
            tallow_model::save(
                output,
                &opened.architecture,
                &opened.params,
                opened.logits_bias.as_ref(),
                decode.beam,
                decode.max_length,
            )?;
            save_tokenizers(&tokenizers, output)?;
            eprintln!(
                "{0}: for MarianMTModel and MarianTokenizer, and for\n  ct2-transformers-converter --model {0} \
                 --output_dir ct2",
                output.display()
            );
        }
        ExportForm::Marian => {
            made(npz_faults(&opened.architecture), "")?;
            save_marian(&opened, &tokenizers, output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Why `MarianTokenizer` cannot be given these tokenizers.
fn tokenizer_faults(tokenizers: &Tokenizers) -> Vec<String> {
    if tokenizers.are_marian() {
        return Vec::new();
    }
    let sides = [&tokenizers.source, &tokenizers.target];
    let error = sides.into_iter().find_map(|side| side.to_sentencepiece().err());
    error.map(|error| error.to_string()).into_iter().collect()
}

/// The tokenizers in our form and in that of `MarianTokenizer`.
fn save_tokenizers(tokenizers: &Tokenizers, output: &Path) -> Result<()> {
    tokenizers.save(output)?;
    if !tokenizers.are_marian() {
        tokenizers.save_marian(output)?;
    }
    Ok(())
}

fn save_marian(opened: &Opened, tokenizers: &Tokenizers, output: &Path) -> Result<()> {
    save_npz(output, opened)?;
    tokenizers.save_yaml(output)?;
    match tokenizer_faults(tokenizers).as_slice() {
        [] => save_tokenizers(tokenizers, output)?,
        // The model can be run all the same, on pieces that `tallow tokenizer encode` makes.
        [reason, ..] => {
            tokenizers.save(output)?;
            eprintln!("no SentencePiece models beside it: {reason}");
        }
    }
    eprintln!(
        "{0}: convert it with\n  ct2-marian-converter --model_path {0}/{NPZ_FILE} --vocab_paths {0}/source.yml \
         {0}/target.yml --output_dir ct2",
        output.display()
    );
    Ok(())
}
