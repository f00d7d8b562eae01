//! Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2).

mod cpu;
mod mask;
mod reference;
mod softmax;
mod step;

pub(crate) use cpu::{Attention, Lengths};
pub use mask::AttentionMask;

use crate::values::is_plain;
use crate::{Dropout, dropout};
use candle_core::{Result, Tensor, bail};
use softmax::MaskedSoftmax;

/// How to attend.
#[derive(Clone, Copy, Debug)]
pub struct AttentionOptions<'a> {
    /// The number of heads, a divisor of the model width.
    pub heads: usize,
    /// What products of queries and keys are multiplied by; 1/sqrt(k) in the paper.
    pub scale: f64,
    /// Which keys a query may see; `None`: all of them.
    pub mask: Option<&'a AttentionMask>,
    /// Dropout on the attention weights.
    pub dropout: Option<&'a Dropout>,
    /// Whether to hand out the weights beside the context.
    pub record: bool,
}

impl AttentionOptions<'_> {
    /// The fused operation for these operands, if it can work on them. It never writes the weights out, so that they
    /// cannot be recorded.
    fn fused(&self, operands: &[&Tensor], width: usize) -> Result<Option<Attention>> {
        let fits = self.heads > 0 && width.is_multiple_of(self.heads) && self.scale > 0.0;
        if self.record || !fits || !operands.iter().all(|x| is_plain(x)) {
            return Ok(None);
        }
        if let Some(dropout) = self.dropout {
            let (batch, queries, _) = operands[0].dims3()?;
            dropout.check(operands[0].dims(), (batch, self.heads, queries))?;
        }
        Ok(Some(Attention::new(self.heads, self.scale, self.mask, self.dropout)))
    }
}

/// What attention returns.
#[derive(Clone, Debug)]
pub struct Attended {
    /// The weighted values, heads side by side: `[b, t, d]`.
    pub context_btd: Tensor,
    /// The weights before dropout, detached, if asked for: `[b, h, t, s]`.
    pub weights_bhts: Option<Tensor>,
}

/// Attention of a sequence to itself, from projections packed side by side as queries, keys, values.
///
/// # Shapes
/// `qkv`: `[b, t, 3d]`; the context: `[b, t, d]`.
///
/// # Errors
/// When the width does not divide into three times the heads.
pub fn self_attention(qkv: &Tensor, options: AttentionOptions) -> Result<Attended> {
    let (_, _, width) = qkv.dims3()?;
    if !width.is_multiple_of(3) {
        bail!(
            "self_attention: the last dimension of {:?} does not hold queries, keys and values",
            qkv.dims()
        );
    }
    if let Some(attention) = options.fused(&[qkv], width / 3)? {
        return Ok(Attended {
            context_btd: qkv.apply_op1(cpu::OfSelf(attention))?,
            weights_bhts: None,
        });
    }
    let part = |i: usize| split_heads(&qkv.narrow(2, i * width / 3, width / 3)?, options.heads);
    attend(&part(0)?, &part(1)?, &part(2)?, options)
}

/// Attention of target positions to source positions, keys and values packed side by side.
///
/// # Shapes
/// `q`: `[b, t, d]`; `kv`: `[b, s, 2d]`; the context: `[b, t, d]`.
///
/// # Errors
/// When the widths do not fit.
pub fn cross_attention(q: &Tensor, kv: &Tensor, options: AttentionOptions) -> Result<Attended> {
    let ((batch, _, width), (kv_batch, _, kv_width)) = (q.dims3()?, kv.dims3()?);
    if kv_width != 2 * width || batch != kv_batch {
        bail!(
            "cross_attention: queries {:?} do not fit keys and values {:?}",
            q.dims(),
            kv.dims()
        );
    }
    if let Some(attention) = options.fused(&[q, kv], width)? {
        return Ok(Attended {
            context_btd: q.apply_op2(kv, cpu::OfMemory(attention))?,
            weights_bhts: None,
        });
    }
    let part = |i: usize| split_heads(&kv.narrow(2, i * width, width)?, options.heads);
    attend(&split_heads(q, options.heads)?, &part(0)?, &part(1)?, options)
}

/// Moves heads in front of positions: `[b, t, d]` to `[b, h, t, k]`, contiguous.
///
/// # Errors
/// When the width does not divide into the heads.
pub fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, length, width) = x.dims3()?;
    if heads == 0 || width % heads != 0 {
        bail!("attention: a width of {width} does not divide into {heads} heads");
    }
    x.reshape((batch, length, heads, width / heads))?
        .transpose(1, 2)?
        .contiguous()
}

/// softmax(scale · q kᵀ + mask) v, for queries, keys and values that are already split into heads.
///
/// # Shapes
/// `q`: `[b, h, t, k]`; `k`, `v`: `[b, h, s, k]`, which may be slices of longer buffers; the context: `[b, t, d]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, options: AttentionOptions) -> Result<Attended> {
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
        && let Some(context_btd) = step::attend(q, k, v, options)?
    {
        return Ok(Attended {
            context_btd,
            weights_bhts: None,
        });
    }
    let scores = q.matmul(&k.t()?)?;
    let weights = if is_plain(&scores) {
        scores.apply_op1(MaskedSoftmax {
            scale: options.scale as f32,
            mask: options.mask.cloned(),
        })?
    } else {
        reference::masked_softmax(&scores, options.scale, options.mask)?
    };
    let weights_bhts = options.record.then(|| weights.detach());
    let context = dropout(&weights, options.dropout)?.matmul(v)?;
    let context_btd = context.transpose(1, 2)?.reshape((batch, queries, heads * width))?;
    Ok(Attended {
        context_btd,
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
            mask: None,
            dropout: None,
            record: true,
        }
    }

    /// The definition, written with loops over plain numbers.
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
        let (batch, heads, queries, keys, width) = (2, 3, 4, 5, 6);
        let (q, kv) = (
            random(1, &[batch, queries, width]),
            random(2, &[batch, keys, 2 * width]),
        );
        let lengths = [5, 3];
        let mask = AttentionMask::padding(&lengths, keys, DType::F64, &Device::Cpu)?;
        let options = AttentionOptions {
            mask: Some(&mask),
            ..plain(heads)
        };
        let attended = cross_attention(&q, &kv, options)?;
        let weights = attended.weights_bhts.unwrap();
        assert_eq!(weights.dims(), [batch, heads, queries, keys]);
        for (b, length) in lengths.into_iter().enumerate() {
            for h in 0..heads {
                let slice = |x: &Tensor, start: usize| x.get(b)?.narrow(1, start, 2)?.to_vec2::<f64>();
                let (k, v) = (slice(&kv, 2 * h)?, slice(&kv, width + 2 * h)?);
                let expected = by_hand(&slice(&q, 2 * h)?, &k, &v, 0.5, |_, s| s < length);
                let got = slice(&attended.context_btd, 2 * h)?;
                for (e, g) in expected.iter().flatten().zip(got.iter().flatten()) {
                    assert!((e - g).abs() < 1e-12, "{e} {g}");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn causal_queries_see_no_later_key() -> Result<()> {
        let qkv = random(3, &[1, 5, 12]);
        let mask = AttentionMask::causal(5, DType::F64, &Device::Cpu)?;
        let attended = self_attention(
            &qkv,
            AttentionOptions {
                mask: Some(&mask),
                ..plain(2)
            },
        )?;
        let weights = attended.weights_bhts.unwrap().get(0)?.to_vec3::<f64>()?;
        for head in weights {
            for (t, row) in head.iter().enumerate() {
                assert!(row[t + 1..].iter().all(|w| *w == 0.0));
                assert!(row[..=t].iter().all(|w| *w > 0.0));
                assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
        Ok(())
    }

    #[test]
    fn misfits_are_named() {
        let error = split_heads(&random(1, &[1, 2, 6]), 4).unwrap_err().to_string();
        assert!(error.contains("width of 6") && error.contains("4 heads"), "{error}");
        assert!(self_attention(&random(1, &[1, 2, 8]), plain(2)).is_err());
        assert!(cross_attention(&random(1, &[1, 2, 6]), &random(1, &[2, 2, 12]), plain(2)).is_err());
        assert!(AttentionMask::padding(&[0, 2], 2, DType::F32, &Device::Cpu).is_err());
        assert!(AttentionMask::padding(&[3], 2, DType::F32, &Device::Cpu).is_err());
    }
}
