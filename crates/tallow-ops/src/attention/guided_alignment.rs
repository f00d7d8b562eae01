//! The loss that teaches attention to follow word alignments.

use crate::{AttentionMask, Sentences};
use candle_core::{D, Result, Tensor, bail};
use candle_nn::ops::log_softmax;

/// Guided alignment (Chen et al. 2016): the sum over the queries that have links of the divergence (Kullback-Leibler,
/// in nats) of the attention of one head from their links. The links of a query have equal weights, which add up to
/// one. The gradient is that of the cross-entropy, from which the divergence differs by the entropy of the links; so it
/// is zero where attention equals the links.
///
/// Candle's operations compute it everywhere: it costs little, because it looks at one head.
///
/// # Shapes
/// `queries`: `[n, k]`; `keys`: `[m, k]`, rows of as many sentences; `links`: pairs of a row of the queries and a row
/// of the keys of the same sentence, those of a query side by side; the result: a scalar.
///
/// # Errors
/// When a link leaves its sentence, or shapes differ.
pub fn guided_alignment(
    (queries, sentences): (&Tensor, &Sentences),
    (keys, sources): (&Tensor, &Sentences),
    scale: f64,
    links: &[(u32, u32)],
) -> Result<Tensor> {
    let (dtype, device) = (queries.dtype(), queries.device());
    if links.is_empty() {
        return Tensor::zeros((), dtype, device);
    }
    let longest = sources.longest();
    let mut places = Vec::with_capacity(links.len());
    for (query, key) in links {
        if *query as usize >= sentences.rows() || *key as usize >= sources.rows() {
            bail!("guided alignment: a link of row {query} to row {key}, which do not exist");
        }
        let ((sentence, t), (source, s)) = (sentences.place(*query as usize), sources.place(*key as usize));
        if sentence != source {
            bail!("guided alignment: a link of row {query} to row {key}, which belong to different sentences");
        }
        places.push(((sentence * sentences.longest() + t) * longest + s) as u32);
    }
    let of_one_query = links.chunk_by(|a, b| a.0 == b.0);
    let shares: Vec<f32> = of_one_query
        .flat_map(|links| std::iter::repeat_n(1.0 / links.len() as f32, links.len()))
        .collect();
    let scores_bts = sentences.pad(queries)?.matmul(&sources.pad(keys)?.transpose(1, 2)?)?;
    let mask = AttentionMask::padding(sources.lengths(), longest, dtype, device)?;
    let scores_bts = (scores_bts * scale)?.broadcast_add(&mask.additive().squeeze(1)?)?;
    let log_weights = log_softmax(&scores_bts, D::Minus1)?.flatten_all()?;
    let of_links = log_weights.index_select(&Tensor::from_vec(places, links.len(), device)?, 0)?;
    let shares = Tensor::from_vec(shares, links.len(), device)?.to_dtype(dtype)?;
    ((shares.log()? - of_links)? * shares)?.sum_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Two sentences of lengths 2 and 1, whose sources have 3 and 2 tokens.
    #[test]
    fn written_out() -> Result<()> {
        let device = &Device::Cpu;
        let queries = Tensor::new(&[[1f64, 0.], [0., 2.], [3., -1.]], device)?;
        let keys = Tensor::new(&[[1f64, 1.], [0., 1.], [-1., 2.], [2., 0.], [1., -1.]], device)?;
        let sides = (Sentences::new(&[2, 1])?, Sentences::new(&[3, 2])?);
        let loss = |links: &[(u32, u32)]| {
            guided_alignment((&queries, &sides.0), (&keys, &sides.1), 0.5, links)?.to_scalar::<f64>()
        };
        // The scores are 0.5, 0, -0.5 for the first row; 1, 1, 2 for the second; 3 and 2 for the third.
        let sum = |scores: &[f64]| scores.iter().map(|score| score.exp()).sum::<f64>().ln();
        let first = sum(&[0.5, 0.0, -0.5]) - 0.5;
        let second = sum(&[1.0, 1.0, 2.0]) - (1.0 + 2.0) / 2.0 - 2f64.ln();
        let third = sum(&[3.0, 2.0]) - 2.0;
        for (links, expected) in [
            (&[(0, 0)][..], first),
            (&[(1, 0), (1, 2)], second),
            (&[(0, 0), (1, 0), (1, 2), (2, 4)], first + second + third),
            (&[], 0.0),
        ] {
            assert!((loss(links)? - expected).abs() < 1e-12, "{links:?}");
        }
        for wrong in [(0, 3), (2, 0), (3, 4), (0, 5)] {
            assert!(loss(&[wrong]).is_err(), "{wrong:?}");
        }
        Ok(())
    }
}
