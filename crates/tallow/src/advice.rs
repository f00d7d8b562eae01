//! Which model and which training serve which amount of text: for the configs that Tallow writes, and for remarks on
//! those of others.
//!
//! The sizes follow what is known of training with little data (Sennrich and Zhang 2019; Araabi and Monz 2020: smaller
//! models, more dropout, smaller vocabularies), the models of the papers where there is much (Vaswani et al. 2017), and
//! the measurements in `docs/multi30k.md` and `docs/defaults.md`.

use crate::config::Config;
use crate::humanize::{counted, thousands};
use tallow_model::Norm;
use tallow_train::Schedule;

/// What is known of a text before it is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TextFacts {
    /// The number of pairs.
    pub pairs: u64,
    /// The characters of source and target.
    pub characters: [u64; 2],
    /// Whether words are separated by spaces on either side.
    pub has_spaces: [bool; 2],
}

/// A model and a vocabulary that fit an amount of text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fitting {
    /// The largest number of target tokens for which it is meant.
    pub up_to_tokens: f64,
    /// `model.d_model`.
    pub d_model: usize,
    /// `model.feed_forward`.
    pub feed_forward: usize,
    /// `model.encoder_layers` and `model.decoder_layers`.
    pub layers: usize,
    /// `model.heads`.
    pub heads: usize,
    /// `model.dropout`.
    pub dropout: f32,
    /// `text.vocabulary`.
    pub vocabulary: usize,
    /// `data.batch_tokens`.
    pub batch_tokens: usize,
}

const fn fitting(
    up_to_tokens: f64,
    (d_model, feed_forward, layers, heads): (usize, usize, usize, usize),
    dropout: f32,
    vocabulary: usize,
    batch_tokens: usize,
) -> Fitting {
    Fitting {
        up_to_tokens,
        d_model,
        feed_forward,
        layers,
        heads,
        dropout,
        vocabulary,
        batch_tokens,
    }
}

/// From little to much text.
const FITTINGS: [Fitting; 6] = [
    fitting(1e5, (128, 256, 3, 4), 0.3, 2000, 1024),
    fitting(1e6, (128, 256, 4, 4), 0.2, 8000, 4096),
    fitting(5e6, (256, 1024, 4, 4), 0.2, 8000, 4096),
    fitting(3e7, (384, 1536, 5, 6), 0.1, 16000, 8192),
    fitting(1.5e8, (512, 2048, 6, 8), 0.1, 24000, 16384),
    fitting(f64::INFINITY, (512, 2048, 6, 8), 0.1, 32000, 16384),
];

/// Passes over the text from which a model learns something, for each of the fittings.
const EPOCHS: [f64; 6] = [40.0, 15.0, 15.0, 10.0, 6.0, 3.0];

/// Characters that a token stands for on average, with and without spaces between words. Only sizes follow from it.
const CHARACTERS_OF_TOKEN: [f64; 2] = [1.5, 3.5];

/// The batches of all but little text.
const USUAL_BATCH: usize = 4096;

/// The share of a batch that is no padding.
const FILLED: f64 = 0.8;

/// The target tokens that a text will have, `</s>` included.
pub fn target_tokens(facts: &TextFacts) -> f64 {
    tokens_of(facts.characters[1] as f64, facts.has_spaces[1]) + facts.pairs as f64
}

/// The tokens of so many characters, without `</s>`, about.
pub(crate) fn tokens_of(characters: f64, has_spaces: bool) -> f64 {
    characters / CHARACTERS_OF_TOKEN[usize::from(has_spaces)]
}

/// The number of passes over a text that serve a model.
pub fn epochs_that_serve(facts: &TextFacts) -> f64 {
    EPOCHS[number_for(target_tokens(facts))]
}

fn number_for(tokens: f64) -> usize {
    FITTINGS
        .iter()
        .position(|fitting| tokens <= fitting.up_to_tokens)
        .unwrap_or(FITTINGS.len() - 1)
}

impl Fitting {
    /// The fitting for a text of so many target tokens.
    pub fn for_tokens(tokens: f64) -> Self {
        FITTINGS[number_for(tokens)]
    }

    /// The fitting for a text, and those of smaller models for less time. All have the vocabulary and the dropout for
    /// the text, and none has the small batches that only little text needs.
    pub fn for_text_and_smaller(facts: &TextFacts) -> Vec<Self> {
        let largest = number_for(target_tokens(facts));
        let own = FITTINGS[largest];
        let smaller = FITTINGS[..=largest].iter().rev().map(|fitting| Self {
            vocabulary: own.vocabulary,
            dropout: own.dropout.min(fitting.dropout),
            batch_tokens: fitting.batch_tokens.max(own.batch_tokens.min(USUAL_BATCH)),
            ..*fitting
        });
        let mut all: Vec<Self> = smaller.collect();
        all.dedup_by_key(|fitting| (fitting.d_model, fitting.layers));
        all
    }

    /// The target tokens of an update.
    pub fn tokens_per_update(&self) -> f64 {
        FILLED * self.batch_tokens as f64
    }

    /// The updates of so many passes over a text.
    pub fn updates(&self, facts: &TextFacts, epochs: f64) -> u64 {
        (epochs * target_tokens(facts) / self.tokens_per_update())
            .ceil()
            .max(1000.0) as u64
    }
}

/// A remark on a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The key that it is about.
    pub key: &'static str,
    /// What is unusual.
    pub found: String,
    /// What to do.
    pub advice: String,
}

/// What is known of a run before it begins.
#[derive(Clone, Copy, Debug)]
pub struct RunFacts {
    /// The training pairs.
    pub pairs: u64,
    /// The target tokens of the training text.
    pub target_tokens: u64,
    /// The trained parameters of the model.
    pub parameters: u64,
    /// Updates of the run.
    pub updates: u64,
    /// Passes over the text.
    pub epochs: f64,
    /// Updates of one pass.
    pub updates_per_epoch: u64,
    /// The pairs of all validation sets.
    pub valid_pairs: u64,
}

/// More passes than this over little text teach a model its text by heart.
const MOST_EPOCHS: f64 = 150.0;
/// Batches of an epoch below which batches are too large for the text.
const FEWEST_UPDATES_PER_EPOCH: u64 = 10;
/// Trained parameters for each target token of the text beyond which a smaller model is usually better.
const MOST_PARAMETERS_PER_TOKEN: f64 = 40.0;
/// Layers of one side from which post-norm needs care.
const DEEP: usize = 6;
/// With fewer pairs, a run is a trial or a proof, and nobody needs advice.
const FEW_PAIRS: u64 = 1000;
/// Fewer pairs measure nothing but noise.
const FEWEST_VALID: u64 = 50;

/// Remarks on a config, most of which are a matter of judgment. A model that begins with another one (`init`) is not
/// judged by the amount of text.
pub fn remarks(config: &Config, facts: &RunFacts) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut remark = |key, found: String, advice: String| remarks.push(Remark { key, found, advice });
    let (model, train) = (&config.model, &config.train);
    let tokens = facts.target_tokens as f64;
    let fitting = Fitting::for_tokens(tokens);
    let is_new = config.init.is_none();
    let per_token = facts.parameters as f64 / tokens.max(1.0);
    if is_new && per_token > MOST_PARAMETERS_PER_TOKEN && model.d_model > fitting.d_model {
        remark(
            "model",
            format!(
                "{} parameters for {} target tokens of text, {per_token:.0} for each",
                thousands(facts.parameters as f64),
                thousands(tokens)
            ),
            format!(
                "a smaller model usually does better on little text, and is faster: d_model = {}, feed_forward = {}, {}+{} layers, \
                 dropout = {}",
                fitting.d_model, fitting.feed_forward, fitting.layers, fitting.layers, fitting.dropout
            ),
        );
    }
    if is_new && model.dropout + 0.15 < fitting.dropout && facts.epochs > 20.0 && facts.pairs > FEW_PAIRS {
        remark(
            "model.dropout",
            format!("{} for {} target tokens of text", model.dropout, thousands(tokens)),
            format!("{} is usual for so little text", fitting.dropout),
        );
    }
    if config.text.learns() && is_new && config.text.vocabulary > 2 * fitting.vocabulary {
        remark(
            "text.vocabulary",
            format!(
                "{} pieces for {} target tokens of text: many occur a few times only",
                thousands(config.text.vocabulary as f64),
                thousands(tokens)
            ),
            format!("about {} are usual", thousands(fitting.vocabulary as f64)),
        );
    }
    if facts.epochs < 1.0 {
        remark(
            "train.max_updates",
            format!(
                "training ends after {:.0} % of the text has been seen once",
                100.0 * facts.epochs
            ),
            format!(
                "{} updates are one pass over the text",
                thousands(facts.updates_per_epoch as f64)
            ),
        );
    } else if facts.epochs > MOST_EPOCHS && facts.pairs > FEW_PAIRS && train.patience == 0 {
        remark(
            "train.max_updates",
            format!(
                "every pair is seen {:.0} times, and train.patience = 0 never ends earlier",
                facts.epochs
            ),
            "a model learns so little text by heart: fewer updates, or a patience of 5 to 10".into(),
        );
    }
    let has_large_batches = config.data.batch_tokens > fitting.batch_tokens;
    if facts.updates_per_epoch < FEWEST_UPDATES_PER_EPOCH && facts.pairs > 200 && has_large_batches {
        remark(
            "data.batch_tokens",
            format!(
                "a pass over the text is {} updates of {} tokens",
                facts.updates_per_epoch, config.data.batch_tokens
            ),
            format!("smaller batches learn more from each pass: {}", fitting.batch_tokens),
        );
    }
    let warmup = train.warmup_updates;
    if 2 * warmup > facts.updates && facts.updates > 1 && train.schedule != Schedule::Constant {
        remark(
            "train.warmup_updates",
            format!("{warmup} of {} updates", facts.updates),
            format!(
                "the learning rate hardly falls again; {} is usual for so many updates",
                (facts.updates / 2).clamp(1, 500)
            ),
        );
    }
    let deepest = model.encoder_layers.max(model.decoder_layers);
    let is_xavier = train.initialisation == tallow_model::Initialisation::Xavier;
    if is_new && model.norm == Norm::Post && is_xavier && deepest >= 4 {
        remark(
            "train.initialisation",
            format!("Xavier's with {deepest} layers of norm = \"post\" and a learning rate of {}", train.learning_rate),
            "such runs can stay on a plateau, where the loss stops falling early: \"scaled-residual\" does not, nor does norm = \
             \"pre\" (docs/multi30k.md)"
                .into(),
        );
    }
    let rises_fast = warmup < 200 && train.schedule != Schedule::Noam && facts.updates > 1000;
    if is_new && model.norm == Norm::Post && deepest >= DEEP && rises_fast {
        remark(
            "train.warmup_updates",
            format!("{warmup} updates for {deepest} layers of norm = \"post\""),
            "deep post-norm models diverge or stay on a plateau after so short a warmup; 500 is usual".into(),
        );
    }
    if facts.valid_pairs > 0 && train.validate_every > facts.updates {
        remark(
            "train.validate_every",
            format!(
                "{} is more than the {} updates of the run",
                train.validate_every, facts.updates
            ),
            "the best model is chosen among one; validate ten times or more".into(),
        );
    }
    if facts.valid_pairs > 0 && facts.valid_pairs < FEWEST_VALID && facts.pairs > FEW_PAIRS {
        remark(
            "data.valid",
            counted(facts.valid_pairs, "pair"),
            "the score of so few changes by chance; some hundred choose better".into(),
        );
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use tallow_model::Initialisation;

    /// Multi30k: 29,000 captions, and its quick recipe.
    const CAPTIONS: RunFacts = RunFacts {
        pairs: 29_000,
        target_tokens: 420_000,
        parameters: 2_900_000,
        updates: 2000,
        epochs: 15.0,
        updates_per_epoch: 130,
        valid_pairs: 1014,
    };

    fn captions() -> Config {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/multi30k-en-de-quick.toml");
        Config::compose::<&str>(path, &[]).unwrap().config
    }

    fn keys(config: &Config, facts: &RunFacts) -> Vec<&'static str> {
        remarks(config, facts).into_iter().map(|remark| remark.key).collect()
    }

    #[test]
    fn a_recipe_that_works_gets_no_advice() {
        assert_eq!(remarks(&captions(), &CAPTIONS), []);
    }

    #[test]
    fn each_oddity_gets_its_advice_and_no_other() {
        type Change = fn(&mut Config, &mut RunFacts);
        let changes: [(&str, Change); 9] = [
            ("model", |config, facts| {
                config.model.d_model = 512;
                facts.parameters = 60_000_000;
            }),
            ("model.dropout", |config, facts| {
                config.model.dropout = 0.0;
                facts.epochs = 50.0;
            }),
            ("text.vocabulary", |config, _| config.text.vocabulary = 32_000),
            ("train.max_updates", |_, facts| facts.epochs = 0.5),
            ("train.max_updates", |_, facts| facts.epochs = 400.0),
            ("data.batch_tokens", |config, facts| {
                config.data.batch_tokens = 65_536;
                facts.updates_per_epoch = 8;
            }),
            ("train.warmup_updates", |config, _| config.train.warmup_updates = 1500),
            ("train.initialisation", |config, _| {
                config.train.initialisation = Initialisation::Xavier;
            }),
            ("data.valid", |_, facts| facts.valid_pairs = 12),
        ];
        for (key, change) in changes {
            let (mut config, mut facts) = (captions(), CAPTIONS);
            change(&mut config, &mut facts);
            assert_eq!(keys(&config, &facts), [key]);
        }
        let mut config = captions();
        config.train.validate_every = 2001;
        assert_eq!(keys(&config, &CAPTIONS), ["train.validate_every"]);
        config = captions();
        config.model.encoder_layers = 8;
        config.train.warmup_updates = 100;
        assert_eq!(keys(&config, &CAPTIONS), ["train.warmup_updates"]);
    }

    #[test]
    fn models_grow_with_the_text_and_shrink_with_the_time() {
        let facts = |pairs| TextFacts {
            pairs,
            characters: [60 * pairs, 60 * pairs],
            has_spaces: [true; 2],
        };
        let own = |pairs| Fitting::for_text_and_smaller(&facts(pairs))[0];
        let sizes = [3_000, 29_000, 200_000, 1_000_000, 5_000_000, 50_000_000].map(|pairs| own(pairs).d_model);
        assert_eq!(sizes, [128, 128, 256, 384, 512, 512]);
        let all = Fitting::for_text_and_smaller(&facts(5_000_000));
        let widths: Vec<(usize, usize)> = all.iter().map(|fitting| (fitting.d_model, fitting.layers)).collect();
        assert_eq!(widths, [(512, 6), (384, 5), (256, 4), (128, 4), (128, 3)]);
        // Small models of much text keep its vocabulary, and its light dropout and usual batches.
        assert!(
            all.iter()
                .all(|fitting| fitting.vocabulary == 24_000 && fitting.dropout <= 0.1)
        );
        assert_eq!(all[4].batch_tokens, 4096);
        assert_eq!(own(3_000).batch_tokens, 1024);
    }
}
