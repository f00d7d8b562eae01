//! The test set at the end of a run.

use super::TestScores;
use super::place::write_text;
use crate::Result;
use crate::config::Config;
use crate::notice::{Listener, Notice};
use crate::warnings::TranslationWarnings;
use candle_core::Device;
use tallow_data::ParallelText;
use tallow_decode::Translator;
use tallow_text::Tokenizers;
use tallow_train::RunDirectory;

/// Translates the test set with the best model, keeps the translations and scores them.
pub(super) fn score(
    config: &Config,
    text: ParallelText,
    run: &RunDirectory,
    device: &Device,
    workers: usize,
    listener: &dyn Listener,
) -> Result<TestScores> {
    let model = tallow_model::open(&run.best(), device)?.for_inference()?;
    let decode = config.decode.without_failing();
    let translator = Translator::builder(model, Tokenizers::open(&run.best())?)
        .config(decode)
        .device(device.clone())
        .seed(config.seed)
        .workers(workers)
        .build()?;
    let translations = translator.translate(&text.source, 0)?;
    let hypotheses: Vec<&str> = translations.iter().map(|translation| translation.text()).collect();
    let lines: String = hypotheses.iter().flat_map(|line| [*line, "\n"]).collect();
    write_text(&run.test_translations(), &lines)?;
    for warning in TranslationWarnings::of(&translations).lines(&config.decode, translator.tokenizers()) {
        listener.notice(&Notice::Warning(warning));
    }
    let references = [text.target.clone()];
    Ok(TestScores {
        lines: hypotheses.len(),
        beam: config.decode.beam,
        scores: config.score.scores(&hypotheses, &references)?.into(),
        exact_match: tallow_score::exact_match(&hypotheses, &references)?,
    })
}
