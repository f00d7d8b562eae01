//! What the processes of a run tell each other, besides gradients.
//!
//! All ranks have the same state and weights, and do the same updates. The root alone reads and writes the run's
//! directory, decides with the results of validations, and tells the others what has come of it.

use super::Trainer;
use crate::reduction::Reduction;
use crate::{Ema, Optimizer, TrainError, TrainState, TrainerParts};
use candle_core::{Device, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tallow_comm::{CommError, Group, Wire};
use tallow_model::Params;

/// The beginning of a message from the root that brings a rank to the root's place in the run.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    state: TrainState,
    /// The shape of the constant added to the logits.
    logits_bias: Option<Vec<usize>>,
    has_ema: bool,
}

/// What a rank gets from the root.
pub(super) struct Received {
    pub(super) state: TrainState,
    pub(super) logits_bias: Option<Tensor>,
    pub(super) optimizer: Optimizer,
    pub(super) ema: Option<Ema>,
}

/// How a trainer's ranks share updates.
pub(super) fn reduction(parts: &TrainerParts) -> Reduction {
    let train = &parts.train;
    // The fingerprint has the workers of all ranks.
    let workers = (parts.fingerprint.workers / parts.group.size()).max(1);
    Reduction::new(parts.group.clone(), &parts.params, train, workers, &parts.device)
}

/// Brings all ranks to the root's place in the run; returns the root's own part of the moments. `optimizer` has those
/// of all parameters.
pub(super) fn send(
    reduction: &Reduction,
    parts: &TrainerParts,
    state: &TrainState,
    optimizer: Optimizer,
    ema: Option<&Ema>,
) -> Result<Optimizer, TrainError> {
    let group = &reduction.group;
    if group.is_alone() {
        return optimizer.part(&parts.params, reduction.own_pieces());
    }
    let header = serde_json::to_vec(&Header {
        state: state.clone(),
        logits_bias: parts.logits_bias.as_ref().map(|bias| bias.dims().to_vec()),
        has_ema: ema.is_some(),
    })?;
    group.broadcast(|| header)?;
    send_numbers(group, parts.params.iter().map(|parameter| parameter.var.as_tensor()))?;
    send_numbers(group, parts.logits_bias.iter())?;
    let averages = ema.map(|ema| ema.params().iter().map(|parameter| parameter.var.as_tensor()));
    send_numbers(group, averages.into_iter().flatten())?;
    let mut shares = Vec::with_capacity(group.size());
    for rank in 0..group.size() {
        let part = optimizer.part(&parts.params, reduction.pieces_of(rank))?;
        shares.push(Wire::F32.encode(&part.numbers()?));
    }
    group.scatter(|| shares)?;
    optimizer.part(&parts.params, reduction.own_pieces())
}

/// Takes what the root sends with [`send`]. The weights go to the parameters of `parts`.
pub(super) fn receive(reduction: &Reduction, parts: &TrainerParts) -> Result<Received, TrainError> {
    let group = &reduction.group;
    let header: Header = serde_json::from_slice(&group.broadcast(Vec::new)?)?;
    set_numbers(&parts.params, &group.broadcast(Vec::new)?)?;
    let bias = group.broadcast(Vec::new)?;
    let averages = group.broadcast(Vec::new)?;
    let moments = group.scatter(Vec::new)?;
    let logits_bias = header
        .logits_bias
        .map(|shape| Tensor::from_vec(Wire::F32.decode(&bias), shape, &Device::Cpu))
        .transpose()?;
    let ema = match header.has_ema {
        true => {
            let ema = Ema::new(&parts.params, parts.train.ema_decay)?;
            set_numbers(ema.params(), &averages)?;
            Some(ema)
        }
        false => None,
    };
    let pieces = reduction.own_pieces();
    let mut optimizer = Optimizer::of_pieces(&parts.params, pieces.clone())?;
    optimizer.set_numbers(&pieces, &Wire::F32.decode(&moments))?;
    Ok(Received {
        state: header.state,
        logits_bias,
        optimizer,
        ema,
    })
}

/// Gives all ranks the root's values of parameters.
pub(super) fn share_values(group: &Group, params: &Params) -> Result<(), TrainError> {
    match group.is_root() {
        true => send_numbers(group, params.iter().map(|parameter| parameter.var.as_tensor())),
        false => set_numbers(params, &group.broadcast(Vec::new)?),
    }
}

fn send_numbers<'a>(group: &Group, tensors: impl Iterator<Item = &'a Tensor>) -> Result<(), TrainError> {
    let mut message = Vec::new();
    for tensor in tensors {
        message.extend(Wire::F32.encode(&tensor.flatten_all()?.to_vec1::<f32>()?));
    }
    group.broadcast(|| message)?;
    Ok(())
}

fn set_numbers(params: &Params, message: &[u8]) -> Result<(), TrainError> {
    let all = Wire::F32.decode(message);
    let mut rest = &all[..];
    for parameter in params.iter() {
        let (values, after) = rest
            .split_at_checked(parameter.var.elem_count())
            .ok_or_else(|| misfit("too few numbers"))?;
        rest = after;
        parameter
            .var
            .set(&Tensor::from_slice(values, parameter.var.shape(), &Device::Cpu)?)?;
    }
    match rest.is_empty() {
        true => Ok(()),
        false => Err(misfit("too many numbers")),
    }
}

fn misfit(reason: &str) -> TrainError {
    TrainError::Group(CommError::Unexpected {
        rank: 0,
        reason: reason.into(),
    })
}

impl Trainer {
    /// Does work of the root's, and gives all ranks its result and the state of the run that came of it.
    pub(super) fn on_root<T: Serialize + DeserializeOwned>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, TrainError>,
    ) -> Result<T, TrainError> {
        let group = self.reduction.group.clone();
        if group.is_alone() {
            return work(self);
        }
        if group.is_root() {
            let value = work(self)?;
            let message = serde_json::to_vec(&(&self.state, &value))?;
            group.broadcast(|| message)?;
            return Ok(value);
        }
        let value;
        (self.state, value) = serde_json::from_slice(&group.broadcast(Vec::new)?)?;
        Ok(value)
    }

    /// What the first rank that has something to say says.
    pub(super) fn first_of_ranks(&self, own: Option<String>) -> Result<Option<String>, TrainError> {
        let group = &self.reduction.group;
        match group.is_alone() {
            true => Ok(own),
            false => Ok(group.decide(&own, |said| said.into_iter().flatten().next())?),
        }
    }

    /// The moments of all parameters, if this is the root.
    pub(super) fn whole_optimizer(&self) -> Result<Option<Optimizer>, TrainError> {
        let (reduction, params) = (&self.reduction, &self.parts.params);
        if !reduction.is_sharded() {
            return Ok(reduction.group.is_root().then(|| self.optimizer.clone()));
        }
        let Some(shares) = reduction.group.gather(Wire::F32.encode(&self.optimizer.numbers()?))? else {
            return Ok(None);
        };
        let mut whole = Optimizer::new(params)?;
        for (rank, share) in shares.iter().enumerate() {
            whole.set_numbers(&reduction.pieces_of(rank), &Wire::F32.decode(share))?;
        }
        Ok(Some(whole))
    }
}
