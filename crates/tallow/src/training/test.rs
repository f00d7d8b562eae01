//! The test set at the end of a run.

use super::TestScores;
use super::place::write_text;
use crate::Result;
use crate::config::Config;
use crate::notice::{Listener, Notice};
use crate::warnings::TranslationWarnings;
use candle_core::Device;
use tallow_data::ParallelText;
use tallow_decode::{DecodeConfig, Translator};
use tallow_score::EXACT_MATCH;
use tallow_text::Tokenizers;
use tallow_train::{RunDirectory, evaluate};

/// Translates a test set with the best model, saves the translations and scores them. It has a name if there are
/// several.
pub(super) fn score(
    config: &Config,
    (name, text): (Option<String>, ParallelText),
    run: &RunDirectory,
    device: &Device,
    workers: usize,
    listener: &dyn Listener,
) -> Result<TestScores> {
    let decode = DecodeConfig {
        shortlist: None,
        ..config.decode.without_failing()
    };
    let model = tallow_model::open_prepared(&run.best(), device, decode.compute.into())?;
    let translator = Translator::builder(model, Tokenizers::open(&run.best())?)
        .config(decode)
        .device(device.clone())
        .seed(config.seed)
        .workers(workers)
        .build()?;
    let references = [text.target.clone()];
    let mut metrics = config.score.metrics(config.train.metric.metric());
    metrics.retain(|metric| *metric != EXACT_MATCH); // reported separately
    let evaluation = evaluate(&translator, &text.source, &references, &metrics, &config.score, |_| {})?;
    let hypotheses = evaluation.hypotheses();
    let lines: String = hypotheses.iter().flat_map(|line| [*line, "\n"]).collect();
    write_text(&run.test_translations(name.as_deref()), &lines)?;
    for warning in TranslationWarnings::of(&evaluation.translations).lines(&config.decode, translator.tokenizers()) {
        listener.notice(&Notice::Warning(warning));
    }
    Ok(TestScores {
        name,
        lines: hypotheses.len(),
        beam: config.decode.beam,
        exact_match: tallow_score::exact_match(&hypotheses, &references)?,
        scores: evaluation.scores.into_iter().map(|(_, score)| score).collect(),
    })
}
