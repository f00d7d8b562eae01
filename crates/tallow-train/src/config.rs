//! The `[train]` section of a config.

use crate::{DropoutKey, GradientOptions, Measure, Workers};
use serde::{Deserialize, Serialize};
use tallow_comm::Wire;
use tallow_data::MEAN;
use tallow_decode::{DecodeConfig, Utility};
use tallow_model::Initialisation;
use tallow_ops::Compute;

/// The course of the learning rate after a linear warmup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// learning_rate · sqrt(warmup / update), as fairseq and Marian do.
    #[default]
    InverseSqrt,
    /// learning_rate · d_model^-0.5 · min(update^-0.5, update · warmup^-1.5) (section 5.3 of the paper).
    Noam,
    /// Half a cosine from the learning rate down to the minimum at the last update (Loshchilov and Hutter 2017).
    Cosine,
    /// A straight line from the learning rate down to the minimum at the last update.
    Linear,
    /// A constant learning rate.
    Constant,
}

/// The optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// Adam, with weight decay added to the gradient.
    #[default]
    Adam,
    /// AdamW: weight decay shrinks the weights directly.
    #[serde(rename = "adamw")]
    AdamW,
    /// Plain stochastic gradient descent, without momentum; weight decay is added to the gradient.
    Sgd,
}

/// The number format of matrix products in training. Weights, moments, sums, softmax, normalisation and loss are always
/// f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeKind {
    /// 32-bit floating point.
    #[default]
    F32,
    /// The accuracy of f32, computed from factors split into three parts of bfloat16 each, if the processor has a unit
    /// that may be faster at that; otherwise f32.
    Bf16x3,
    /// bfloat16, if the processor has a unit that is faster at that; otherwise f32.
    Bf16,
}

impl ComputeKind {
    /// All kinds, the most exact first.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16x3, Self::Bf16];

    /// The name in a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16x3 => "bf16x3",
            Self::Bf16 => "bf16",
        }
    }
}

/// The number format in which gradients travel between processes. They are added in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReduceKind {
    /// 32-bit floating point: the sum does not depend on the processes that the workers belong to.
    #[default]
    F32,
    /// bfloat16: half of the traffic. Each process's gradient is rounded before it is added, and so is their sum where
    /// it travels: if the optimizer is not sharded.
    Bf16,
}

impl From<ReduceKind> for Wire {
    fn from(kind: ReduceKind) -> Self {
        match kind {
            ReduceKind::F32 => Self::F32,
            ReduceKind::Bf16 => Self::Bf16,
        }
    }
}

impl From<ComputeKind> for Compute {
    fn from(kind: ComputeKind) -> Self {
        match kind {
            ComputeKind::F32 => Self::F32,
            ComputeKind::Bf16x3 => Self::Bf16x3,
            ComputeKind::Bf16 => Self::Bf16,
        }
    }
}

/// The reaction to divergence: too many updates in a row without a finite loss or gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnDivergence {
    /// End with an error; the run can be resumed.
    #[default]
    Stop,
    /// Return to the last good checkpoint and continue with a lower learning rate.
    GoBack,
}

/// Whether a number is finite in 32 bits, the format in which weights are updated.
fn fits(value: f64) -> bool {
    (value as f32).is_finite()
}

/// A larger weight of what is added to the loss is taken for a mistake; the papers use 0.05 to 5.
const MOST_ADDED: f64 = 1000.0;

/// The settings of training: the `[train]` section.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The initialisation of weight matrices: `xavier` or `scaled-residual`. Default `scaled-residual`.
    pub initialisation: Initialisation,
    /// The number of updates after which training ends. Default 10000.
    pub max_updates: u64,
    /// The number of passes over the corpus after which training ends; 0: no limit. Default 0.
    pub max_epochs: u64,
    /// `adam` or `adamw`. Default `adam`.
    pub optimizer: OptimizerKind,
    /// The highest learning rate; with `noam`, the factor in front of its formula. Default 2e-3; in configs it depends
    /// on the width.
    pub learning_rate: f64,
    /// The last learning rate of `cosine` and `linear`. Default 0.
    pub min_learning_rate: f64,
    /// `inverse-sqrt`, `noam`, `cosine`, `linear` or `constant`. Default `cosine`.
    pub schedule: Schedule,
    /// Updates over which the learning rate rises from 0. Default 500; in configs of short runs fewer.
    pub warmup_updates: u64,
    /// Adam's decay of the mean of gradients. Default 0.9.
    pub beta1: f64,
    /// Adam's decay of the mean of squared gradients. Default 0.98.
    pub beta2: f64,
    /// Adam's epsilon. Default 1e-9.
    pub epsilon: f64,
    /// Weight decay. Default 0.
    pub weight_decay: f64,
    /// The share of the target probability that is spread over all pieces. Default 0.1.
    pub label_smoothing: f64,
    /// The weight of R-Drop (Liang et al. 2021), the paper's alpha. Every sentence passes twice under different
    /// dropout, and this weight multiplies the difference of the two passes. An update takes twice as long. 0: one
    /// pass. Default 0.
    pub r_drop: f64,
    /// The weight of guided alignment (Chen et al. 2016), where corpora have `alignments`: the first head of the last
    /// decoder layer's cross-attention learns to follow them. 0: none. Default 0.1.
    pub guided_alignment: f64,
    /// The largest global norm of the gradients; larger gradients are scaled down to it. 0: no limit. Default 1.0.
    pub clip_norm: f64,
    /// Updates without a finite loss and gradient are skipped. This many in a row count as divergence. Default 10.
    pub max_skipped: u64,
    /// The reaction to divergence: `stop` or `go-back`. Default `stop`.
    pub on_divergence: OnDivergence,
    /// The factor on the learning rate each time a run goes back. Default 0.5.
    pub back_off: f64,
    /// The number of batches whose gradients are added for one update. Default 1.
    pub accumulate: u64,
    /// The number format of matrix products: `f32`, `bf16x3` or `bf16`. Default `f32`.
    pub compute: ComputeKind,
    /// The decay of an exponential moving average of the weights. If there is one, it is validated and kept as the best
    /// model. 0: none. Default 0.
    pub ema_decay: f64,
    /// Updates between validations. Default 500.
    pub validate_every: u64,
    /// Updates between checkpoints. Default 500.
    pub checkpoint_every: u64,
    /// Updates between lines of the training log. Default 10.
    pub log_every: u64,
    /// The measure of the best model: `loss`, `perplexity`, or a metric: `bleu`, `chrf`, `ter` or `exact-match`; or
    /// `command`, the number of `valid_command`. Default `bleu`.
    pub metric: Measure,
    /// The number of validations without a better metric after which training ends; 0: no limit. Default 10.
    pub patience: u64,
    /// The number of best checkpoints to keep. Default 1.
    pub keep_best: usize,
    /// The number of most recent checkpoints to keep. Default 3.
    pub keep_last: usize,
    /// At the end, the average of this many most recent checkpoints is validated and becomes the best model if it is
    /// better; 0: none. At most `keep_last`. Default 0.
    pub average_last: usize,
    /// The number of hypotheses in the beam when translating for validation; 1 is greedy. Default 1.
    pub valid_beam: usize,
    /// The validation set that decides: `mean` for the mean of all of them, or the name of one. Default `mean`.
    pub valid_set: String,
    /// A program that scores the translations of each validation: see [`ValidCommand`](crate::ValidCommand). Default
    /// none.
    pub valid_command: Vec<String>,
    /// The seconds after which that program is killed. Default 600.
    pub valid_command_seconds: u64,
    /// The number of sample translations shown at each validation. Default 3.
    pub samples: usize,
    /// The number of threads that share the sentences of an update: `auto` or a number. Default `auto`.
    pub workers: Workers,
    /// The number of threads inside each operation of a worker. Default 1.
    pub threads_per_worker: usize,
    /// With several processes: whether each keeps the moments of a share of the parameters only and updates these.
    /// With `reduce = "f32"`, this does not change the result. Default `true`.
    pub shard_optimizer: bool,
    /// With several processes: the number format in which gradients travel between them. Default `f32`.
    pub reduce: ReduceKind,
    /// With several processes: whether gradients travel while the backward pass goes on. Does not change the result.
    /// Default `true`.
    pub overlap_reduction: bool,
    /// With several processes: how many seconds they wait for each other before they take one for lost. Default 600.
    pub rank_timeout: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            initialisation: Initialisation::ScaledResidual,
            max_updates: 10_000,
            max_epochs: 0,
            optimizer: OptimizerKind::Adam,
            learning_rate: 2e-3,
            min_learning_rate: 0.0,
            schedule: Schedule::Cosine,
            warmup_updates: 500,
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-9,
            weight_decay: 0.0,
            label_smoothing: 0.1,
            r_drop: 0.0,
            guided_alignment: 0.1,
            clip_norm: 1.0,
            max_skipped: 10,
            on_divergence: OnDivergence::Stop,
            back_off: 0.5,
            accumulate: 1,
            compute: ComputeKind::F32,
            ema_decay: 0.0,
            validate_every: 500,
            checkpoint_every: 500,
            log_every: 10,
            metric: Measure::default(),
            patience: 10,
            keep_best: 1,
            keep_last: 3,
            average_last: 0,
            valid_beam: 1,
            valid_set: MEAN.into(),
            valid_command: Vec::new(),
            valid_command_seconds: 600,
            samples: 3,
            workers: Workers::Auto,
            threads_per_worker: 1,
            shard_optimizer: true,
            reduce: ReduceKind::F32,
            overlap_reduction: true,
            rank_timeout: 600,
        }
    }
}

impl TrainConfig {
    /// The options for computing the gradient of an update with this many workers.
    pub(crate) fn gradient_options(&self, seed: u64, update: u64, workers: usize) -> GradientOptions {
        GradientOptions {
            label_smoothing: self.label_smoothing,
            r_drop: (self.r_drop > 0.0).then_some(self.r_drop),
            guided_alignment: (self.guided_alignment > 0.0).then_some(self.guided_alignment),
            dropout: Some(DropoutKey {
                seed,
                update,
                micro_batch: 0,
            }),
            compute: self.compute.into(),
            workers,
        }
    }

    /// The search settings of validation for a model with these settings.
    pub fn valid_search(&self, decode: &DecodeConfig) -> DecodeConfig {
        DecodeConfig {
            beam: self.valid_beam.max(1),
            groups: 1,
            n_best: 1,
            sample: false,
            mbr: Utility::None,
            keep: Vec::new(),
            // A shortlist can only be made once there is a model.
            shortlist: None,
            ..decode.without_failing()
        }
    }

    /// The validation set that decides, if it is not the mean of all.
    pub fn chosen_valid_set(&self) -> Option<&str> {
        (self.valid_set != MEAN).then_some(&self.valid_set)
    }

    /// Every fault of the section, each beginning with the path of its key; empty if there is none.
    pub fn validate(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let counts = [
            ("max_updates", self.max_updates),
            ("max_skipped", self.max_skipped),
            ("accumulate", self.accumulate),
            ("validate_every", self.validate_every),
            ("checkpoint_every", self.checkpoint_every),
            ("log_every", self.log_every),
            ("keep_last", self.keep_last as u64),
            ("threads_per_worker", self.threads_per_worker as u64),
            ("valid_command_seconds", self.valid_command_seconds),
            ("rank_timeout", self.rank_timeout),
        ];
        for (key, value) in counts {
            if value == 0 {
                faults.push(format!("train.{key}: 0 must be at least 1"));
            }
        }
        if self.valid_beam == 0 || self.valid_beam > 1 << 10 {
            faults.push(format!(
                "train.valid_beam: {} is not between 1 and 1024",
                self.valid_beam
            ));
        }
        let shares = [
            ("beta1", self.beta1),
            ("beta2", self.beta2),
            ("label_smoothing", self.label_smoothing),
            ("ema_decay", self.ema_decay),
        ];
        for (key, value) in shares {
            if !(0.0..1.0).contains(&value) {
                faults.push(format!("train.{key}: {value} is not from 0 to below 1"));
            }
        }
        let amounts = [
            ("min_learning_rate", self.min_learning_rate),
            ("weight_decay", self.weight_decay),
            ("r_drop", self.r_drop),
            ("guided_alignment", self.guided_alignment),
            ("clip_norm", self.clip_norm),
        ];
        for (key, value) in amounts {
            if !fits(value) || value < 0.0 {
                faults.push(format!(
                    "train.{key}: {value} is not a number of at least 0 that 32 bits can hold"
                ));
            }
        }
        // A smaller epsilon is zero or nearly zero in 32 bits. The step of a weight that has had no gradient is zero
        // divided by epsilon.
        if !fits(self.epsilon) || self.epsilon < f64::from(f32::MIN_POSITIVE) {
            faults.push(format!(
                "train.epsilon: {} is not a number of at least 1.2e-38; weights without a gradient would be divided by zero. \
                 1e-9 is usual",
                self.epsilon
            ));
        }
        for (key, value) in [("r_drop", self.r_drop), ("guided_alignment", self.guided_alignment)] {
            if value > MOST_ADDED {
                faults.push(format!("train.{key}: {value} is more than {MOST_ADDED}"));
            }
        }
        if !(self.back_off > 0.0 && self.back_off < 1.0) {
            faults.push(format!("train.back_off: {} is not between 0 and 1", self.back_off));
        }
        if !fits(self.learning_rate) || self.learning_rate <= 0.0 {
            faults.push(format!(
                "train.learning_rate: {} is not a positive number that 32 bits can hold",
                self.learning_rate
            ));
        }
        let falls_to_least = matches!(self.schedule, Schedule::Cosine | Schedule::Linear);
        if falls_to_least && self.min_learning_rate > self.learning_rate {
            faults.push(format!(
                "train.min_learning_rate: {} is above train.learning_rate ({}), from which the schedule falls to it",
                self.min_learning_rate, self.learning_rate
            ));
        }
        if self.schedule == Schedule::Noam && self.warmup_updates == 0 {
            faults.push("train.warmup_updates: the noam schedule needs a warmup of at least 1".into());
        }
        if self.average_last > self.keep_last {
            let (average, keep) = (self.average_last, self.keep_last);
            faults.push(format!(
                "train.average_last: {average} checkpoints, but train.keep_last keeps only {keep}"
            ));
        }
        if self.on_divergence == OnDivergence::GoBack && self.keep_last < 2 {
            faults.push(
                "train.keep_last: with train.on_divergence = \"go-back\", at least 2: the last checkpoint may have the fault \
                 already"
                    .into(),
            );
        }
        if self.metric == Measure::Command && self.valid_command.is_empty() {
            faults.push(
                "train.metric: \"command\" is the number of your own program, and train.valid_command names none"
                    .into(),
            );
        }
        if self.valid_command.first().is_some_and(String::is_empty) {
            faults.push("train.valid_command: the name of the program is empty".into());
        }
        if self.workers == Workers::Count(0) {
            faults.push("train.workers: 0 must be at least 1, or \"auto\"".into());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_are_called_what_configs_call_them() {
        for kind in ComputeKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }

    #[test]
    fn every_fault_is_reported() {
        assert!(TrainConfig::default().validate().is_empty());
        let config = TrainConfig {
            max_updates: 0,
            beta1: 1.0,
            learning_rate: f64::NAN,
            max_skipped: 0,
            r_drop: -1.0,
            back_off: 1.0,
            on_divergence: OnDivergence::GoBack,
            keep_last: 1,
            average_last: 9,
            workers: Workers::Count(0),
            ..TrainConfig::default()
        };
        let faults = config.validate().join("\n");
        for key in [
            "max_updates",
            "beta1",
            "learning_rate",
            "max_skipped",
            "r_drop",
            "back_off",
            "keep_last",
            "average_last",
            "workers",
        ] {
            assert!(faults.contains(&format!("train.{key}")), "{faults}");
        }
    }

    #[test]
    fn what_32_bits_cannot_hold_is_refused() {
        let faults = |config: TrainConfig| config.validate().join("\n");
        let default = TrainConfig::default();
        for epsilon in [0.0, 1e-50, 1e-39, 1e39, f64::NAN, -1e-9] {
            let config = TrainConfig {
                epsilon,
                ..default.clone()
            };
            assert!(faults(config).starts_with("train.epsilon: "), "{epsilon}");
        }
        for (learning_rate, epsilon) in [(1e-3, 1.2e-38), (3e38, 1e-9)] {
            let config = TrainConfig {
                learning_rate,
                epsilon,
                ..default.clone()
            };
            assert_eq!(faults(config), "");
        }
        let config = TrainConfig {
            learning_rate: 1e39,
            weight_decay: 1e39,
            ..default
        };
        let faults = faults(config);
        assert!(
            faults.contains("train.learning_rate: ") && faults.contains("train.weight_decay: "),
            "{faults}"
        );
    }

    #[test]
    fn no_schedule_rises_to_its_least_rate() {
        let faults = |schedule, min_learning_rate| {
            let config = TrainConfig {
                schedule,
                min_learning_rate,
                learning_rate: 1e-3,
                ..TrainConfig::default()
            };
            config.validate().join("\n")
        };
        for schedule in [Schedule::Cosine, Schedule::Linear] {
            let fault = faults(schedule, 0.5);
            assert!(
                fault.contains("train.min_learning_rate: 0.5 is above train.learning_rate (0.001)"),
                "{fault}"
            );
            assert_eq!(faults(schedule, 1e-3), "");
        }
        // These schedules do not fall, so the minimum has no meaning.
        for schedule in [Schedule::InverseSqrt, Schedule::Noam, Schedule::Constant] {
            assert_eq!(faults(schedule, 0.5), "");
        }
    }
}
