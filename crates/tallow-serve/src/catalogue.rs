//! The models of a server: found by language, loaded when they are needed, changed while others translate.

use crate::Error;
use crate::config::ModelEntry;
use crate::engine::{Refusal, lock};
use crate::event::{ServeEvent, ServeObserver};
use crate::metrics::Metrics;
use crate::variant::{Variant, Variants, Wish};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tallow::{Device, Event, Hub, Listener, Notice, Observer, SavedModel};
use tallow_data::Language;
use tallow_decode::Translator;

/// A model in memory. It stays as long as a request uses it, whatever the catalogue does meanwhile.
#[derive(Debug)]
pub(crate) struct LoadedModel {
    variants: Variants,
    bytes: u64,
    sha256: String,
}

impl LoadedModel {
    /// The search as the model's own settings describe it.
    pub(crate) fn plain(&self) -> &Arc<Variant> {
        self.variants.plain()
    }

    /// The search for a wish.
    ///
    /// # Errors
    /// When the model cannot be searched so.
    pub(crate) fn variant(&self, wish: &Wish) -> Result<Arc<Variant>, Refusal> {
        self.variants.of(wish)
    }
}

/// A model of the config.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Its name in requests.
    pub(crate) name: String,
    /// The code of the language that it reads.
    pub(crate) source: String,
    /// The code of the language that it writes.
    pub(crate) target: String,
    entry: ModelEntry,
    state: Mutex<Option<Arc<LoadedModel>>>,
    /// Held while the model is being loaded, so that it is loaded once.
    loading: Mutex<()>,
    /// Held by the request that has the model loaded.
    pub(crate) turn: tokio::sync::Mutex<()>,
    /// The number of its last use.
    used: AtomicU64,
}

/// All models.
pub(crate) struct Catalogue {
    slots: Vec<Slot>,
    hub: Hub,
    /// The most bytes of all models; 0 sets no limit.
    limit: u64,
    uses: AtomicU64,
    metrics: Arc<Metrics>,
    observer: Arc<dyn ServeObserver>,
}

/// Keeps notices until they can be passed on.
#[derive(Default)]
struct Notices(RefCell<Vec<String>>);

impl Observer for Notices {
    fn observe(&self, _: &Event) {}
}

impl Listener for Notices {
    fn notice(&self, notice: &Notice) {
        self.0.borrow_mut().push(notice.to_string());
    }
}

impl Catalogue {
    /// Finds all models, and loads as many as the limit allows, in their order.
    ///
    /// # Errors
    /// When a model cannot be loaded, or has no languages, or two have the same name.
    pub(crate) fn open(
        entries: &[ModelEntry],
        hub: Hub,
        limit: u64,
        metrics: Arc<Metrics>,
        observer: Arc<dyn ServeObserver>,
    ) -> Result<Self, Error> {
        let mut slots: Vec<Slot> = Vec::new();
        for entry in entries {
            let slot = Slot::find(entry, &hub, &*observer)?;
            if slots.iter().any(|other| other.name == slot.name) {
                return Err(Error::SameName(slot.name));
            }
            slots.push(slot);
        }
        let catalogue = Self {
            slots,
            hub,
            limit,
            uses: AtomicU64::new(0),
            metrics,
            observer,
        };
        for slot in &catalogue.slots {
            if limit > 0 && catalogue.bytes() >= limit {
                break;
            }
            catalogue.load(slot)?;
        }
        Ok(catalogue)
    }

    /// The models in the order of the config.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The model with a name.
    pub(crate) fn named(&self, name: &str) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.name == name)
    }

    /// The first model between two languages.
    pub(crate) fn between(&self, source: &str, target: &str) -> Option<&Slot> {
        let is_it = |slot: &&Slot| slot.source == source && slot.target == target;
        self.slots.iter().find(is_it)
    }

    /// The model in memory. Loads it if it has left, which blocks.
    ///
    /// # Errors
    /// When it cannot be loaded.
    pub(crate) fn get(&self, slot: &Slot) -> Result<Arc<LoadedModel>, Refusal> {
        slot.used
            .store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        if let Some(model) = slot.loaded() {
            return Ok(model);
        }
        let _one_at_a_time = lock(&slot.loading);
        if let Some(model) = slot.loaded() {
            return Ok(model);
        }
        self.load(slot).map_err(|error| Refusal::Failed(error.to_string()))
    }

    /// The model in memory, if it is there.
    pub(crate) fn loaded(&self, slot: &Slot) -> Option<Arc<LoadedModel>> {
        let model = slot.loaded()?;
        slot.used
            .store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Some(model)
    }

    /// Looks at the files of all loaded models, and loads those that have changed. Requests at hand keep the model that
    /// they began with. A model that cannot be loaded leaves the one before it in its place.
    pub(crate) fn reload(&self) {
        for slot in &self.slots {
            let _one_at_a_time = lock(&slot.loading);
            let Some(loaded) = slot.loaded() else { continue };
            let notices = Notices::default();
            let found = SavedModel::find(&slot.entry.path, &self.hub, &notices).and_then(|saved| saved.sha256());
            if found.is_ok_and(|sha256| sha256 == loaded.sha256) {
                continue;
            }
            if let Err(error) = self.load(slot) {
                self.observer.observe(&ServeEvent::NotLoaded {
                    model: slot.name.clone(),
                    reason: error.to_string(),
                });
            }
        }
    }

    fn bytes(&self) -> u64 {
        let loaded = self.slots.iter().filter_map(Slot::loaded);
        loaded.map(|model| model.bytes).sum()
    }

    fn load(&self, slot: &Slot) -> Result<Arc<LoadedModel>, Error> {
        let begin = Instant::now();
        let notices = Notices::default();
        let model = Arc::new(slot.open(&self.hub, &notices)?);
        for text in notices.0.into_inner() {
            self.observer.observe(&ServeEvent::Notice { text });
        }
        slot.used
            .store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        *lock(&slot.state) = Some(model.clone());
        self.observer.observe(&ServeEvent::Loaded {
            model: slot.name.clone(),
            bytes: model.bytes,
            seconds: begin.elapsed().as_secs_f64(),
        });
        self.make_room(slot);
        let loaded = self.slots.iter().filter(|slot| slot.loaded().is_some()).count();
        self.metrics.models_loaded.set(loaded as i64);
        self.metrics.models_bytes.set(self.bytes() as i64);
        Ok(model)
    }

    /// Lets models leave, those that were used least recently first, until the rest is within the limit.
    fn make_room(&self, newest: &Slot) {
        while self.limit > 0 && self.bytes() > self.limit {
            let others = self
                .slots
                .iter()
                .filter(|slot| slot.name != newest.name && slot.loaded().is_some());
            let Some(oldest) = others.min_by_key(|slot| slot.used.load(Ordering::Relaxed)) else {
                break;
            };
            *lock(&oldest.state) = None;
            self.observer.observe(&ServeEvent::Left {
                model: oldest.name.clone(),
            });
        }
    }
}

impl Slot {
    fn find(entry: &ModelEntry, hub: &Hub, observer: &dyn ServeObserver) -> Result<Self, Error> {
        let notices = Notices::default();
        let saved = SavedModel::find(&entry.path, hub, &notices)?;
        for text in notices.0.into_inner() {
            observer.observe(&ServeEvent::Notice { text });
        }
        let [source, target] = match (entry.source.is_empty(), saved.languages()) {
            (false, _) => [entry.source.clone(), entry.target.clone()],
            (true, Some(languages)) => languages,
            (true, None) => return Err(Error::NoLanguages(entry.path.clone())),
        };
        Ok(Self {
            name: match entry.name.is_empty() {
                true => format!("{source}-{target}"),
                false => entry.name.clone(),
            },
            source,
            target,
            entry: entry.clone(),
            state: Mutex::default(),
            loading: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            used: AtomicU64::new(0),
        })
    }

    fn open(&self, hub: &Hub, notices: &Notices) -> Result<LoadedModel, Error> {
        let path = &self.entry.path;
        let saved = SavedModel::find(path, hub, notices)?;
        let sha256 = saved.sha256()?;
        let own = saved.decode_config();
        let search = self.entry.search(&own).map_err(|fault| Error::Search {
            model: path.clone(),
            fault,
        })?;
        let (model, tokenizers) = saved.open_prepared(&Device::Cpu, search.compute.into())?;
        let bytes = model.packed_bytes().unwrap_or_default() as u64;
        let translator = Translator::builder(model, tokenizers).config(search).build();
        let translator = translator.map_err(|error| Error::Search {
            model: path.clone(),
            fault: error.to_string(),
        })?;
        Ok(LoadedModel {
            variants: Variants::new(translator),
            bytes,
            sha256,
        })
    }

    /// The model in memory, if it is there.
    pub(crate) fn loaded(&self) -> Option<Arc<LoadedModel>> {
        lock(&self.state).clone()
    }
}

/// The English name of a language, or its code where that is unknown.
pub(crate) fn name_of(code: &str) -> &str {
    match Language::of_code(code) {
        Some(language) => language.name(),
        None => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The small model of the tests of the command line.
    fn model(at: &Path) -> String {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let weights = crates.join("tallow-cli/tests/fixtures/opus/model");
        let tokenizer = crates.join("tallow-text/tests/fixtures/marian/languages");
        for (folder, name) in [
            (&weights, "config.json"),
            (&weights, "generation_config.json"),
            (&weights, "model.safetensors"),
            (&tokenizer, "source.spm"),
            (&tokenizer, "target.spm"),
            (&tokenizer, "vocab.json"),
            (&tokenizer, "tokenizer_config.json"),
        ] {
            std::fs::copy(folder.join(name), at.join(name)).unwrap();
        }
        at.to_str().unwrap().to_owned()
    }

    /// The model that was used least recently leaves, and comes back when it is needed.
    #[test]
    fn models_stay_within_their_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = model(folder.path());
        let entry = |source: &str| ModelEntry {
            path: path.clone(),
            source: source.to_owned(),
            target: "en".to_owned(),
            ..ModelEntry::default()
        };
        let entries = ["de", "cs", "fr"].map(entry);
        let open = |limit| {
            let metrics = Arc::new(Metrics::new());
            Catalogue::open(&entries, Hub::none(), limit, metrics, Arc::new(|_: &ServeEvent| ())).unwrap()
        };
        let loaded = |catalogue: &Catalogue| {
            let slots = catalogue.slots().iter().filter(|slot| slot.loaded().is_some());
            slots.map(|slot| slot.source.clone()).collect::<Vec<String>>()
        };
        let all = open(0);
        assert_eq!(loaded(&all), ["de", "cs", "fr"]);
        let bytes = all.bytes() / 3;
        assert!(bytes > 0);
        let catalogue = open(2 * bytes);
        assert_eq!(loaded(&catalogue), ["de", "cs"]);
        let get = |name: &str| catalogue.get(catalogue.named(name).unwrap()).unwrap();
        let held = get("de-en");
        get("fr-en");
        assert_eq!(loaded(&catalogue), ["de", "fr"]);
        get("cs-en");
        assert_eq!(loaded(&catalogue), ["cs", "fr"]);
        // Whoever has a model keeps it.
        assert_eq!(held.bytes, bytes);
        assert!(catalogue.bytes() <= 2 * bytes);
    }
}
