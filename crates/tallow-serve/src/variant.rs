//! A model with the settings of a search.

use crate::engine::{Refusal, lock};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tallow_decode::{DecodeConfig, Translator, Utility};

/// The most searches of a model that are kept ready.
const MOST: usize = 16;

/// What a request changes in the search of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wish {
    /// Translations of each text.
    pub(crate) n_best: Option<usize>,
    /// Hypotheses kept at every step.
    pub(crate) beam: Option<usize>,
    /// Whether the attention is recorded.
    pub(crate) attention: bool,
}

impl Wish {
    fn apply(&self, config: &DecodeConfig) -> DecodeConfig {
        let mut config = config.clone();
        if let Some(beam) = self.beam {
            config.beam = beam;
            config.n_best = config.n_best.min(beam);
        }
        if let Some(n_best) = self.n_best {
            config.n_best = n_best;
            config.distinct = n_best > 1;
            // Who asks for ten translations needs a beam that is wide enough.
            if config.mbr == Utility::None {
                config.beam = config.beam.max(n_best);
            }
        }
        if !config.beam.is_multiple_of(config.groups.max(1)) {
            config.groups = 1;
        }
        config
    }
}

/// A model with the settings of a search.
#[derive(Debug)]
pub(crate) struct Variant {
    /// No other search of the process has this number.
    pub(crate) id: u64,
    pub(crate) translator: Translator,
    /// Whether the same sentence always gets the same translation, whatever its number.
    pub(crate) is_repeatable: bool,
}

impl Variant {
    pub(crate) fn new(translator: Translator) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let config = translator.config();
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            is_repeatable: !config.sample && config.mbr == Utility::None,
            translator,
        }
    }
}

/// The searches of a model, each made when it is first asked for.
#[derive(Debug)]
pub(crate) struct Variants {
    plain: Arc<Variant>,
    others: Mutex<Vec<(Wish, Arc<Variant>)>>,
}

impl Variants {
    pub(crate) fn new(translator: Translator) -> Self {
        Self {
            plain: Arc::new(Variant::new(translator)),
            others: Mutex::default(),
        }
    }

    /// The search as the model's own settings describe it.
    pub(crate) fn plain(&self) -> &Arc<Variant> {
        &self.plain
    }

    /// The search for a wish.
    ///
    /// # Errors
    /// When the model cannot be searched so.
    pub(crate) fn of(&self, wish: &Wish) -> Result<Arc<Variant>, Refusal> {
        let base = &self.plain.translator;
        let config = wish.apply(base.config());
        if !wish.attention && config == *base.config() {
            return Ok(self.plain.clone());
        }
        let mut others = lock(&self.others);
        if let Some(at) = others.iter().position(|(other, _)| other == wish) {
            // The one that was used last is the last to leave.
            let found = others.remove(at);
            others.push(found.clone());
            return Ok(found.1);
        }
        let builder = base.to_builder().config(config).attention(wish.attention);
        let variant = Arc::new(Variant::new(builder.build().map_err(Refusal::of)?));
        if others.len() >= MOST {
            others.remove(0);
        }
        others.push((wish.clone(), variant.clone()));
        Ok(variant)
    }
}
