//! `tallow export`.

use crate::arguments::{ExportArguments, ExportForm};
use crate::hub::hub;
use crate::notices::PrintNotices;
use crate::threads;
use anyhow::{Context, Result, bail};
use candle_core::Device;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tallow::{SavedModel, card};
use tallow_model::{NPZ_FILE, Opened, marian_mt_faults, npz_faults, pad_row_faults, save_npz};
use tallow_text::Tokenizers;
use tallow_train::CARD_FILE;

pub(crate) fn run(arguments: ExportArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    let output = &arguments.output;
    if output.exists() {
        bail!("{}: exists already; choose another --output", output.display());
    }
    let saved = SavedModel::find(&arguments.model, &hub(arguments.hub.offline), &PrintNotices)?;
    let (opened, tokenizers) = saved.open(&Device::Cpu)?;
    let (mut faults, mut hint) = match arguments.form {
        ExportForm::Huggingface => (marian_mt_faults(&opened.architecture), ""),
        ExportForm::Marian => (npz_faults(&opened.architecture), ""),
    };
    if arguments.form == ExportForm::Huggingface {
        if !faults.is_empty() && npz_faults(&opened.architecture).is_empty() {
            hint = "\n--form marian can express it, for ct2-marian-converter";
        }
        faults.extend(tokenizers.why_not_marian_tokenizer().map(|error| error.to_string()));
    }
    if !faults.is_empty() {
        bail!(
            "{} cannot be written in this form:\n  {}{hint}",
            saved.directory.display(),
            faults.join("\n  ")
        );
    }
    // Written aside first, so that a directory with the name of the output is always complete.
    let mut aside = output.as_os_str().to_owned();
    aside.push(".partial");
    let aside = PathBuf::from(aside);
    if aside.exists() {
        bail!("{}: an unfinished export; remove it", aside.display());
    }
    std::fs::create_dir_all(&aside).with_context(|| format!("cannot make {}", aside.display()))?;
    let written = write(&arguments, &saved, &opened, &tokenizers, &aside);
    if written.is_err() {
        // The error to report is the one above.
        let _ = std::fs::remove_dir_all(&aside);
    }
    written?;
    std::fs::rename(&aside, output).with_context(|| format!("cannot write {}", output.display()))?;
    for fault in pad_row_faults(&opened.params) {
        eprintln!("note: the embedding of <pad> is not zero: {fault}");
    }
    let output = output.display();
    match arguments.form {
        ExportForm::Huggingface => eprintln!(
            "{output}: for MarianMTModel and MarianTokenizer, and for\n  ct2-transformers-converter --model {output} \
             --output_dir ct2"
        ),
        ExportForm::Marian => eprintln!(
            "{output}: convert it with\n  ct2-marian-converter --model_path {output}/{NPZ_FILE} --vocab_paths \
             {output}/source.yml {output}/target.yml --output_dir ct2"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

fn write(
    arguments: &ExportArguments,
    saved: &SavedModel,
    opened: &Opened,
    tokenizers: &Tokenizers,
    directory: &Path,
) -> Result<()> {
    match arguments.form {
        ExportForm::Huggingface => {
            tallow_model::save(
                directory,
                &opened.architecture,
                &opened.params,
                opened.logits_bias.as_ref(),
                saved.decode_config().search_settings(),
            )?;
        }
        ExportForm::Marian => {
            save_npz(directory, opened)?;
            tokenizers.save_yaml(directory)?;
            if let Some(reason) = tokenizers.why_not_marian_tokenizer() {
                eprintln!("no SentencePiece models beside it: {reason}");
            }
        }
    }
    tokenizers.save_all(directory)?;
    let card = std::fs::read_to_string(saved.directory.join(CARD_FILE)).ok();
    let commit = saved.commit.as_deref();
    let card = match arguments.form {
        ExportForm::Huggingface => card::exported(&arguments.model, commit, card),
        ExportForm::Marian => card::exported_for_marian(&arguments.model, commit, card),
    };
    let path = directory.join(CARD_FILE);
    std::fs::write(&path, card).with_context(|| format!("cannot write {}", path.display()))
}
