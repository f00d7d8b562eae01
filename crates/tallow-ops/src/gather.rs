//! Gradients of parameters outside Candle's graph.
//!
//! For each gradient of an operation's input, Candle makes a tensor of zeros and adds the two into a third. Gradients
//! of parameters are as large as the model, so this is most of the cost of a graph. Inside [`gather_gradients`], the
//! operations of this crate add to one buffer for each parameter instead.

use candle_core::{Device, Result, Tensor, TensorId, bail};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

/// Gradient buffers for the parameters of this thread's pass.
#[derive(Default)]
struct Gathering {
    buffers: HashMap<TensorId, Buffer>,
    /// Takes complete gradients while the pass goes on.
    complete: Option<OnComplete>,
}

struct Buffer {
    /// The number of the parameter.
    number: usize,
    content: Content,
}

enum Content {
    /// No gradient has arrived yet.
    Empty,
    Sum(Vec<f32>),
    /// The gradient was complete, and has been passed on.
    Completed,
}

/// Takes the number of a parameter and its complete gradient.
pub type OnComplete = Box<dyn FnMut(usize, Vec<f32>)>;

/// What a pass has gathered for a parameter.
#[derive(Debug)]
pub enum Gathered {
    /// No gradient from the operations of this crate, or the parameter is not f32 in main memory.
    Nothing,
    /// A gradient; other operations may have given more.
    Sum(Tensor),
    /// The gradient was complete, and has been passed on during the pass.
    Completed,
}

thread_local! {
    static GATHERING: RefCell<Gathering> = RefCell::default();
}

/// Runs a forward and a backward pass on this thread, and returns the gradient of every parameter from the operations
/// of this crate. It is `None` if there was no such gradient, or if the parameter is not f32 in main memory. Gradients
/// from other operations are in Candle's store as usual; the complete gradient is the sum of the two.
///
/// # Errors
/// When a gradient and its parameter differ in size.
pub fn gather_gradients<R>(parameters: &[&Tensor], run: impl FnOnce() -> R) -> Result<(R, Vec<Option<Tensor>>)> {
    let (result, gathered) = gather(parameters, None, run)?;
    let sum = |gathered| match gathered {
        Gathered::Sum(sum) => Some(sum),
        Gathered::Nothing | Gathered::Completed => None,
    };
    Ok((result, gathered.into_iter().map(sum).collect()))
}

/// Does the same as [`gather_gradients`], and passes the gradients of sublayers on to `complete` during the backward
/// pass, as soon as they are complete. Nothing but its sublayer may use such a parameter.
///
/// # Errors
/// When a gradient and its parameter differ in size. When another operation of this crate uses the parameter of a
/// sublayer, the pass fails.
pub fn gather_gradients_early<R>(
    parameters: &[&Tensor],
    complete: OnComplete,
    run: impl FnOnce() -> R,
) -> Result<(R, Vec<Gathered>)> {
    gather(parameters, Some(complete), run)
}

fn gather<R>(
    parameters: &[&Tensor],
    complete: Option<OnComplete>,
    run: impl FnOnce() -> R,
) -> Result<(R, Vec<Gathered>)> {
    /// Removes the buffers even when the pass panics.
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            GATHERING.take();
        }
    }
    let _forget = Forget;
    let buffers = parameters.iter().enumerate().map(|(number, parameter)| {
        let content = Content::Empty;
        (parameter.id(), Buffer { number, content })
    });
    GATHERING.set(Gathering {
        buffers: buffers.collect(),
        complete,
    });
    let result = run();
    let mut gathering = GATHERING.take();
    let gradients = parameters.iter().map(|parameter| {
        let content = gathering.buffers.remove(&parameter.id()).map(|buffer| buffer.content);
        Ok(match content {
            None | Some(Content::Empty) => Gathered::Nothing,
            Some(Content::Completed) => Gathered::Completed,
            Some(Content::Sum(values)) => Gathered::Sum(Tensor::from_vec(values, parameter.shape(), &Device::Cpu)?),
        })
    });
    let gradients = gradients.collect::<Result<_>>()?;
    Ok((result, gradients))
}

/// Takes the gradient that has been gathered for a parameter. Also returns whether its gradient is gathered at all.
fn taken(parameter: &Tensor) -> (Option<Vec<f32>>, bool) {
    GATHERING.with_borrow_mut(|gathering| match gathering.buffers.get_mut(&parameter.id()) {
        None => (None, false),
        Some(buffer) => match std::mem::replace(&mut buffer.content, Content::Empty) {
            Content::Sum(values) => (Some(values), true),
            Content::Empty => (None, true),
            Content::Completed => {
                // `finish` returns the error.
                buffer.content = Content::Completed;
                (None, true)
            }
        },
    })
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
        if !self.gathered {
            return Tensor::from_vec(self.values, parameter.shape(), &Device::Cpu).map(Some);
        }
        GATHERING.with_borrow_mut(|gathering| {
            let Some(buffer) = gathering.buffers.get_mut(&parameter.id()) else {
                bail!("gather: the pass has ended before its operations");
            };
            if let Content::Completed = buffer.content {
                bail!("gather: a parameter of a sublayer has another gradient after its complete one");
            }
            buffer.content = Content::Sum(self.values);
            Ok(None)
        })
    }

    /// Does the same as [`Self::finish`] for an operation that nothing but itself uses the parameter with: its gradient
    /// is complete.
    pub(crate) fn finish_complete(self, parameter: &Tensor) -> Result<Option<Tensor>> {
        let is_early = GATHERING.with_borrow(|gathering| gathering.complete.is_some());
        if !is_early || !self.gathered {
            return self.finish(parameter);
        }
        GATHERING.with_borrow_mut(|gathering| {
            let Gathering { buffers, complete } = gathering;
            match (buffers.get_mut(&parameter.id()), complete) {
                (Some(buffer), Some(complete)) if !matches!(buffer.content, Content::Completed) => {
                    buffer.content = Content::Completed;
                    complete(buffer.number, self.values);
                    Ok(None)
                }
                _ => bail!("gather: the parameter of a sublayer has two gradients"),
            }
        })
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
