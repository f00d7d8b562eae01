//! What more processes would bring: a model of the time of an update on several machines.
//!
//! `docs/scaling.md` compares it with measurements.

use crate::Config;
use serde::Serialize;
use tallow_data::{Batch, Example};
use tallow_model::{Architecture, Params};
use tallow_train::ReduceKind;

/// What Open MPI reaches of a link's nominal speed over TCP, both directions in use. Measured from 0.1 to 10 Gbit/s.
const NETWORK_SHARE: f64 = 0.6;
/// Seconds of a core for each byte that a process sends or receives: copies, sums and the system's network. Measured
/// over TCP, where it was between 0.8 and 2 nanoseconds.
const SECONDS_PER_BYTE: f64 = 1.1e-9;
/// The share of an update's last batch during which gradients can travel: its backward pass, without what comes before
/// the first bucket is complete.
const OVERLAP: f64 = 0.6;
/// Seconds of a core for each message: assumed, not measured.
const SECONDS_PER_MESSAGE: f64 = 2e-6;
/// Bytes of a bucket.
const BUCKET: f64 = (8 << 20) as f64;

/// What connects the processes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Network {
    /// Gbit/s of each process, in each direction.
    pub gbits: f64,
    /// Seconds that a message takes at least.
    pub latency: f64,
}

/// What an update of one process costs.
#[derive(Clone, Debug)]
pub struct UpdateCost {
    /// Seconds of the whole update.
    pub seconds: f64,
    /// Seconds to make its batches, which every process does, ahead of the updates.
    pub data_seconds: f64,
    /// Threads of each process.
    pub workers: usize,
    /// Parameters of the model.
    pub parameters: usize,
    /// Parameters whose gradients are complete only at the end of the backward pass.
    pub late_parameters: usize,
    /// For some batches, the cost of each sentence.
    pub sentence_costs: Vec<Vec<usize>>,
}

/// What is expected of some processes.
#[derive(Clone, Debug, Serialize)]
pub struct Expected {
    /// The number of processes.
    pub processes: usize,
    /// Seconds of an update.
    pub seconds: f64,
    /// The speed over that of one process, divided by the number of processes.
    pub efficiency: f64,
    /// Seconds of an update by what takes them.
    pub parts: Vec<(&'static str, f64)>,
}

impl Expected {
    /// What takes most of the time besides the work itself.
    pub fn limit(&self) -> Option<&'static str> {
        let others = self.parts.iter().skip(1).filter(|(_, seconds)| *seconds > 0.0);
        others.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(name, _)| *name)
    }
}

/// The parameters whose gradients are complete only at the end of the backward pass: all that do not belong to one
/// sublayer.
pub fn late_parameters(params: &Params) -> usize {
    let is_late = |name: &str| !name.contains(".layers.");
    let late = params.iter().filter(|parameter| is_late(&parameter.name));
    late.map(|parameter| parameter.var.elem_count()).sum()
}

/// The costs of a batch's sentences, by which they are divided among workers.
pub fn sentence_costs(batch: &Batch, architecture: &Architecture) -> Vec<usize> {
    let (of_source, of_target) = architecture.multiplications();
    let cost = |pair: &Example| pair.source.len() * of_source + pair.target.len() * of_target;
    batch.examples.iter().map(cost).collect()
}

/// How much longer than its equal share the busiest of so many workers works.
fn imbalance(sentence_costs: &[Vec<usize>], workers: usize) -> f64 {
    let of_batch = |costs: &Vec<usize>| {
        let all: usize = costs.iter().sum();
        let hands = tallow_data::deal(costs.clone(), workers, |cost| *cost);
        let most = hands.iter().map(|hand| hand.iter().sum::<usize>()).max().unwrap_or(0);
        most as f64 * workers as f64 / all.max(1) as f64
    };
    let all: Vec<f64> = sentence_costs.iter().map(of_batch).collect();
    match all.is_empty() {
        true => 1.0,
        false => all.iter().sum::<f64>() / all.len() as f64,
    }
}

/// What some processes are expected to bring, each on a machine like this one.
pub fn expected(config: &Config, cost: &UpdateCost, network: Network, processes: usize) -> Expected {
    let train = &config.train;
    let n = processes as f64;
    let of_imbalance = imbalance(&cost.sentence_costs, cost.workers * processes);
    let even = cost.seconds / n / imbalance(&cost.sentence_costs, cost.workers);
    let compute = even * of_imbalance;
    let wire = match train.reduce {
        ReduceKind::F32 => 4.0,
        ReduceKind::Bf16 => 2.0,
    };
    let numbers = cost.parameters as f64 * (n - 1.0) / n;
    let (reduced, collected) = (numbers * wire, numbers * if train.shard_optimizer { 4.0 } else { wire });
    let bytes_per_second = NETWORK_SHARE * network.gbits * 1e9 / 8.0;
    let reduction = reduced / bytes_per_second;
    let late = cost.late_parameters as f64 / cost.parameters.max(1) as f64;
    let reduction = match train.overlap_reduction {
        false => reduction,
        true => (reduction - OVERLAP * compute / train.accumulate.max(1) as f64).max(reduction * late),
    };
    let rounds = 2.0 * (4.0 * cost.parameters as f64 / BUCKET).ceil() + 1.0;
    let messages = match processes {
        0 | 1 => 0.0,
        _ => rounds * (network.latency + (n - 1.0) * SECONDS_PER_MESSAGE),
    };
    let together =
        compute + reduction + collected / bytes_per_second + 2.0 * (reduced + collected) * SECONDS_PER_BYTE + messages;
    let parts = vec![
        ("the work itself", even),
        ("sentences that cannot be divided evenly", compute - even),
        ("gradients on the network", reduction),
        ("parameters on the network", collected / bytes_per_second),
        (
            "copying and adding messages",
            2.0 * (reduced + collected) * SECONDS_PER_BYTE,
        ),
        ("latency", messages),
        ("making batches", (cost.data_seconds - together).max(0.0)),
    ];
    let seconds = together.max(cost.data_seconds);
    Expected {
        processes,
        seconds,
        efficiency: cost.seconds / (n * seconds),
        parts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost() -> UpdateCost {
        UpdateCost {
            seconds: 1.0,
            data_seconds: 0.001,
            workers: 1,
            parameters: 10_000_000,
            late_parameters: 2_000_000,
            sentence_costs: vec![vec![1; 512]],
        }
    }

    fn network(gbits: f64) -> Network {
        Network { gbits, latency: 1e-5 }
    }

    #[test]
    fn one_process_is_as_it_was_measured() {
        let one = expected(&Config::default(), &cost(), network(1.0), 1);
        assert!((one.seconds - 1.0).abs() < 1e-9 && (one.efficiency - 1.0).abs() < 1e-9);
        assert_eq!(one.limit(), None);
    }

    /// Two processes send and receive half of 40 MB twice: 0.16 s each way at an effective 1 Gbit/s, of which the
    /// gradients' are hidden but for a fifth.
    #[test]
    fn a_network_written_out() {
        let two = expected(&Config::default(), &cost(), network(1.0 / NETWORK_SHARE), 2);
        let latency = 2.0 * 5.0 + 1.0;
        let by_hand = 0.5 + 0.16 * 0.2 + 0.16 + 2.0 * 40e6 * SECONDS_PER_BYTE + latency * (1e-5 + 2e-6);
        assert!((two.seconds - by_hand).abs() < 1e-6, "{} {by_hand}", two.seconds);
        assert_eq!(two.limit(), Some("parameters on the network"));
        assert!((two.efficiency - 0.5 / by_hand).abs() < 1e-6);
    }

    #[test]
    fn each_part_can_be_the_limit() {
        let limit = |cost: UpdateCost, gbits: f64, processes: usize| {
            expected(&Config::default(), &cost, network(gbits), processes).limit()
        };
        // Two processes, three sentences: one of them has two.
        let three = UpdateCost {
            sentence_costs: vec![vec![1; 3]],
            ..cost()
        };
        let uneven = Some("sentences that cannot be divided evenly");
        assert_eq!(limit(three, 100.0, 2), uneven);
        let long = UpdateCost {
            data_seconds: 4.0,
            ..cost()
        };
        assert_eq!(limit(long, 100.0, 8), Some("making batches"));
        assert_eq!(limit(cost(), 0.01, 8), Some("parameters on the network"));
    }
}
