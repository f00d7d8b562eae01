//! Attention of few queries to many keys, for search. It needs no graph and no copies of the keys. Its result depends
//! only on the query's own sentence, to the bit.

use super::softmax::softmax_vectors;
use super::{AttentionMask, AttentionOptions};
use crate::rows::{LANES, total};
use candle_core::{CpuStorage, Device, Layout, Result, Storage, Tensor};

/// The heads of `[b, h, t, k]`: rows are contiguous; heads and sentences may be any distance apart.
struct Heads<'a> {
    values: &'a [f32],
    strides: [usize; 2],
}

impl<'a> Heads<'a> {
    fn of(storage: &'a Storage, layout: &Layout) -> Option<Self> {
        let (Storage::Cpu(CpuStorage::F32(values)), [_, _, rows, width]) = (storage, layout.dims()) else {
            return None;
        };
        let [sentence, head, row, column] = *layout.stride() else {
            return None;
        };
        // The stride of a dimension of size one does not matter.
        ((row == *width || *rows == 1) && (column == 1 || *width == 1)).then(|| Self {
            values: &values[layout.start_offset()..],
            strides: [sentence, head],
        })
    }

    /// The rows of a head.
    fn rows(&self, sentence: usize, head: usize) -> &'a [f32] {
        &self.values[sentence * self.strides[0] + head * self.strides[1]..]
    }
}

/// The dot product of two rows. The order of additions depends only on their length.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    total(lanes)
}

/// The context `[b t, d]`, if the operands are f32 in main memory and not part of a graph.
pub(super) fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    mask: Option<&AttentionMask>,
    options: AttentionOptions,
) -> Result<Option<Tensor>> {
    if [q, k, v].iter().any(|x| x.track_op()) || options.record || options.dropout.is_some() {
        return Ok(None);
    }
    let (sentences, heads, queries, width) = q.dims4()?;
    let keys = k.dim(2)?;
    let ((q, of_q), (k, of_k), (v, of_v)) = (q.storage_and_layout(), k.storage_and_layout(), v.storage_and_layout());
    let (Some(q), Some(k), Some(v)) = (Heads::of(&q, of_q), Heads::of(&k, of_k), Heads::of(&v, of_v)) else {
        return Ok(None);
    };
    let scale = options.scale as f32;
    let mut context = vec![0f32; sentences * queries * heads * width];
    vectorized!({
        let mut weights = vec![0f32; keys.next_multiple_of(LANES)];
        for sentence in 0..sentences {
            for head in 0..heads {
                let (q, k, v) = (q.rows(sentence, head), k.rows(sentence, head), v.rows(sentence, head));
                for query in 0..queries {
                    let seen = mask.map_or(keys, |mask| mask.seen(sentence, query, keys));
                    let row = &q[query * width..][..width];
                    let weights = &mut weights[..seen.next_multiple_of(LANES)];
                    for (weight, key) in weights.iter_mut().zip(k.chunks_exact(width)).take(seen) {
                        *weight = dot(row, key);
                    }
                    softmax_vectors(weights, seen, scale);
                    let sum = &mut context[((sentence * queries + query) * heads + head) * width..][..width];
                    for (weight, value) in weights.iter().zip(v.chunks_exact(width)).take(seen) {
                        sum.iter_mut().zip(value).for_each(|(sum, x)| *sum += weight * x);
                    }
                }
            }
        }
    });
    Tensor::from_vec(context, (sentences * queries, heads * width), &Device::Cpu).map(Some)
}
