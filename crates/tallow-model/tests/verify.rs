//! The faults that `verify` finds in a directory, and the contents of `model.npz`.

// Helpers outside `#[test]` functions unwrap too: a panic is how a test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use candle_core::{Device, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tallow_model::{
    Initialisation, ModelConfig, NPZ_FILE, Norm, Opened, Params, Positions, WEIGHTS_FILE, npz_faults, open, save_npz,
    verify,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/marian")
        .join(name)
}

/// The checks that fail after a change of the tensors, with their faults.
fn faults(name: &str, change: impl Fn(&mut HashMap<String, Tensor>)) -> Vec<(String, Vec<String>)> {
    let place = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json"] {
        std::fs::copy(fixture(name).join(file), place.path().join(file)).unwrap();
    }
    let mut tensors = candle_core::safetensors::load(fixture(name).join(WEIGHTS_FILE), &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, place.path().join(WEIGHTS_FILE)).unwrap();
    let failed = verify(place.path())
        .into_iter()
        .filter(|check| !check.faults.is_empty());
    failed.map(|check| (check.what, check.faults)).collect()
}

/// Replaces one number of a tensor; the position is counted from the end.
fn replace(tensors: &mut HashMap<String, Tensor>, name: &str, from_end: usize, value: f32) {
    let shape = tensors[name].shape().clone();
    let mut values = tensors[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let at = values.len() - from_end;
    values[at] = value;
    tensors.insert(name.into(), Tensor::from_vec(values, shape, &Device::Cpu).unwrap());
}

#[test]
fn faults_are_found() {
    assert_eq!(faults("tied-relu", |_| ()), []);
    for name in ["model.encoder.layers.0.fc1.bias", "final_logits_bias"] {
        let found = faults("tied-relu", |tensors| replace(tensors, name, 3, f32::NAN));
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert!(
            found[0].0.contains("finite") && found[0].1[0].contains("1 number is not"),
            "{name}: {found:?}"
        );
    }
    let found = faults("tied-relu", |tensors| replace(tensors, "model.shared.weight", 1, 0.5));
    assert!(
        found.len() == 1 && found[0].0.contains("<pad>") && found[0].1[0].contains("row 23"),
        "{found:?}"
    );
    // The decoder does not start with the source's embedding.
    let source = "model.encoder.embed_tokens.weight";
    assert_eq!(
        faults("separate-tables", |tensors| replace(tensors, source, 1, 0.5)),
        []
    );
    let found = faults("separate-tables", |tensors| {
        replace(tensors, "model.decoder.embed_tokens.weight", 1, 0.5)
    });
    assert_eq!(found.len(), 1, "{found:?}");
    let found = faults("tied-relu", |tensors| drop(tensors.remove("model.shared.weight")));
    assert!(
        found[0].0.contains(WEIGHTS_FILE) && found[0].1[0].contains("missing"),
        "{found:?}"
    );
}

fn npz_of(opened: &Opened) -> BTreeMap<String, Tensor> {
    let place = tempfile::tempdir().unwrap();
    save_npz(place.path(), opened).unwrap();
    let path = place.path().join(NPZ_FILE);
    let bytes = std::fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let pre = opened.architecture.model.norm == Norm::Pre;
    let options = if pre {
        "transformer-postprocess: \"da\""
    } else {
        "transformer-postprocess: \"dan\""
    };
    assert!(text.contains(options) && text.contains("special:model.yml.npy"));
    let names: Vec<String> = opened
        .params
        .parts()
        .unwrap()
        .iter()
        .map(|(name, _)| marian_name(name, pre))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tensors = Tensor::read_npz_by_name(&path, &names).unwrap();
    names.into_iter().map(str::to_owned).zip(tensors).collect()
}

/// Marian's names as CTranslate2's converter expects them, written out one by one.
fn marian_name(name: &str, pre: bool) -> String {
    let scale = if pre { "ln_scale_pre" } else { "ln_scale" };
    let shift = if pre { "ln_bias_pre" } else { "ln_bias" };
    let table = [
        ("self_attn.q_proj.weight", "self_Wq".to_owned()),
        ("self_attn.q_proj.bias", "self_bq".to_owned()),
        ("self_attn.k_proj.weight", "self_Wk".to_owned()),
        ("self_attn.k_proj.bias", "self_bk".to_owned()),
        ("self_attn.v_proj.weight", "self_Wv".to_owned()),
        ("self_attn.v_proj.bias", "self_bv".to_owned()),
        ("self_attn.out_proj.weight", "self_Wo".to_owned()),
        ("self_attn.out_proj.bias", "self_bo".to_owned()),
        ("encoder_attn.q_proj.weight", "context_Wq".to_owned()),
        ("encoder_attn.q_proj.bias", "context_bq".to_owned()),
        ("encoder_attn.k_proj.weight", "context_Wk".to_owned()),
        ("encoder_attn.k_proj.bias", "context_bk".to_owned()),
        ("encoder_attn.v_proj.weight", "context_Wv".to_owned()),
        ("encoder_attn.v_proj.bias", "context_bv".to_owned()),
        ("encoder_attn.out_proj.weight", "context_Wo".to_owned()),
        ("encoder_attn.out_proj.bias", "context_bo".to_owned()),
        ("self_attn_layer_norm.weight", format!("self_Wo_{scale}")),
        ("self_attn_layer_norm.bias", format!("self_Wo_{shift}")),
        ("encoder_attn_layer_norm.weight", format!("context_Wo_{scale}")),
        ("encoder_attn_layer_norm.bias", format!("context_Wo_{shift}")),
        ("fc1.weight", "ffn_W1".to_owned()),
        ("fc1.bias", "ffn_b1".to_owned()),
        ("fc2.weight", "ffn_W2".to_owned()),
        ("fc2.bias", "ffn_b2".to_owned()),
        ("final_layer_norm.weight", format!("ffn_ffn_{scale}")),
        ("final_layer_norm.bias", format!("ffn_ffn_{shift}")),
    ];
    let others = [
        ("model.shared.weight", "Wemb"),
        ("model.encoder.embed_tokens.weight", "encoder_Wemb"),
        ("model.decoder.embed_tokens.weight", "decoder_Wemb"),
        ("lm_head.weight", "decoder_ff_logit_out_W"),
        ("model.encoder.layer_norm.weight", "encoder_top_ln_scale"),
        ("model.encoder.layer_norm.bias", "encoder_top_ln_bias"),
        ("model.decoder.layer_norm.weight", "decoder_top_ln_scale"),
        ("model.decoder.layer_norm.bias", "decoder_top_ln_bias"),
    ];
    if let Some((_, marian)) = others.iter().find(|(other, _)| *other == name) {
        return (*marian).to_owned();
    }
    let parts: Vec<&str> = name.splitn(5, '.').collect();
    let [_, stack, _, layer, rest] = parts[..] else {
        panic!("{name}")
    };
    let marian = table.iter().find(|(other, _)| *other == rest).unwrap();
    format!("{stack}_l{}_{}", layer.parse::<usize>().unwrap() + 1, marian.1)
}

/// All tensors exist under Marian's names: weights are transposed, and tables lack the row of `<pad>`.
#[test]
fn npz() {
    let mut models: Vec<Opened> = ["tied-swish", "separate-tables", "separate-tables-and-output"]
        .map(|name| open(&fixture(name), &Device::Cpu).unwrap())
        .into();
    let mut pre = open(&fixture("tied-relu"), &Device::Cpu).unwrap();
    pre.architecture.model.norm = Norm::Pre;
    pre.params = Params::initialise(
        &pre.architecture,
        Initialisation::Xavier,
        3,
        candle_core::DType::F32,
        &Device::Cpu,
    )
    .unwrap();
    models.push(pre);
    for opened in &models {
        let found = npz_of(opened);
        let is_pre = opened.architecture.model.norm == Norm::Pre;
        for (name, tensor) in opened.params.parts().unwrap() {
            let rows = tensor.dim(0).unwrap();
            let expected = match tensor.rank() {
                1 => tensor.unsqueeze(0).unwrap(),
                _ if name == "lm_head.weight" => tensor.narrow(0, 0, rows - 1).unwrap().t().unwrap(),
                _ if name.contains("embed_tokens") || name.contains("shared") => tensor.narrow(0, 0, rows - 1).unwrap(),
                _ => tensor.t().unwrap(),
            };
            let found = &found[&marian_name(&name, is_pre)];
            assert_eq!(found.dims(), expected.dims(), "{name}");
            let values = |tensor: &Tensor| {
                tensor
                    .contiguous()
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .to_vec1::<f32>()
                    .unwrap()
            };
            assert_eq!(values(found), values(&expected), "{name}");
        }
    }
    let mut unsupported = models.remove(0);
    unsupported.architecture.model = ModelConfig {
        positions: Positions::Learned,
        scale_attention: false,
        ..unsupported.architecture.model
    };
    assert_eq!(npz_faults(&unsupported.architecture).len(), 2);
    let place = tempfile::tempdir().unwrap();
    let error = save_npz(place.path(), &unsupported).unwrap_err().to_string();
    assert!(
        error.contains("model.positions") && error.contains("model.scale_attention"),
        "{error}"
    );
}
