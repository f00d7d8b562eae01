//! Initialisation of parameters.

use crate::ModelConfig;
use serde::{Deserialize, Serialize};

/// The initial distribution of weight matrices other than embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initialisation {
    /// Xavier's uniform distribution (Glorot and Bengio 2010), as in fairseq and Marian.
    #[default]
    Xavier,
    /// Xavier's distribution, but the last matrix of each sublayer is divided by the root of the number of sublayers of
    /// its stack (Radford et al. 2019, section 2.3). The sum of the sublayers' outputs then does not grow with depth.
    /// With normalisation after the residual addition and much dropout, this avoids a plateau in the first epochs. Toy
    /// models without much dropout learn more slowly with it.
    ScaledResidual,
}

impl Initialisation {
    /// The factor of the initial values of a part.
    pub(crate) fn gain(self, model: &ModelConfig, part: &str) -> f32 {
        let ends_sublayer = part.ends_with(".out_proj.weight") || part.ends_with(".fc2.weight");
        match self {
            Self::ScaledResidual if ends_sublayer => {
                let sublayers = match part.starts_with("model.decoder.") {
                    true => 3 * model.decoder_layers,
                    false => 2 * model.encoder_layers,
                };
                (sublayers as f32).sqrt().recip()
            }
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Architecture, Params};
    use candle_core::{DType, Device};

    #[test]
    fn only_the_ends_of_sublayers_are_scaled() {
        let architecture = Architecture {
            model: ModelConfig {
                d_model: 8,
                feed_forward: 12,
                encoder_layers: 2,
                decoder_layers: 3,
                heads: 2,
                ..ModelConfig::default()
            },
            source_vocabulary: 10,
            target_vocabulary: 10,
            shared_vocabulary: true,
            eos_id: 0,
            unk_id: 1,
        };
        let parts = |initialisation| {
            let params = Params::initialise(&architecture, initialisation, 1, DType::F32, &Device::Cpu).unwrap();
            params.parts().unwrap()
        };
        let mut scaled = 0;
        let pairs = parts(Initialisation::Xavier)
            .into_iter()
            .zip(parts(Initialisation::ScaledResidual));
        for ((name, xavier), (_, found)) in pairs {
            let factor: f32 = match name.as_str() {
                _ if !name.ends_with("out_proj.weight") && !name.ends_with("fc2.weight") => 1.0,
                _ if name.contains("encoder.layers") => 0.5,
                _ => 1.0 / 3.0,
            };
            scaled += usize::from(factor != 1.0);
            let values = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (found, xavier) in values(&found).into_iter().zip(values(&xavier)) {
                assert!((found - factor * xavier).abs() <= 1e-7, "{name}: {found} from {xavier}");
            }
        }
        // Each encoder layer has two sublayers, each decoder layer three.
        assert_eq!(scaled, 2 * 2 + 3 * 3);
    }
}
