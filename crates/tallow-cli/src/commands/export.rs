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
use tallow_model::{NPZ_FILE, Opened, Storage, marian_mt_faults, npz_faults, pad_row_faults, save_as, save_npz};
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
    let form = Form::of(&arguments);
    let (mut faults, mut hint) = match form {
        Form::HuggingFace => (marian_mt_faults(&opened.architecture), ""),
        Form::Marian => (npz_faults(&opened.architecture), ""),
        Form::Int8 => (Vec::new(), ""),
    };
    if form == Form::HuggingFace {
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
    let written = write(form, &arguments.model, &saved, (&opened, &tokenizers), &aside);
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
    match form {
        Form::Int8 => eprintln!("{output}: 8-bit weights. Translate with\n  tallow translate {output}"),
        Form::HuggingFace => eprintln!(
            "{output}: for MarianMTModel and MarianTokenizer, and for\n  ct2-transformers-converter --model {output} \
             --output_dir ct2"
        ),
        Form::Marian => eprintln!(
            "{output}: convert it with\n  ct2-marian-converter --model_path {output}/{NPZ_FILE} --vocab_paths \
             {output}/source.yml {output}/target.yml --output_dir ct2"
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// The form of the exported model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    HuggingFace,
    Marian,
    Int8,
}

impl Form {
    fn of(arguments: &ExportArguments) -> Self {
        match (&arguments.compute, arguments.form) {
            (Some(_), _) => Self::Int8,
            (None, ExportForm::Huggingface) => Self::HuggingFace,
            (None, ExportForm::Marian) => Self::Marian,
        }
    }
}

fn write(
    form: Form,
    name: &str,
    saved: &SavedModel,
    (opened, tokenizers): (&Opened, &Tokenizers),
    directory: &Path,
) -> Result<()> {
    let (bias, search) = (opened.logits_bias.as_ref(), saved.decode_config().search_settings());
    match form {
        Form::HuggingFace => tallow_model::save(directory, &opened.architecture, &opened.params, bias, search)?,
        Form::Int8 => {
            let (architecture, params) = (&opened.architecture, &opened.params);
            save_as(directory, architecture, params, bias, search, Storage::Int8)?;
        }
        Form::Marian => {
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
    let card = match form {
        Form::HuggingFace => card::exported(name, commit, card),
        Form::Marian => card::exported_for_marian(name, commit, card),
        Form::Int8 => card::exported_in_int8(name, commit, card),
    };
    let path = directory.join(CARD_FILE);
    std::fs::write(&path, card).with_context(|| format!("cannot write {}", path.display()))
}
