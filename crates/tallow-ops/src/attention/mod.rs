//! Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2).

mod cpu;
mod guided_alignment;
mod mask;
mod reference;
mod softmax;
mod step;

pub(crate) use cpu::{Attention, Sides};
pub use guided_alignment::guided_alignment;
pub use mask::AttentionMask;

use crate::backend::Backend;
use crate::{Dropout, Sentences, dropout};
use candle_core::{Result, Tensor, bail};
use softmax::MaskedSoftmax;

/// Options of attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionOptions<'a> {
    /// The number of heads, a divisor of the model width.
    pub heads: usize,
    /// The factor of the products of queries and keys; 1/sqrt(k) in the paper.
    pub scale: f64,
    /// Dropout on the attention weights, made for the sentences of the queries.
    pub dropout: Option<&'a Dropout>,
    /// Whether to return the weights as well.
    pub record: bool,
}

impl AttentionOptions<'_> {
    /// The fused operation for these operands, if it supports them. It never writes the weights out, so it cannot
    /// record them.
    fn fused(
        &self,
        operands: &[&Tensor],
        width: usize,
        queries: &Sentences,
        causal: bool,
    ) -> Result<Option<Attention>> {
        let fits = self.heads > 0 && width.is_multiple_of(self.heads) && self.scale > 0.0;
        match Backend::of(operands).if_able(fits && !self.record) {
            Backend::Reference => Ok(None),
            Backend::Cpu => {
                if let Some(dropout) = self.dropout {
                    dropout.check_weights(queries, self.heads)?;
                }
                Ok(Some(Attention::new(self.heads, self.scale, causal, self.dropout)))
            }
        }
    }
}

/// The result of attention.
#[derive(Clone, Debug)]
pub struct Attended {
    /// The weighted values, heads side by side, one row for each query: `[n, d]`.
    pub context_nd: Tensor,
    /// The weights before dropout, detached, if requested: `[b, h, t, s]`, where `t` and `s` are the lengths of the
    /// longest sentences on either side. A key beyond the end of a sentence has a weight of zero; the rows of queries
    /// beyond the end have no meaning.
    pub weights_bhts: Option<Tensor>,
}

/// Attention of sentences to themselves. The projections are packed side by side as queries, keys, values.
///
/// # Shapes
/// `qkv`: `[n, 3d]`; the context: `[n, d]`. With `causal`, a position sees only positions up to itself in its sentence.
///
/// # Errors
/// When the width is not a multiple of three times the heads, or the number of rows differs from that of the sentences.
pub fn self_attention(
    qkv: &Tensor,
    sentences: &Sentences,
    causal: bool,
    options: AttentionOptions,
) -> Result<Attended> {
    let (rows, width) = qkv.dims2()?;
    if !width.is_multiple_of(3) || rows != sentences.rows() {
        bail!(
            "self_attention: {:?} does not hold queries, keys and values of {} rows",
            qkv.dims(),
            sentences.rows()
        );
    }
    if let Some(attention) = options.fused(&[qkv], width / 3, sentences, causal)? {
        let sentences = sentences.clone();
        return Ok(Attended {
            context_nd: qkv.apply_op1(cpu::OfSelf { attention, sentences })?,
            weights_bhts: None,
        });
    }
    let qkv = sentences.pad(qkv)?;
    let part = |i: usize| split_heads(&qkv.narrow(2, i * width / 3, width / 3)?, options.heads);
    let longest = sentences.longest();
    let mask = match causal {
        // Padding comes after all queries of a sentence, so the causal mask hides it.
        true => AttentionMask::causal(longest, qkv.dtype(), qkv.device())?,
        false => AttentionMask::padding(sentences.lengths(), longest, qkv.dtype(), qkv.device())?,
    };
    attend(&part(0)?, &part(1)?, &part(2)?, Some(&mask), options)?.unpadded(sentences)
}

/// Attention of target positions to source positions. Keys and values are packed side by side.
///
/// # Shapes
/// `q`: `[n, d]`, rows of `queries`; `kv`: `[m, 2d]`, rows of `keys`; the context: `[n, d]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn cross_attention(
    q: &Tensor,
    queries: &Sentences,
    kv: &Tensor,
    keys: &Sentences,
    options: AttentionOptions,
) -> Result<Attended> {
    let ((rows, width), (kv_rows, kv_width)) = (q.dims2()?, kv.dims2()?);
    let fits = (rows, kv_rows) == (queries.rows(), keys.rows()) && queries.count() == keys.count();
    if kv_width != 2 * width || !fits {
        bail!(
            "cross_attention: queries {:?} in {} sentences do not fit keys and values {:?} in {}",
            q.dims(),
            queries.count(),
            kv.dims(),
            keys.count()
        );
    }
    if let Some(attention) = options.fused(&[q, kv], width, queries, false)? {
        let (queries, keys) = (queries.clone(), keys.clone());
        let operation = cpu::OfMemory {
            attention,
            queries,
            keys,
        };
        return Ok(Attended {
            context_nd: q.apply_op2(kv, operation)?,
            weights_bhts: None,
        });
    }
    let (q, kv) = (queries.pad(q)?, keys.pad(kv)?);
    let part = |i: usize| split_heads(&kv.narrow(2, i * width, width)?, options.heads);
    let mask = AttentionMask::padding(keys.lengths(), keys.longest(), kv.dtype(), kv.device())?;
    let q = split_heads(&q, options.heads)?;
    attend(&q, &part(0)?, &part(1)?, Some(&mask), options)?.unpadded(queries)
}

impl Attended {
    /// Converts the rectangular result of [`attend`] to rows.
    fn unpadded(self, sentences: &Sentences) -> Result<Self> {
        let (rows, width) = self.context_nd.dims2()?;
        let shape = (sentences.count(), rows / sentences.count(), width);
        Ok(Self {
            context_nd: sentences.unpad(&self.context_nd.reshape(shape)?)?,
            ..self
        })
    }
}

/// Moves heads in front of positions: `[b, t, d]` to `[b, h, t, k]`, contiguous.
///
/// # Errors
/// When the width is not a multiple of the heads.
pub fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, length, width) = x.dims3()?;
    if heads == 0 || width % heads != 0 {
        bail!("attention: a width of {width} does not divide into {heads} heads");
    }
    x.reshape((batch, length, heads, width / heads))?
        .transpose(1, 2)?
        .contiguous()
}

/// softmax(scale · q kᵀ + mask) v, for queries, keys and values with separate heads.
///
/// # Shapes
/// `q`: `[b, h, t, k]`; `k`, `v`: `[b, h, s, k]`, which may be slices of longer buffers; `mask`: the keys that a query
/// may see, or `None` for all; the context: `[b t, d]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&AttentionMask>,
    options: AttentionOptions,
) -> Result<Attended> {
    let (batch, heads, queries, width) = q.dims4()?;
    let (key_batch, key_heads, _, key_width) = k.dims4()?;
    let fits = (batch, heads, width) == (key_batch, key_heads, key_width);
    if k.dims() != v.dims() || !fits || heads != options.heads {
        bail!(
            "attend: queries {:?}, keys {:?} and values {:?} do not fit {} heads",
            q.dims(),
            k.dims(),
            v.dims(),
            options.heads
        );
    }
    if options.scale > 0.0
        && let Some(context_nd) = step::attend(q, k, v, mask, options)?
    {
        return Ok(Attended {
            context_nd,
            weights_bhts: None,
        });
    }
    let scores = q.matmul(&k.t()?)?;
    let weights = match Backend::of(&[&scores]) {
        Backend::Cpu => scores.apply_op1(MaskedSoftmax {
            scale: options.scale as f32,
            mask: mask.cloned(),
        })?,
        Backend::Reference => reference::masked_softmax(&scores, options.scale, mask)?,
    };
    let weights_bhts = options.record.then(|| weights.detach());
    let context = dropout(&weights, options.dropout)?.matmul(v)?;
    let context_nd = context.transpose(1, 2)?.reshape((batch * queries, heads * width))?;
    Ok(Attended {
        context_nd,
        weights_bhts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn random(seed: u64, shape: &[usize]) -> Tensor {
        let key = crate::Key::new(seed, crate::Purpose::Initialisation);
        Tensor::from_vec(key.normal(shape.iter().product()), shape, &Device::Cpu).unwrap()
    }

    fn plain(heads: usize) -> AttentionOptions<'static> {
        AttentionOptions {
            heads,
            scale: 0.5,
            dropout: None,
            record: true,
        }
    }

    /// The definition of attention in loops over plain numbers.
    fn by_hand(
        q: &[Vec<f64>],
        k: &[Vec<f64>],
        v: &[Vec<f64>],
        scale: f64,
        sees: impl Fn(usize, usize) -> bool,
    ) -> Vec<Vec<f64>> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        q.iter()
            .enumerate()
            .map(|(t, q)| {
                let seen: Vec<usize> = (0..k.len()).filter(|s| sees(t, *s)).collect();
                let weights: Vec<f64> = seen.iter().map(|s| (scale * dot(q, &k[*s])).exp()).collect();
                let total: f64 = weights.iter().sum();
                (0..v[0].len())
                    .map(|j| seen.iter().zip(&weights).map(|(s, w)| w / total * v[*s][j]).sum())
                    .collect()
            })
            .collect()
    }

    #[test]
    fn equals_the_definition() -> Result<()> {
        let (heads, width) = (3, 6);
        let (queries, keys) = (Sentences::new(&[4, 2])?, Sentences::new(&[5, 3])?);
        let (q, kv) = (random(1, &[6, width]), random(2, &[8, 2 * width]));
        let attended = cross_attention(&q, &queries, &kv, &keys, plain(heads))?;
        let weights = attended.weights_bhts.unwrap();
        assert_eq!(weights.dims(), [2, heads, 4, 5]);
        for (of_q, of_kv) in queries.ranges().zip(keys.ranges()) {
            for h in 0..heads {
                let slice = |x: &Tensor, rows: &std::ops::Range<usize>, start: usize| {
                    x.narrow(0, rows.start, rows.len())?
                        .narrow(1, start, 2)?
                        .to_vec2::<f64>()
                };
                let (k, v) = (slice(&kv, &of_kv, 2 * h)?, slice(&kv, &of_kv, width + 2 * h)?);
                let expected = by_hand(&slice(&q, &of_q, 2 * h)?, &k, &v, 0.5, |_, _| true);
                let got = slice(&attended.context_nd, &of_q, 2 * h)?;
                for (e, g) in expected.iter().flatten().zip(got.iter().flatten()) {
                    assert!((e - g).abs() < 1e-12, "{e} {g}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn causal_queries_see_no_later_key() -> Result<()> {
        let (qkv, sentences) = (random(3, &[8, 12]), Sentences::new(&[5, 3])?);
        let attended = self_attention(&qkv, &sentences, true, plain(2))?;
        let weights = attended.weights_bhts.unwrap();
        for (b, length) in sentences.lengths().iter().enumerate() {
            for head in weights.get(b)?.to_vec3::<f64>()? {
                for (t, row) in head.iter().enumerate().take(*length) {
                    assert!(row[t + 1..].iter().all(|w| *w == 0.0));
                    assert!(row[..=t].iter().all(|w| *w > 0.0));
                    assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn misfits_are_named() {
        let error = split_heads(&random(1, &[1, 2, 6]), 4).unwrap_err().to_string();
        assert!(error.contains("width of 6") && error.contains("4 heads"), "{error}");
        let [two, pair] = [&[2][..], &[1, 1]].map(|lengths| Sentences::new(lengths).unwrap());
        assert!(self_attention(&random(1, &[2, 8]), &two, false, plain(2)).is_err());
        assert!(self_attention(&random(1, &[3, 6]), &two, false, plain(2)).is_err());
        let (q, kv) = (random(1, &[2, 6]), random(1, &[2, 12]));
        assert!(cross_attention(&q, &two, &kv, &two, plain(2)).is_ok());
        assert!(cross_attention(&q, &two, &kv, &pair, plain(2)).is_err());
        assert!(cross_attention(&q, &two, &q, &two, plain(2)).is_err());
        assert!(AttentionMask::padding(&[0, 2], 2, DType::F32, &Device::Cpu).is_err());
        assert!(AttentionMask::padding(&[3], 2, DType::F32, &Device::Cpu).is_err());
    }
}
