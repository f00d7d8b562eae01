//! Gradients of parameters outside Candle's graph.
//!
//! For each gradient of an operation's input, Candle makes a tensor of zeros and adds the two into a third. Gradients
//! of parameters are as large as the model, so this is most of the cost of a graph. Inside [`gather_gradients`], the
//! operations of this crate add to one buffer for each parameter instead.

use candle_core::{Device, Result, Tensor, TensorId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

/// Gradient buffers for the parameters of this thread's pass; `None` until the first gradient arrives.
type Buffers = HashMap<TensorId, Option<Vec<f32>>>;

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(HashMap::new());
}

/// Runs a forward and a backward pass on this thread, and returns the gradient of every parameter from the operations
/// of this crate. It is `None` if there was no such gradient, or if the parameter is not f32 in main memory. Gradients
/// from other operations are in Candle's store as usual; the complete gradient is the sum of the two.
///
/// # Errors
/// When a gradient and its parameter differ in size.
pub fn gather_gradients<R>(parameters: &[&Tensor], run: impl FnOnce() -> R) -> Result<(R, Vec<Option<Tensor>>)> {
    /// Removes the buffers even when the pass panics.
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            BUFFERS.take();
        }
    }
    let _forget = Forget;
    BUFFERS.set(parameters.iter().map(|parameter| (parameter.id(), None)).collect());
    let result = run();
    let mut buffers = BUFFERS.take();
    let gradients = parameters.iter().map(|parameter| {
        let values = buffers.get_mut(&parameter.id()).and_then(Option::take);
        values
            .map(|values| Tensor::from_vec(values, parameter.shape(), &Device::Cpu))
            .transpose()
    });
    Ok((result, gradients.collect::<Result<_>>()?))
}

/// Takes the gradient that has been gathered for a parameter. Also returns whether its gradient is gathered at all.
fn taken(parameter: &Tensor) -> (Option<Vec<f32>>, bool) {
    let buffer = BUFFERS.with_borrow_mut(|buffers| buffers.get_mut(&parameter.id()).map(Option::take));
    let is_gathered = buffer.is_some();
    (buffer.flatten(), is_gathered)
}

/// The gradient of an input, for an operation that adds to it.
pub(crate) struct Gradient {
    values: Vec<f32>,
    is_new: bool,
    gathered: bool,
}

impl Gradient {
    /// The gradient of `parameter` so far, or zeros.
    pub(crate) fn of(parameter: &Tensor) -> Self {
        let (so_far, gathered) = taken(parameter);
        Self {
            is_new: so_far.is_none(),
            values: so_far.unwrap_or_else(|| vec![0f32; parameter.elem_count()]),
            gathered,
        }
    }

    /// The sum of `values` and the gradient of `parameter` so far. If there was none, `values` are taken over without a
    /// copy.
    pub(crate) fn plus(parameter: &Tensor, values: Vec<f32>) -> Self {
        let (so_far, gathered) = taken(parameter);
        let values = match so_far {
            None => values,
            Some(mut sums) => {
                vectorized!({ sums.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value) });
                sums
            }
        };
        Self {
            values,
            is_new: false,
            gathered,
        }
    }

    /// Whether nothing has been added yet.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Returns the gradient to its buffer, or to Candle.
    ///
    /// # Errors
    /// When the number of values differs from the size of the parameter.
    pub(crate) fn finish(self, parameter: &Tensor) -> Result<Option<Tensor>> {
        if self.gathered {
            BUFFERS.with_borrow_mut(|buffers| buffers.insert(parameter.id(), Some(self.values)));
            return Ok(None);
        }
        Tensor::from_vec(self.values, parameter.shape(), &Device::Cpu).map(Some)
    }
}

impl Deref for Gradient {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for Gradient {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, Compute, CrossEntropyOptions, Path, Sentences, cross_entropy, embed, linear, with_path};
    use candle_core::{DType, Var};

    /// A table is embedded twice, once in another operation, and used as the output layer: with and without gathering,
    /// and on the path that never gathers.
    #[test]
    fn the_sum_is_the_gradient() -> Result<()> {
        let device = Device::Cpu;
        let table = Var::randn(0f32, 1.0, (7, 4), &device)?;
        let alone = Var::randn(0f32, 1.0, (4, 4), &device)?;
        let ids = Tensor::new(&[1u32, 2, 1, 6, 0, 3], &device)?;
        let sentences = Sentences::new(&[4, 2])?;
        let pass = || -> Result<_> {
            let x = embed(&ids, table.as_tensor(), 2.0, None, &sentences, None)?;
            let x = (x + table.as_tensor().embedding(&ids)?)?;
            let x = linear(&x, alone.as_tensor(), None, Activation::None, Compute::F32)?;
            let options = CrossEntropyOptions {
                r_drop: None,
                smoothing: 0.1,
                classes: 7,
                compute: Compute::F32,
            };
            let loss = cross_entropy(&x, table.as_tensor(), None, &[0, 1, 2, 3, 4, 5], options)?;
            (loss * 3.0)?.backward()
        };
        let store = pass()?;
        let expected = store.get(&table).expect("a gradient").clone();
        let close = |got: &Tensor| -> Result<()> {
            let difference = (got - &expected)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(difference < 1e-4, "{difference}");
            Ok(())
        };
        for _ in 0..2 {
            let (store, gathered) = gather_gradients(&[table.as_tensor(), alone.as_tensor()], pass)?;
            let store = store?;
            let part = gathered[0].as_ref().expect("operations of this crate gave some");
            assert_eq!(part.dtype(), DType::F32);
            close(&(part + store.get(&table).expect("and Candle the rest"))?)?;
            assert!(gathered[1].is_none() && store.get(&alone).is_some());
        }
        let (store, gathered) = gather_gradients(&[table.as_tensor()], || with_path(Path::Reference, pass))?;
        assert!(gathered[0].is_none());
        close(store?.get(&table).expect("all of it"))
    }
}
