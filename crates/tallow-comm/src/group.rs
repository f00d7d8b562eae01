//! A group of processes, from the view of one of them.

use crate::link::{Link, Patience, Received, Round};
use crate::threads::ThreadLink;
use crate::tree::tree_sum;
use crate::{CommError, Wire};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// How long ranks wait for each other, unless told otherwise.
const LIMIT: Duration = Duration::from_secs(600);

/// A group of processes that do one job together, from the view of one of them. See the documentation of the crate.
#[derive(Clone)]
pub struct Group {
    /// `None`: this process is alone.
    link: Option<Arc<dyn Link>>,
    limit: Duration,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.size())
    }
}

impl Default for Group {
    fn default() -> Self {
        Self::alone()
    }
}

impl Group {
    /// The group of a process that works alone.
    pub fn alone() -> Self {
        Self {
            link: None,
            limit: LIMIT,
        }
    }

    /// The ranks of a group within one process, each for a thread of its own. When one of them is dropped, the others
    /// get errors instead of its messages.
    pub fn of_threads(size: usize) -> Vec<Self> {
        ThreadLink::all(size).into_iter().map(Self::of).collect()
    }

    /// The group of all processes that the same `mpirun` or `srun` has started. MPI stays initialised until
    /// [`Self::leave`]. Must be called at most once in a process.
    ///
    /// # Errors
    /// When MPI cannot be started.
    #[cfg(feature = "mpi")]
    pub fn of_mpi() -> Result<Self, CommError> {
        Ok(Self::of(crate::mpi::MpiLink::start()?))
    }

    fn of(link: impl Link + 'static) -> Self {
        Self {
            // One process also leaves in an orderly way, so its link stays.
            link: Some(Arc::new(link) as Arc<dyn Link>),
            limit: LIMIT,
        }
    }

    /// Sets how long ranks wait for others that do the same work or, if these work on something else, for a sign of
    /// life.
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.link.as_ref().map_or(0, |link| link.rank())
    }

    /// The number of processes.
    pub fn size(&self) -> usize {
        self.link.as_ref().map_or(1, |link| link.size())
    }

    /// Whether this is rank 0.
    pub fn is_root(&self) -> bool {
        self.rank() == 0
    }

    /// Whether there are no other processes.
    pub fn is_alone(&self) -> bool {
        self.size() == 1
    }

    /// Waits until all ranks have come here, and ends the connection. A process that ends without this has failed, and
    /// whatever has started the processes ends the others.
    ///
    /// # Errors
    /// When a rank shows no sign of life.
    pub fn leave(&self) -> Result<(), CommError> {
        self.barrier()?;
        if let Some(link) = &self.link {
            link.leave();
        }
        Ok(())
    }

    /// The values of all ranks, in their order. `length` is the number of bytes of each.
    ///
    /// # Errors
    /// When a rank does not answer in time.
    pub fn all_gather(&self, own: &[u8], length: impl Fn(usize) -> usize) -> Result<Vec<Vec<u8>>, CommError> {
        let Some(link) = &self.link else {
            return Ok(vec![own.to_vec()]);
        };
        let others = || (0..link.size()).filter(|rank| *rank != link.rank());
        let round = Round {
            sends: others().map(|rank| (rank, own.to_vec())).collect(),
            receives: others().map(|rank| (rank, length(rank))).collect(),
            patience: Patience::Limit(self.limit),
        };
        let received = exchange(&**link, round)?;
        Ok(with_own(received, link.rank(), own.to_vec()))
    }

    /// Brings the values of all ranks to the root, in their order; the other ranks get `None`. The ranks may take long
    /// to have them.
    ///
    /// # Errors
    /// When a rank shows no sign of life.
    pub fn gather(&self, own: Vec<u8>) -> Result<Option<Vec<Vec<u8>>>, CommError> {
        let Some(link) = &self.link else {
            return Ok(Some(vec![own]));
        };
        let length = (own.len() as u64).to_ne_bytes().to_vec();
        let patience = Patience::SignsOfLife(self.limit);
        if !self.is_root() {
            for message in [length, own] {
                exchange(
                    &**link,
                    Round {
                        sends: vec![(0, message)],
                        receives: Vec::new(),
                        patience,
                    },
                )?;
            }
            return Ok(None);
        }
        let receive = |lengths: &mut dyn Iterator<Item = usize>| {
            exchange(
                &**link,
                Round {
                    sends: Vec::new(),
                    receives: (1..link.size()).zip(lengths).collect(),
                    patience,
                },
            )
        };
        let lengths = receive(&mut std::iter::repeat(size_of::<u64>()))?;
        let values = receive(&mut lengths.iter().map(|length| read_length(length)))?;
        Ok(Some(with_own(values, 0, own)))
    }

    /// Brings a value of the root to all ranks. `value` gives it, on the root only, and may take long.
    ///
    /// # Errors
    /// When a rank shows no sign of life.
    pub fn broadcast(&self, value: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, CommError> {
        let Some(link) = &self.link else {
            return Ok(value());
        };
        let (rank, size) = (link.rank(), link.size());
        // A binomial tree: rank r gets the value from r without its highest bit.
        let parent = (rank > 0).then(|| rank & !(1 << rank.ilog2()));
        let first = if rank > 0 { rank.ilog2() + 1 } else { 0 };
        let children: Vec<usize> = (first..usize::BITS)
            .map(|bit| rank.saturating_add(1 << bit))
            .take_while(|child| *child < size)
            .collect();
        let round = |message: Option<&[u8]>, expected: Option<usize>| {
            let to_children = |message: &[u8]| children.iter().map(|child| (*child, message.to_vec())).collect();
            exchange(
                &**link,
                Round {
                    sends: message.map(to_children).unwrap_or_default(),
                    receives: parent.into_iter().zip(expected).collect(),
                    patience: Patience::SignsOfLife(self.limit),
                },
            )
        };
        let value = match parent {
            None => {
                let value = value();
                round(Some(&(value.len() as u64).to_ne_bytes()), None)?;
                value
            }
            Some(_) => {
                let header = round(None, Some(size_of::<u64>()))?.pop().unwrap_or_default();
                round(Some(&header), Some(read_length(&header)))?
                    .pop()
                    .unwrap_or_default()
            }
        };
        round(Some(&value), None)?;
        Ok(value)
    }

    /// Brings to each rank its own value. `values` gives them all, on the root only, and may take long.
    ///
    /// # Errors
    /// When a rank shows no sign of life.
    pub fn scatter(&self, values: impl FnOnce() -> Vec<Vec<u8>>) -> Result<Vec<u8>, CommError> {
        let Some(link) = &self.link else {
            return Ok(values().pop().unwrap_or_default());
        };
        let round = |sends, expected: Option<usize>| {
            exchange(
                &**link,
                Round {
                    sends,
                    receives: expected.map(|length| (0, length)).into_iter().collect(),
                    patience: Patience::SignsOfLife(self.limit),
                },
            )
        };
        if !self.is_root() {
            let header = round(Vec::new(), Some(size_of::<u64>()))?.pop().unwrap_or_default();
            return Ok(round(Vec::new(), Some(read_length(&header)))?.pop().unwrap_or_default());
        }
        let mut values = values().into_iter().enumerate();
        let own = values.next().map_or(Vec::new(), |(_, own)| own);
        let (headers, messages): (Vec<_>, Vec<_>) = values
            .map(|(to, value)| ((to, (value.len() as u64).to_ne_bytes().to_vec()), (to, value)))
            .unzip();
        round(headers, None)?;
        round(messages, None)?;
        Ok(own)
    }

    /// Waits until all ranks have come here.
    ///
    /// # Errors
    /// When a rank shows no sign of life.
    pub fn barrier(&self) -> Result<(), CommError> {
        self.gather(Vec::new())?;
        self.broadcast(Vec::new).map(|_| ())
    }

    /// Lets the root judge what all ranks claim, in their order, and gives its verdict to all of them.
    ///
    /// # Errors
    /// When a rank shows no sign of life, or claims something of another form.
    pub fn decide<C, V>(&self, own: &C, judge: impl FnOnce(Vec<C>) -> V) -> Result<V, CommError>
    where
        C: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        let mut verdict = Vec::new();
        if let Some(claims) = self.gather(to_json(self.rank(), own)?)? {
            let claims = claims.iter().enumerate().map(|(rank, claim)| from_json(rank, claim));
            verdict = to_json(self.rank(), &judge(claims.collect::<Result<_, _>>()?))?;
        }
        from_json(0, &self.broadcast(|| verdict)?)
    }

    /// Starts to add up the numbers of all ranks, in the order of [`tree_sum`]. Each rank gets a share of the sum.
    ///
    /// - `numbers`: those of this rank, as many as the shares cover; none if this rank has nothing to add;
    /// - `shares`: for each rank, which of the numbers it gets the sums of;
    /// - `has_numbers`: which ranks have something to add.
    pub fn start_sum(
        &self,
        numbers: Option<&[f32]>,
        shares: &[Range<usize>],
        has_numbers: &[bool],
        wire: Wire,
    ) -> Pending<Option<Vec<f32>>> {
        let rank = self.rank();
        let own = shares[rank].clone();
        let Some(link) = &self.link else {
            return Pending::done(numbers.map(|numbers| numbers[own].to_vec()));
        };
        let receives: Vec<(usize, usize)> = (0..link.size())
            .filter(|from| *from != rank && has_numbers[*from])
            .map(|from| (from, own.len() * wire.bytes()))
            .collect();
        let sends = numbers.map(|numbers| {
            let to_others = shares.iter().enumerate().filter(|(to, _)| *to != rank);
            to_others
                .map(|(to, share)| (to, wire.encode(&numbers[share.clone()])))
                .collect()
        });
        // Rounded as those of the others: a sum does not depend on which rank makes it.
        let mut parts: Vec<Option<Vec<f32>>> = vec![None; link.size()];
        parts[rank] = numbers.map(|numbers| wire.rounded(&numbers[own]));
        let senders: Vec<usize> = receives.iter().map(|(from, _)| *from).collect();
        let receiver = link.start(Round {
            sends: sends.unwrap_or_default(),
            receives,
            patience: Patience::Limit(self.limit),
        });
        Pending::new(receiver, move |messages| {
            for (from, message) in senders.into_iter().zip(messages) {
                parts[from] = Some(wire.decode(&message));
            }
            tree_sum(parts)
        })
    }

    /// Starts to bring the shares of all ranks to all ranks. `lengths[r]` is the number of numbers of rank `r`.
    pub fn start_collecting(&self, own: &[f32], lengths: &[usize], wire: Wire) -> Pending<Vec<Vec<f32>>> {
        let rounded = wire.rounded(own);
        let Some(link) = &self.link else {
            return Pending::done(vec![rounded]);
        };
        let rank = link.rank();
        let others = || (0..link.size()).filter(move |other| *other != rank);
        let message = wire.encode(own);
        let receiver = link.start(Round {
            sends: others().map(|to| (to, message.clone())).collect(),
            receives: others().map(|from| (from, lengths[from] * wire.bytes())).collect(),
            patience: Patience::Limit(self.limit),
        });
        Pending::new(receiver, move |messages| {
            let decoded = messages.iter().map(|message| wire.decode(message)).collect();
            with_own(decoded, rank, rounded)
        })
    }
}

/// Something that is under way between the ranks.
#[must_use = "all ranks must wait for it"]
pub struct Pending<T> {
    messages: Option<Receiver<Received>>,
    finish: Box<dyn FnOnce(Vec<Vec<u8>>) -> T + Send>,
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Pending<T> {
    fn new(messages: Receiver<Received>, finish: impl FnOnce(Vec<Vec<u8>>) -> T + Send + 'static) -> Self {
        Self {
            messages: Some(messages),
            finish: Box::new(finish),
        }
    }

    fn done(value: T) -> Self {
        Self {
            messages: None,
            finish: Box::new(|_| value),
        }
    }

    /// Waits for it.
    ///
    /// # Errors
    /// When a rank does not answer in time.
    pub fn wait(self) -> Result<T, CommError> {
        let messages = match self.messages {
            Some(messages) => messages.recv().unwrap_or(Err(CommError::Broken))?,
            None => Vec::new(),
        };
        Ok((self.finish)(messages))
    }
}

fn exchange(link: &dyn Link, round: Round) -> Received {
    link.start(round).recv().unwrap_or(Err(CommError::Broken))
}

/// The values of the other ranks with this rank's own in its place.
fn with_own<T>(mut others: Vec<T>, rank: usize, own: T) -> Vec<T> {
    others.insert(rank, own);
    others
}

fn to_json(rank: usize, value: &impl Serialize) -> Result<Vec<u8>, CommError> {
    serde_json::to_vec(value).map_err(|error| unexpected(rank, &error))
}

fn from_json<T: DeserializeOwned>(rank: usize, bytes: &[u8]) -> Result<T, CommError> {
    serde_json::from_slice(bytes).map_err(|error| unexpected(rank, &error))
}

fn unexpected(rank: usize, error: &serde_json::Error) -> CommError {
    let reason = error.to_string();
    CommError::Unexpected { rank, reason }
}

fn read_length(bytes: &[u8]) -> usize {
    bytes.try_into().map_or(0, |bytes| u64::from_ne_bytes(bytes) as usize)
}
