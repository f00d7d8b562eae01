//! Weights in bytes, packed for the kernels.

use super::tile::{Panel, Step};
use super::values::Blocks;
use super::{BLOCK, MOST_INPUTS, PANEL, STEP};

/// The weights of a linear map: outputs x inputs, with a scale for each output.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    outputs: usize,
    inputs: usize,
    /// All steps of the first panel, then those of the next.
    steps: Vec<Step>,
    /// By panels, the last of which is padded with zeros.
    scales: Vec<[f32; PANEL]>,
    /// The sums of the weights of each output, times 128, by panels.
    excess: Vec<[i32; PANEL]>,
}

impl Weights {
    /// Rounds weights, of which every output has a row.
    ///
    /// # Panics
    /// When there are not `outputs` x `inputs` weights, or more than [`MOST_INPUTS`] inputs.
    pub(crate) fn quantise(weight_oi: &[f32], outputs: usize, inputs: usize) -> Self {
        assert_eq!(weight_oi.len(), outputs * inputs, "weights of {outputs} x {inputs}");
        let mut values_oi = vec![0i8; outputs * inputs];
        let mut scales = vec![0f32; outputs];
        let mut blocks = vec![[0i8; BLOCK]; inputs.div_ceil(BLOCK)];
        vectorized!({
            for output in 0..outputs {
                let row = Blocks::of(&weight_oi[output * inputs..][..inputs]);
                scales[output] = row.scale();
                row.round(
                    scales[output],
                    #[inline(always)]
                    |q| q,
                    blocks.iter_mut(),
                );
                values_oi[output * inputs..][..inputs].copy_from_slice(&blocks.as_flattened()[..inputs]);
            }
        });
        Self::from_parts(&values_oi, &scales, inputs)
    }

    /// The size in memory, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let (steps, scales) = (self.steps.as_slice(), self.scales.as_slice());
        size_of_val(steps) + size_of_val(scales) + size_of_val(self.excess.as_slice())
    }

    /// Packs weights that have been rounded before, from -127 to 127, of which every output has a row and a scale.
    ///
    /// # Panics
    /// When there are not as many rows of `inputs` weights as scales, or more than [`MOST_INPUTS`] inputs, or when a
    /// weight is -128.
    pub(crate) fn from_parts(values_oi: &[i8], scales: &[f32], inputs: usize) -> Self {
        let outputs = scales.len();
        assert_eq!(values_oi.len(), outputs * inputs, "weights of {outputs} x {inputs}");
        assert!(inputs <= MOST_INPUTS, "{inputs} inputs of a product in bytes");
        assert!(!values_oi.contains(&i8::MIN), "weights from -127 to 127");
        let (panels, steps_of_panel) = (outputs.div_ceil(PANEL), inputs.div_ceil(STEP));
        let mut steps = vec![Step([0; PANEL * STEP]); panels * steps_of_panel];
        let mut padded = vec![[0.0; PANEL]; panels];
        padded.as_flattened_mut()[..outputs].copy_from_slice(scales);
        let mut excess = vec![[0; PANEL]; panels];
        for output in 0..outputs {
            let row = &values_oi[output * inputs..][..inputs];
            let panel = &mut steps[output / PANEL * steps_of_panel..][..steps_of_panel];
            let column = output % PANEL;
            for (values, step) in row.chunks(STEP).zip(panel) {
                step.0[column * STEP..][..values.len()].copy_from_slice(values);
            }
            excess[output / PANEL][column] = 128 * row.iter().copied().map(i32::from).sum::<i32>();
        }
        Self {
            outputs,
            inputs,
            steps,
            scales: padded,
            excess,
        }
    }

    /// The rounded weights, of which every output has a row, and the scales of the outputs.
    #[cfg(test)]
    pub(crate) fn to_parts(&self) -> (Vec<i8>, Vec<f32>) {
        let mut values_oi = Vec::with_capacity(self.outputs * self.inputs);
        for output in 0..self.outputs {
            let column = output % PANEL * STEP;
            let steps = self.panel(output / PANEL).steps;
            let values = steps.iter().flat_map(|step| &step.0[column..column + STEP]);
            values_oi.extend(values.take(self.inputs));
        }
        (values_oi, self.scales.as_flattened()[..self.outputs].to_vec())
    }

    /// The number of outputs, which are the columns of products.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// The number of inputs, which are the values of a row of activations.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// A panel, by its number.
    pub(super) fn panel(&self, panel: usize) -> Panel<'_> {
        let steps = self.inputs.div_ceil(STEP);
        Panel {
            steps: &self.steps[panel * steps..][..steps],
            scales: &self.scales[panel],
            excess: &self.excess[panel],
        }
    }
}
