//! The queue of sentences that wait for a worker: fair between clients, taken in batches.
//!
//! The order is that of start-time fair queueing (Goyal, Vin and Cheng 1996): a sentence gets a number when it arrives,
//! the later of the queue's clock and the end of its client's sentence before it. So a client that sends a thousand
//! sentences at once does not hold up a client that sends one.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Shares of the workers per token: those of an urgent sentence, and those of one that can wait.
const SHARES: [u64; 2] = [8, 1];

/// The clock's steps per token of a sentence with one share.
const STEPS: u64 = 64;

/// A batch is chosen among about this many times the sentences that it has room for.
const WINDOW: usize = 4;

/// From this many clients on, those that have no claim any more are forgotten.
const MANY_CLIENTS: usize = 1024;

/// How urgent a sentence is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Priority {
    /// A person waits.
    #[default]
    Interactive,
    /// Nobody waits: the sentence gets an eighth of the shares of others.
    Batch,
}

/// Who asks: a key, or an address. Clients share the workers evenly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ClientId(u64);

impl ClientId {
    /// The client with this name.
    pub(crate) fn of(name: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What can wait in the queue.
pub(crate) trait Queued {
    /// Only sentences of the same class are translated together.
    fn class(&self) -> u64;
    /// The number of source tokens.
    fn length(&self) -> usize;
    /// The number of rows of the model's input that it needs.
    fn rows(&self) -> usize;
    /// The most tokens times rows of a batch of its class.
    fn batch_limit(&self) -> usize;
    /// Whether somebody still waits for it.
    fn is_wanted(&self) -> bool;
}

/// A sentence that waits, and what its client is charged for it.
#[derive(Debug)]
struct Entry<T> {
    sentence: T,
    payer: Payer,
    steps: u64,
}

/// Urgent and other sentences of a client are charged apart, so that neither holds up the other.
type Payer = (ClientId, Priority);

/// Sentences that wait.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// By start and arrival.
    waiting: BTreeMap<(u64, u64), Entry<T>>,
    /// The start of the sentence that was taken last.
    clock: u64,
    /// Where the last sentence of each payer ends.
    ends: HashMap<Payer, u64>,
    /// The number of payers from which some may be forgotten.
    many: usize,
    arrivals: u64,
    tokens: usize,
    /// The tokens that wait, by client.
    clients: HashMap<ClientId, usize>,
    /// The rows that wait, by class.
    rows: HashMap<u64, usize>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            clock: 0,
            ends: HashMap::new(),
            many: MANY_CLIENTS,
            arrivals: 0,
            tokens: 0,
            clients: HashMap::new(),
            rows: HashMap::new(),
        }
    }
}

impl<T: Queued> Queue<T> {
    /// The number of waiting sentences.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The source tokens of all waiting sentences.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// The source tokens of a client's waiting sentences.
    pub(crate) fn tokens_of(&self, client: ClientId) -> usize {
        self.clients.get(&client).copied().unwrap_or_default()
    }

    /// The number of clients that would wait if this one did.
    pub(crate) fn clients_with(&self, client: ClientId) -> usize {
        self.clients.len() + usize::from(!self.clients.contains_key(&client))
    }

    /// Adds a sentence of a client.
    pub(crate) fn push(&mut self, sentence: T, client: ClientId, priority: Priority) {
        let payer = (client, priority);
        let work = (sentence.length() * sentence.rows().max(1)) as u64;
        let steps = work * STEPS / SHARES[priority as usize];
        let end = self.ends.entry(payer).or_default();
        let start = self.clock.max(*end);
        *end = start + steps;
        self.tokens += sentence.length();
        *self.clients.entry(client).or_default() += sentence.length();
        *self.rows.entry(sentence.class()).or_default() += sentence.rows();
        let entry = Entry { sentence, payer, steps };
        self.waiting.insert((start, self.arrivals), entry);
        self.arrivals += 1;
        if self.ends.len() > self.many {
            let clock = self.clock;
            self.ends.retain(|_, end| *end > clock);
            self.many = (2 * self.ends.len()).max(MANY_CLIENTS);
        }
    }

    /// Takes the next batch for one of `workers` workers: the first sentence, and others of its class that are of
    /// similar length. It has no more than this worker's part of the class: larger batches need less time for
    /// each sentence, but not as much less as an idle core loses. Sentences that nobody waits for any more are dropped.
    pub(crate) fn take(&mut self, workers: usize) -> Vec<T> {
        let Some((first_key, first)) = self.take_first() else {
            return Vec::new();
        };
        let class = first.class();
        let rows = first.rows().max(1);
        let waiting = self.rows.get(&class).copied().unwrap_or_default() + rows;
        let part = waiting.div_ceil(rows).div_ceil(workers.max(1));
        let limit = first.batch_limit();
        let room = part.min(limit / (rows * first.length()).max(1) + 1);
        let of_class = self
            .waiting
            .range(first_key..)
            .filter(|(_, other)| other.sentence.class() == class);
        let mut others: Vec<(usize, (u64, u64))> = of_class
            .take(WINDOW * room)
            .map(|(key, other)| (other.sentence.length(), *key))
            .collect();
        // The order of arrival decides between equals.
        others.sort_by_key(|(length, key)| (length.abs_diff(first.length()), *key));
        // Nothing is padded, so the tokens themselves count.
        let mut tokens = first.length();
        let mut batch = vec![first];
        for (length, key) in others {
            if batch.len() >= part || (tokens + length) * rows > limit {
                break;
            }
            if let Some(other) = self.remove_wanted(key) {
                tokens += length;
                batch.push(other);
            }
        }
        self.rest_if_empty();
        batch
    }

    /// Drops the sentences that nobody waits for any more.
    pub(crate) fn drop_unwanted(&mut self) {
        let unwanted = self.waiting.iter().filter(|(_, entry)| !entry.sentence.is_wanted());
        let keys: Vec<(u64, u64)> = unwanted.map(|(key, _)| *key).collect();
        for key in keys {
            self.remove_wanted(key);
        }
        self.rest_if_empty();
    }

    fn take_first(&mut self) -> Option<((u64, u64), T)> {
        loop {
            let key = *self.waiting.first_key_value()?.0;
            if let Some(first) = self.remove_wanted(key) {
                self.clock = self.clock.max(key.0);
                return Some((key, first));
            }
        }
    }

    /// Removes a sentence. If nobody waits for it any more, its client gets back what it was charged.
    fn remove_wanted(&mut self, key: (u64, u64)) -> Option<T> {
        let Entry { sentence, payer, steps } = self.waiting.remove(&key)?;
        self.tokens -= sentence.length();
        if let Some(tokens) = self.clients.get_mut(&payer.0) {
            *tokens -= sentence.length();
            if *tokens == 0 {
                self.clients.remove(&payer.0);
            }
        }
        if let Some(rows) = self.rows.get_mut(&sentence.class()) {
            *rows -= sentence.rows();
            if *rows == 0 {
                self.rows.remove(&sentence.class());
            }
        }
        if sentence.is_wanted() {
            return Some(sentence);
        }
        if let Some(end) = self.ends.get_mut(&payer) {
            *end = end.saturating_sub(steps);
        }
        None
    }

    /// Nobody has a claim on an empty queue.
    fn rest_if_empty(&mut self) {
        if self.waiting.is_empty() {
            self.ends.clear();
            self.many = MANY_CLIENTS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Waiting {
        name: &'static str,
        class: u64,
        length: usize,
        is_wanted: bool,
    }

    impl Queued for Waiting {
        fn class(&self) -> u64 {
            self.class
        }
        fn length(&self) -> usize {
            self.length
        }
        fn rows(&self) -> usize {
            16
        }
        fn batch_limit(&self) -> usize {
            16 * 100
        }
        fn is_wanted(&self) -> bool {
            self.is_wanted
        }
    }

    fn waiting(name: &'static str, length: usize) -> Waiting {
        Waiting {
            name,
            class: 0,
            length,
            is_wanted: true,
        }
    }

    fn names(batch: Vec<Waiting>) -> Vec<&'static str> {
        batch.into_iter().map(|waiting| waiting.name).collect()
    }

    #[test]
    fn clients_take_turns() {
        let mut queue = Queue::default();
        let [many, one] = [ClientId::of("many"), ClientId::of("one")];
        for name in ["a", "b", "c", "d"] {
            queue.push(waiting(name, 10), many, Priority::Interactive);
        }
        queue.push(waiting("other", 10), one, Priority::Interactive);
        assert_eq!((queue.len(), queue.tokens()), (5, 50));
        // Two of five for the first of three workers, and nobody's third comes before another's first.
        assert_eq!(names(queue.take(3)), ["a", "other"]);
        assert_eq!(names(queue.take(3)), ["b"]);
        assert_eq!(names(queue.take(1)), ["c", "d"]);
        assert_eq!((queue.take(1), queue.tokens()), (Vec::new(), 0));
    }

    #[test]
    fn what_can_wait_waits_but_not_for_ever() {
        let mut queue = Queue::default();
        let [slow, fast] = [ClientId::of("slow"), ClientId::of("fast")];
        for _ in 0..4 {
            queue.push(waiting("slow", 10), slow, Priority::Batch);
        }
        for _ in 0..40 {
            queue.push(waiting("fast", 10), fast, Priority::Interactive);
        }
        let taken: Vec<&str> = std::iter::from_fn(|| Some(names(queue.take(100))).filter(|names| !names.is_empty()))
            .flatten()
            .collect();
        let second = taken
            .iter()
            .enumerate()
            .filter(|(_, name)| **name == "slow")
            .nth(1)
            .unwrap()
            .0;
        assert!((8..12).contains(&second), "{taken:?}");
    }

    /// What a client gives up is not charged, and an empty queue forgets.
    #[test]
    fn charges_are_given_back() {
        let mut queue = Queue::default();
        let [quitter, other] = [ClientId::of("quitter"), ClientId::of("other")];
        for _ in 0..50 {
            let gone = Waiting {
                is_wanted: false,
                ..waiting("gone", 10)
            };
            queue.push(gone, quitter, Priority::Interactive);
        }
        for _ in 0..3 {
            queue.push(waiting("other", 10), other, Priority::Interactive);
        }
        assert_eq!((queue.tokens_of(quitter), queue.clients_with(quitter)), (500, 2));
        queue.drop_unwanted();
        assert_eq!((queue.tokens_of(quitter), queue.clients_with(quitter)), (0, 2));
        queue.push(waiting("back", 10), quitter, Priority::Interactive);
        let names = names(queue.take(1));
        assert_eq!(names[..2], ["other", "back"]);
        assert_eq!((queue.ends.len(), queue.clients.len(), queue.tokens()), (0, 0, 0));
    }

    #[test]
    fn batches_are_of_one_class_and_of_similar_length() {
        let mut queue = Queue::default();
        let client = ClientId::default();
        for (name, length) in [("first", 20), ("long", 90), ("near", 22), ("short", 3), ("equal", 20)] {
            queue.push(waiting(name, length), client, Priority::Interactive);
        }
        let other = Waiting {
            class: 1,
            ..waiting("other", 20)
        };
        queue.push(other, client, Priority::Interactive);
        // One worker may take all, but 100 tokens are the limit.
        assert_eq!(names(queue.take(1)), ["first", "equal", "near", "short"]);
        assert_eq!(names(queue.take(1)), ["long"]);
        assert_eq!(names(queue.take(1)), ["other"]);
    }

    #[test]
    fn what_nobody_waits_for_is_dropped() {
        let mut queue = Queue::default();
        for (name, is_wanted) in [("gone", false), ("here", true), ("gone too", false)] {
            let sentence = Waiting {
                is_wanted,
                ..waiting(name, 5)
            };
            queue.push(sentence, ClientId::default(), Priority::Interactive);
        }
        let mut swept = Queue::default();
        swept.push(
            queue.waiting[&(0, 0)].sentence.clone(),
            ClientId::default(),
            Priority::Batch,
        );
        swept.drop_unwanted();
        assert_eq!((swept.len(), swept.tokens()), (0, 0));
        assert_eq!(names(queue.take(1)), ["here"]);
        assert_eq!((queue.len(), queue.tokens(), queue.rows.len()), (0, 0, 0));
    }
}
