//! Ranks that are processes, connected by MPI.
//!
//! One thread makes all calls of MPI, as its level `MPI_THREAD_FUNNELED` demands. It does rounds one after another.
//! While it waits, it asks MPI now and then and sleeps in between: MPI's own waiting keeps a core busy, which the work
//! of the process needs.

use crate::CommError;
use crate::link::{Link, Patience, Received, Round};
use mpi::point_to_point::{Destination, Source};
use mpi::request::{LocalScope, Request, StaticScope};
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::{Count, Threading};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// The tag of a round's messages.
const ROUND: i32 = 1;
/// The tag of signs of life.
const SIGN_OF_LIFE: i32 = 2;
/// How often signs of life are sent: several times within the shortest limit, a second.
const SIGN_EVERY: Duration = Duration::from_millis(200);
/// MPI counts the bytes of a message in 32 bits: longer ones are sent in parts of this length.
const LONGEST: usize = 1 << 30;
/// The first questions to MPI follow each other without a pause, later ones with one of growing length.
const EAGER_QUESTIONS: u32 = 64;
const LONGEST_PAUSE: Duration = Duration::from_micros(200);

enum Order {
    Exchange(Round, Sender<Received>),
    Leave(Sender<()>),
}

/// The place of one process.
pub(crate) struct MpiLink {
    rank: usize,
    size: usize,
    orders: Sender<Order>,
}

impl MpiLink {
    pub(crate) fn start() -> Result<Self, CommError> {
        let (orders, to_do) = channel();
        let (place, started) = channel();
        Builder::new()
            .name("tallow-mpi".into())
            .spawn(move || serve(&place, &to_do))
            .map_err(|error| CommError::Mpi(error.to_string()))?;
        let (rank, size) = started
            .recv()
            .unwrap_or_else(|_| Err(CommError::Mpi("it could not be initialised".into())))?;
        Ok(Self { rank, size, orders })
    }
}

impl Link for MpiLink {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn start(&self, round: Round) -> Receiver<Received> {
        let (sender, receiver) = channel();
        // Fails only if the thread has ended; then the receiver is closed.
        let _ = self.orders.send(Order::Exchange(round, sender));
        receiver
    }

    fn leave(&self) {
        let (done, finalised) = channel();
        let _ = self.orders.send(Order::Leave(done));
        // Fails only if the thread has ended already.
        let _ = finalised.recv();
    }
}

/// Initialises MPI, and serves orders until the last one, which finalises it. A process that ends without this order
/// has failed; MPI must not be finalised then, which would wait for the others.
fn serve(place: &Sender<Result<(usize, usize), CommError>>, orders: &Receiver<Order>) {
    let Some((universe, level)) = mpi::initialize_with_threading(Threading::Funneled) else {
        let _ = place.send(Err(CommError::Mpi("it is initialised already".into())));
        return;
    };
    if level < Threading::Funneled {
        let _ = place.send(Err(CommError::Mpi("this library does not work with threads".into())));
        return;
    }
    let world = universe.world();
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    let mut life = Life::new(&world);
    if place.send(Ok((rank, size))).is_err() {
        std::mem::forget((life, universe));
        return;
    }
    loop {
        match orders.recv_timeout(SIGN_EVERY) {
            Ok(Order::Exchange(round, answer)) => {
                let received = exchange(&world, round, &mut life, |error| {
                    let _ = answer.send(Err(error));
                });
                // The rank may have left without waiting for its answer.
                let _ = answer.send(Ok(received));
            }
            Ok(Order::Leave(done)) => {
                life.end();
                drop(universe);
                let _ = done.send(());
                return;
            }
            Err(RecvTimeoutError::Timeout) => {
                life.show();
                life.listen();
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // Signs may be under way, whose memory is static; they must not be dropped.
    std::mem::forget((life, universe));
}

/// Does a round. If a rank does not answer in time, `fail` gets the reason, and this never returns.
fn exchange(world: &SimpleCommunicator, round: Round, life: &mut Life, fail: impl FnOnce(CommError)) -> Vec<Vec<u8>> {
    let Round {
        sends,
        receives,
        patience,
    } = round;
    let mut buffers: Vec<Vec<u8>> = receives.iter().map(|(_, length)| vec![0; *length]).collect();
    mpi::request::scope(|scope| {
        let mut under_way: Vec<(usize, Transfer<'_, '_>)> = Vec::new();
        for ((from, _), buffer) in receives.iter().zip(&mut buffers) {
            let process = world.process_at_rank(*from as i32);
            for part in parts_mut(buffer) {
                let request = process.immediate_receive_into_with_tag(scope, part, ROUND);
                under_way.push((*from, request));
            }
        }
        for (to, message) in &sends {
            let process = world.process_at_rank(*to as i32);
            for part in parts(message) {
                under_way.push((*to, process.immediate_send_with_tag(scope, part, ROUND)));
            }
        }
        wait(under_way, patience, life, fail);
    });
    buffers
}

type Transfer<'a, 's> = Request<'a, [u8], &'s LocalScope<'a>>;

fn wait(
    mut under_way: Vec<(usize, Transfer<'_, '_>)>,
    patience: Patience,
    life: &mut Life,
    fail: impl FnOnce(CommError),
) {
    let limit = patience.limit();
    let mut begin = Instant::now();
    let mut questions = 0;
    while !under_way.is_empty() {
        let count = under_way.len();
        under_way = under_way
            .into_iter()
            .filter_map(|(rank, transfer)| transfer.test().err().map(|transfer| (rank, transfer)))
            .collect();
        if under_way.len() < count {
            (begin, questions) = (Instant::now(), 0);
            continue;
        }
        questions += 1;
        if questions < EAGER_QUESTIONS {
            std::thread::yield_now();
            continue;
        }
        life.listen();
        life.show();
        let is_silent = |rank: &usize| {
            let since = match patience {
                Patience::Limit(_) => begin,
                Patience::SignsOfLife(_) => begin.max(life.heard_of(*rank)),
            };
            since.elapsed() > limit
        };
        let mut ranks: Vec<usize> = under_way.iter().map(|(rank, _)| *rank).filter(is_silent).collect();
        if !ranks.is_empty() {
            ranks.sort_unstable();
            ranks.dedup();
            // The requests must not be dropped before they are complete.
            std::mem::forget(under_way);
            let seconds = limit.as_secs();
            fail(CommError::Silent { ranks, seconds });
            // The messages are still under way, so their memory must stay: this thread does nothing more.
            loop {
                std::thread::park();
            }
        }
        let pause = Duration::from_micros(u64::from(questions - EAGER_QUESTIONS + 1));
        std::thread::sleep(pause.min(LONGEST_PAUSE));
    }
}

/// Signs of life: the root sends them to all ranks, and all ranks send them to the root. So the root knows of every
/// rank whether it lives. The others rely on the root, which ends the work if a rank is silent.
struct Life {
    world: SimpleCommunicator,
    sent: Instant,
    /// When the last sign of each rank came.
    heard: Vec<Instant>,
    /// The last sign to each rank, as long as it is under way.
    under_way: Vec<(usize, Option<Sign>)>,
}

type Sign = Request<'static, [u8], StaticScope>;

static SIGN: [u8; 1] = [1];

impl Life {
    fn new(world: &SimpleCommunicator) -> Self {
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        let to = if rank == 0 { 1..size } else { 0..1 };
        Self {
            world: SimpleCommunicator::world(),
            sent: Instant::now(),
            heard: vec![Instant::now(); size],
            under_way: to.map(|rank| (rank, None)).collect(),
        }
    }

    /// Sends a sign, if it is time.
    fn show(&mut self) {
        if self.sent.elapsed() < SIGN_EVERY {
            return;
        }
        self.sent = Instant::now();
        for (to, sign) in &mut self.under_way {
            *sign = sign.take().and_then(|sign| sign.test().err());
            if sign.is_none() {
                let process = self.world.process_at_rank(*to as i32);
                *sign = Some(process.immediate_send_with_tag(StaticScope, &SIGN[..], SIGN_OF_LIFE));
            }
        }
    }

    /// Takes the signs that have come.
    fn listen(&mut self) {
        while let Some((message, status)) = self.world.any_process().immediate_matched_probe_with_tag(SIGN_OF_LIFE) {
            message.matched_receive_into(&mut [0u8; 1][..]);
            if let Some(heard) = self.heard.get_mut(status.source_rank() as usize) {
                *heard = Instant::now();
            }
        }
    }

    /// When the rank on whose life a wait for `rank` depends was last heard of.
    fn heard_of(&self, rank: usize) -> Instant {
        match self.world.rank() {
            0 => self.heard[rank],
            _ => self.heard[0],
        }
    }

    /// Takes what has come, and gives the signs under way a moment to arrive.
    fn end(mut self) {
        let begin = Instant::now();
        let mut signs: Vec<_> = self.under_way.iter_mut().filter_map(|(_, sign)| sign.take()).collect();
        while !signs.is_empty() && begin.elapsed() < SIGN_EVERY {
            self.listen();
            signs = signs.into_iter().filter_map(|sign| sign.test().err()).collect();
            std::thread::sleep(LONGEST_PAUSE);
        }
        self.listen();
        // The memory of those that nobody took is static.
        std::mem::forget(signs);
    }
}

/// An empty message is one part, too: both sides must agree on their number.
fn parts(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let empty = message.is_empty().then_some(message);
    message.chunks(LONGEST).chain(empty)
}

fn parts_mut(message: &mut [u8]) -> Vec<&mut [u8]> {
    match message.is_empty() {
        true => vec![message],
        false => message.chunks_mut(LONGEST).collect(),
    }
}

const _: () = assert!(LONGEST <= Count::MAX as usize);
