//! Scores of given translations.

use crate::source::MOST_BYTES;
use crate::{
    Autoregressive, DecodeConfig, DecodeError, Hypothesis, Sentence, SentenceRequest, Translator, Utility, says_nothing,
};

/// Why a pair has no score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unscored {
    /// The source is blank.
    BlankSource,
    /// The source has more tokens than `decode.max_source_length`.
    LongSource,
    /// The target has more tokens than the greater of `decode.max_length` and `decode.max_source_length`, or than the
    /// model has positions.
    LongTarget,
}

impl<M: Autoregressive> Translator<M> {
    /// Scores given translations: the results have the tokens of the targets and the model's log-probabilities, those
    /// that a search for these very tokens would give them.
    ///
    /// # Errors
    /// When there is not one target for each source, or the tokenizer or the model fails.
    pub fn score_pairs<S: AsRef<str> + Sync>(
        &self,
        sources: &[S],
        targets: &[S],
    ) -> Result<Vec<Result<Hypothesis, Unscored>>, DecodeError> {
        if sources.len() != targets.len() {
            return Err(DecodeError::UnpairedLines {
                sources: sources.len(),
                targets: targets.len(),
            });
        }
        let eos = self.model.architecture().eos_id;
        let most = self.config.max_length.max(self.config.max_source_length);
        let most = most.min(self.model.architecture().model.position_limit().unwrap_or(most));
        // Blank lines have no pieces, whatever the tokenizer makes of them.
        // A tokenizer takes many times the memory of a line, so it gets none of those that are far too long.
        let is_endless = |line: &S| line.as_ref().len() > MOST_BYTES;
        let of_line = |line: &S| match is_endless(line) || says_nothing(&self.tokenizers.source, line.as_ref()) {
            true => String::new(),
            false => line.as_ref().to_owned(),
        };
        let lines: Vec<String> = sources.iter().map(of_line).collect();
        let endless = |(source, target)| (is_endless(source), is_endless(target));
        let endless: Vec<(bool, bool)> = sources.iter().zip(targets).map(endless).collect();
        let of_target = |line| if is_endless(line) { "" } else { line.as_ref() };
        let targets: Vec<&str> = targets.iter().map(of_target).collect();
        let mut encoded = self.tokenizers.source.encode_batch(&lines, self.workers)?;
        let targets = self.tokenizers.target.encode_batch(&targets, self.workers)?;
        let mut faults: Vec<Option<Unscored>> = Vec::with_capacity(sources.len());
        for ((source, target), endless) in encoded.iter_mut().zip(&targets).zip(endless) {
            let fault = match (source.len() + 1, target.len() + 1) {
                _ if endless.0 => Some(Unscored::LongSource),
                _ if endless.1 => Some(Unscored::LongTarget),
                (1, _) => Some(Unscored::BlankSource),
                (length, _) if length > self.config.max_source_length => Some(Unscored::LongSource),
                (_, length) if length > most => Some(Unscored::LongTarget),
                _ => None,
            };
            source.push(eos);
            faults.push(fault);
        }
        let pairs = encoded.into_iter().zip(targets).zip(&faults);
        let sentences: Vec<Sentence> = pairs
            .filter(|(_, fault)| fault.is_none())
            .map(|((tokens, target), _)| Sentence {
                tokens,
                request: SentenceRequest::forced(target),
            })
            .collect();
        // Nothing is searched for, so one hypothesis suffices, and no rule changes its score.
        let config = DecodeConfig {
            beam: 1,
            groups: 1,
            n_best: 1,
            max_length: most,
            min_length: 1,
            sample: false,
            mbr: Utility::None,
            keep: Vec::new(),
            max_length_factor: 0.0,
            coverage_penalty: 0.0,
            ..self.config.clone()
        };
        let mut forced = self.clone();
        forced.config = config;
        // A shortlist would make other pieces impossible.
        forced.shortlist = None;
        let mut found = forced.search_all(&sentences)?.into_iter().flatten();
        faults
            .into_iter()
            .map(|fault| match fault {
                Some(fault) => Ok(Err(fault)),
                None => found.next().map(Ok).ok_or(DecodeError::Worker),
            })
            .collect()
    }
}
