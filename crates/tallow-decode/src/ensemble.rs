//! Several models that translate together.

use crate::{Autoregressive, AutoregressiveState, DecodeError};
use candle_core::{DType, Device, Tensor};
use std::sync::Arc;
use tallow_model::{Architecture, BestPieces, RowRequest, Tokens};
use tallow_ops::inference::{best_of_probabilities, softmax_row};

/// Models with the same vocabularies that choose every token together: its probability is the mean of theirs. fairseq
/// and OpenNMT combine models in the same way; Marian and CTranslate2 do not (the former adds log-probabilities).
#[derive(Clone, Debug)]
pub struct Ensemble<M> {
    models: Vec<M>,
    /// The model with the fewest positions, whose limits hold for all.
    narrowest: usize,
}

impl<M: Autoregressive> Ensemble<M> {
    /// Combines models. Whether their pieces mean the same is for the caller to know.
    ///
    /// # Errors
    /// When there is none, or they have vocabularies of different sizes or other special pieces.
    pub fn new(models: Vec<M>) -> Result<Self, DecodeError> {
        let of_model = |model: &M| {
            let architecture = model.architecture();
            let sizes = (architecture.source_vocabulary, architecture.target_vocabulary);
            (sizes, architecture.eos_id, architecture.target_pad_id())
        };
        let first = models.first().map(of_model).ok_or(DecodeError::NoModels)?;
        if let Some(other) = models.iter().position(|model| of_model(model) != first) {
            return Err(DecodeError::ForeignModel { number: other + 1 });
        }
        let limit = |number: &usize| {
            models[*number]
                .architecture()
                .model
                .position_limit()
                .unwrap_or(usize::MAX)
        };
        let narrowest = (0..models.len()).min_by_key(limit).unwrap_or_default();
        Ok(Self { models, narrowest })
    }
}

/// The states of the models of an [`Ensemble`].
#[derive(Debug)]
pub struct EnsembleState<S>(Vec<S>);

impl<M: Autoregressive> Autoregressive for Ensemble<M> {
    type State = EnsembleState<M::State>;

    fn architecture(&self) -> &Architecture {
        self.models[self.narrowest].architecture()
    }

    fn start(&self, source: &Tokens) -> Result<Self::State, DecodeError> {
        let states = self.models.iter().map(|model| model.start(source));
        Ok(EnsembleState(states.collect::<Result<_, _>>()?))
    }

    fn start_among(&self, source: &Tokens, candidates: &[Vec<u32>]) -> Result<Self::State, DecodeError> {
        let states = self.models.iter().map(|model| model.start_among(source, candidates));
        Ok(EnsembleState(states.collect::<Result<_, _>>()?))
    }

    fn step(&self, last: &[u32], state: &mut Self::State) -> Result<Tensor, DecodeError> {
        let pieces = self.architecture().target_vocabulary;
        let (mut logs, _) = self.probabilities(last, state, &[])?;
        logs.iter_mut().for_each(|x| *x = x.ln());
        Ok(Tensor::from_vec(logs, (last.len(), pieces), &Device::Cpu)?)
    }

    fn best(
        &self,
        last: &[u32],
        state: &mut Self::State,
        count: usize,
        requests: &[RowRequest],
    ) -> Result<Vec<BestPieces>, DecodeError> {
        let architecture = self.architecture();
        let (classes, pieces) = (architecture.classes(), architecture.target_vocabulary);
        let (means, reported) = self.probabilities(last, state, requests)?;
        let rows = means.chunks_exact(pieces).zip(requests);
        let best = rows.map(|(row, request)| best_of_probabilities(&row[..classes], count, request));
        let with_reported = |(best, reported)| BestPieces { reported, ..best };
        Ok(best.zip(reported).map(with_reported).collect())
    }

    fn record_attention(&self, state: &mut Self::State, heads: &[(usize, usize)]) -> Result<(), DecodeError> {
        for (number, (model, state)) in self.models.iter().zip(&mut state.0).enumerate() {
            let fault = |error| DecodeError::Request(format!("decode.alignment_heads, model {}: {error}", number + 1));
            model.record_attention(state, heads).map_err(fault)?;
        }
        Ok(())
    }
}

impl<M: Autoregressive> Ensemble<M> {
    /// The mean probabilities of the next pieces, `[rows, v]`; `<pad>` has none. And, for each row, the logarithms of
    /// those of the pieces to be reported, which may be too small for numbers that are not logarithms.
    fn probabilities(
        &self,
        last: &[u32],
        state: &mut EnsembleState<M::State>,
        requests: &[RowRequest],
    ) -> Result<(Vec<f32>, Vec<Vec<f32>>), DecodeError> {
        let architecture = self.architecture();
        let (classes, pieces) = (architecture.classes(), architecture.target_vocabulary);
        let share = 1.0 / self.models.len() as f32;
        let mut means = vec![0f32; last.len() * pieces];
        let nothing = |request: &RowRequest| vec![f64::NEG_INFINITY; request.reported.len()];
        let mut reported: Vec<Vec<f64>> = requests.iter().map(nothing).collect();
        for (model, state) in self.models.iter().zip(&mut state.0) {
            let logits = model.step(last, state)?.to_dtype(DType::F32)?;
            let mut logits = logits.flatten_all()?.to_vec1::<f32>()?;
            let rows = means.chunks_exact_mut(pieces).zip(logits.chunks_exact_mut(pieces));
            for (number, (mean, row)) in rows.enumerate() {
                let asked = requests.get(number).map_or(&[][..], |request| request.reported);
                let asked: Vec<f32> = asked.iter().map(|piece| row[*piece as usize]).collect();
                let total = softmax_row(&mut row[..classes]).ok_or(DecodeError::NotFinite)?;
                mean[..classes]
                    .iter_mut()
                    .zip(row)
                    .for_each(|(mean, p)| *mean += *p * share);
                if let Some(sums) = reported.get_mut(number) {
                    for (sum, logit) in sums.iter_mut().zip(asked) {
                        *sum = log_of_sum(*sum, f64::from(logit) - total);
                    }
                }
            }
        }
        let count = (self.models.len() as f64).ln();
        let mean = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum - count) as f32).collect();
        Ok((means, reported.into_iter().map(mean).collect()))
    }
}

/// log(e^a + e^b).
fn log_of_sum(a: f64, b: f64) -> f64 {
    let (less, more) = if a < b { (a, b) } else { (b, a) };
    match more.is_finite() {
        true => more + (less - more).exp().ln_1p(),
        false => more,
    }
}

impl<S: AutoregressiveState> AutoregressiveState for EnsembleState<S> {
    fn sentences(&self) -> usize {
        self.0.first().map_or(0, S::sentences)
    }

    fn reorder(&mut self, rows: &[u32]) -> Result<(), DecodeError> {
        self.0.iter_mut().try_for_each(|state| state.reorder(rows))
    }

    fn keep(&mut self, sentences: &[u32]) -> Result<(), DecodeError> {
        self.0.iter_mut().try_for_each(|state| state.keep(sentences))
    }

    /// The mean of the models.
    fn attention(&self) -> Option<Vec<Arc<[f32]>>> {
        let of_models: Vec<Vec<Arc<[f32]>>> = self.0.iter().map(S::attention).collect::<Option<_>>()?;
        let share = 1.0 / of_models.len() as f32;
        let of_row = |row: usize| -> Arc<[f32]> {
            let sum = |token: usize| of_models.iter().map(|rows| rows[row][token]).sum::<f32>() * share;
            (0..of_models[0][row].len()).map(sum).collect()
        };
        Some((0..of_models.first()?.len()).map(of_row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::log_of_sum;

    #[test]
    fn sums_of_logarithms() {
        assert!((log_of_sum(0.0, 0.0) - 2f64.ln()).abs() < 1e-12);
        assert!((log_of_sum(-200.0, -201.0) - (-200.0 + (1.0 + (-1f64).exp()).ln())).abs() < 1e-12);
        assert_eq!(log_of_sum(f64::NEG_INFINITY, -3.0), -3.0);
        assert_eq!(log_of_sum(f64::NEG_INFINITY, f64::NEG_INFINITY), f64::NEG_INFINITY);
    }
}
