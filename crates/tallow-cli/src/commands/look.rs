//! `tallow look`.

use crate::activity::Activity;
use crate::arguments::{LookArguments, LookFormat};
use crate::hub::hub;
use crate::notices::PrintNotices;
use crate::threads;
use anyhow::{Context, Result, bail};
use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use tallow::look::{Look, Pair};
use tallow::{Device, SavedModel};
use tallow_decode::{DecodeConfig, Translator, says_nothing};
use tallow_model::{InferenceCompute, Transformer};
use tallow_text::Tokenizers;

pub(crate) fn run(arguments: LookArguments) -> Result<ExitCode> {
    threads::set_operation_threads(1);
    let saved = SavedModel::find(&arguments.model, &hub(arguments.hub.offline), &PrintNotices)?;
    let mut activity = Activity::new(true);
    activity.begin("opening the model");
    let (opened, tokenizers) = saved.open(&Device::Cpu)?;
    let model = opened.for_inference()?;
    let pair = pair(&arguments, &saved, &model, &tokenizers)?;
    activity.begin("looking at every head");
    let look = Look::new(&arguments.model, &model, &tokenizers, &pair)?;
    activity.end();
    let text = match arguments.format {
        LookFormat::Html => look.to_html()?,
        LookFormat::Json => serde_json::to_string(&look)? + "\n",
    };
    if arguments.output == Path::new("-") {
        write!(stdout(), "{text}")?;
    } else {
        let path = &arguments.output;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("{}: open it in a browser", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The sentence, and its translation by the model or as it is given.
fn pair(arguments: &LookArguments, saved: &SavedModel, model: &Transformer, tokenizers: &Tokenizers) -> Result<Pair> {
    let source = &arguments.sentence;
    if says_nothing(&tokenizers.source, source) {
        bail!("the sentence is blank");
    }
    let config = DecodeConfig {
        split_sentences: false,
        ..saved.decode_config().without_failing()
    };
    let translator = Translator::builder(model.prepare(InferenceCompute::F32)?, tokenizers.clone())
        .config(config)
        .build()?;
    let mut found = translator.translate(std::slice::from_ref(source), 1)?.remove(0);
    if found.parts.len() > 1 || found.cut_tokens > 0 {
        bail!("this line is too long for the model; look at a single sentence");
    }
    let (Some(part), Some(best)) = (found.parts.pop(), found.best.pop()) else {
        bail!("the vocabulary has no pieces for this sentence");
    };
    let eos = model.architecture().eos_id;
    let (target, target_tokens) = match &arguments.target {
        Some(target) => {
            let tokens = [&tokenizers.target.encode(target)?[..], &[eos]].concat();
            let most = model.architecture().model.position_limit().unwrap_or(usize::MAX);
            if tokens.len() > most {
                bail!(
                    "--target has {} tokens, and the model has positions for {most}",
                    tokens.len()
                );
            }
            (target.clone(), tokens)
        }
        // A translation that was cut has no end.
        None => {
            let end: &[u32] = if best.finished { &[eos] } else { &[] };
            (found.candidates.remove(0).text, [&best.tokens[..], end].concat())
        }
    };
    Ok(Pair {
        source: source.clone(),
        source_tokens: part.tokens,
        target,
        target_tokens,
        is_forced: arguments.target.is_some(),
    })
}
