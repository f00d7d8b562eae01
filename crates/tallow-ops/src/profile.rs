//! Profile of training: spans measure the time of operations without the spans inside them, summed over all threads.
//! While the profile is off, a span only costs the reading of one flag.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The kind of work that a span measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Operation {
    /// x Wᵀ of all maps, the output layer among them.
    ForwardProduct,
    /// dy W.
    InputGradientProduct,
    /// dyᵀ x.
    WeightGradientProduct,
    /// Bringing operands into the layout of a product.
    Packing,
    /// Scores, softmax and context of all heads.
    Attention,
    /// Its gradient.
    AttentionGradient,
    /// Residual connection, dropout and normalisation.
    Connection,
    /// Its gradient.
    ConnectionGradient,
    /// The function between the two maps of a feed-forward layer, and its gradient.
    Activation,
    /// Sums of dy over rows.
    BiasGradient,
    /// Embeddings with positions and dropout, and their gradient.
    Embedding,
    /// Softmax and loss, and the gradient of the logits.
    Loss,
    /// The rest of a worker's pass: Candle's graph, its zeros and sums.
    Graph,
    /// The sum of the workers' gradients, and its norm.
    GradientSum,
    /// Adam.
    Optimizer,
    /// Waiting for the next batch, and laying it out.
    Batching,
}

const OPERATIONS: [(Operation, &str); 16] = [
    (Operation::ForwardProduct, "products: forward"),
    (Operation::InputGradientProduct, "products: input gradient"),
    (Operation::WeightGradientProduct, "products: weight gradient"),
    (Operation::Packing, "products: packing"),
    (Operation::Attention, "attention"),
    (Operation::AttentionGradient, "attention: gradient"),
    (Operation::Connection, "residual, dropout, norm"),
    (Operation::ConnectionGradient, "residual, dropout, norm: gradient"),
    (Operation::Activation, "activation and its gradient"),
    (Operation::BiasGradient, "bias gradient"),
    (Operation::Embedding, "embedding and its gradient"),
    (Operation::Loss, "softmax and loss"),
    (Operation::Graph, "graph"),
    (Operation::GradientSum, "gradient sum and norm"),
    (Operation::Optimizer, "optimizer"),
    (Operation::Batching, "batching"),
];

struct Counter {
    nanoseconds: AtomicU64,
    calls: AtomicU64,
    flops: AtomicU64,
}

static ON: AtomicBool = AtomicBool::new(false);
static COUNTERS: [Counter; OPERATIONS.len()] = [const {
    Counter {
        nanoseconds: AtomicU64::new(0),
        calls: AtomicU64::new(0),
        flops: AtomicU64::new(0),
    }
}; OPERATIONS.len()];

thread_local! {
    /// The time of the finished spans inside the current one.
    static INSIDE: Cell<u64> = const { Cell::new(0) };
}

/// A measured stretch of time, which ends when this value is dropped.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct Span(Option<Open>);

#[derive(Debug)]
struct Open {
    operation: Operation,
    begin: Instant,
    outside: u64,
    flops: u64,
}

/// Begins a span on this thread. The spans of a thread must end in the opposite order.
#[inline]
pub fn span(operation: Operation) -> Span {
    span_of(operation, 0)
}

/// [`span`] with its number of floating-point operations: two for a multiplication and an addition.
#[inline]
pub fn span_of(operation: Operation, flops: u64) -> Span {
    Span(ON.load(Relaxed).then(|| Open {
        operation,
        begin: Instant::now(),
        outside: INSIDE.replace(0),
        flops,
    }))
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(open) = &self.0 else { return };
        let whole = open.begin.elapsed().as_nanos() as u64;
        let inside = INSIDE.replace(open.outside + whole);
        let counter = &COUNTERS[open.operation as usize];
        counter.nanoseconds.fetch_add(whole.saturating_sub(inside), Relaxed);
        counter.calls.fetch_add(1, Relaxed);
        counter.flops.fetch_add(open.flops, Relaxed);
    }
}

/// The measurements of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The operation, in words.
    pub name: &'static str,
    /// The time of the operation itself, summed over threads.
    pub time: Duration,
    /// The number of calls.
    pub calls: u64,
    /// The floating-point operations of its spans.
    pub flops: u64,
}

/// Switches the profile on or off for the whole process.
pub fn set_running(running: bool) {
    ON.store(running, Relaxed);
}

/// Resets all sums to zero.
pub fn reset() {
    for counter in &COUNTERS {
        counter.nanoseconds.store(0, Relaxed);
        counter.calls.store(0, Relaxed);
        counter.flops.store(0, Relaxed);
    }
}

/// The measurements since the last reset, in a fixed order.
pub fn shares() -> Vec<Share> {
    let share = |(operation, name): &(Operation, &'static str)| {
        let counter = &COUNTERS[*operation as usize];
        Share {
            name,
            time: Duration::from_nanos(counter.nanoseconds.load(Relaxed)),
            calls: counter.calls.load(Relaxed),
            flops: counter.flops.load(Relaxed),
        }
    };
    OPERATIONS.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_counts_its_own_time() {
        for (index, (operation, _)) in OPERATIONS.iter().enumerate() {
            assert_eq!(*operation as usize, index);
        }
        let nap = Duration::from_millis(20);
        reset();
        set_running(true);
        {
            let _optimizer = span(Operation::Optimizer);
            {
                let _batching = span_of(Operation::Batching, 7);
                std::thread::sleep(nap);
            }
            {
                let _batching = span_of(Operation::Batching, 5);
                std::thread::sleep(nap);
            }
        }
        set_running(false);
        drop(span(Operation::Batching));
        let shares = shares();
        // Only these two are checked, because other tests of this process may run the operations at the same time.
        let (optimizer, batching) = (
            shares[Operation::Optimizer as usize],
            shares[Operation::Batching as usize],
        );
        assert!(batching.time >= 2 * nap && batching.calls == 2 && batching.flops == 12);
        assert!(optimizer.time < nap && optimizer.calls >= 1);
    }
}
