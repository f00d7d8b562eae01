//! Names of tensors in Marian.

/// Whether a tensor has one row for each piece.
pub(super) fn is_table(name: &str) -> bool {
    name == "model.shared.weight" || name.ends_with("embed_tokens.weight")
}

/// Marian's name of a tensor.
pub(super) fn marian_name(name: &str, is_pre: bool) -> Option<String> {
    match name {
        "model.shared.weight" => return Some("Wemb".to_owned()),
        "lm_head.weight" => return Some("decoder_ff_logit_out_W".to_owned()),
        _ => {}
    }
    let (stack, rest) = name.strip_prefix("model.")?.split_once('.')?;
    if rest == "embed_tokens.weight" {
        return Some(format!("{stack}_Wemb"));
    }
    let norm = |kind: &str| match kind {
        "weight" => Some("ln_scale"),
        "bias" => Some("ln_bias"),
        _ => None,
    };
    if let Some(kind) = rest.strip_prefix("layer_norm.") {
        return Some(format!("{stack}_top_{}", norm(kind)?));
    }
    let (layer, rest) = rest.strip_prefix("layers.")?.split_once('.')?;
    let prefix = format!("{stack}_l{}", layer.parse::<usize>().ok()? + 1);
    let (part, kind) = rest.rsplit_once('.')?;
    let letter = if kind == "weight" { 'W' } else { 'b' };
    let place = if is_pre { "_pre" } else { "" };
    let sublayer = |part: &str| match part {
        "self_attn" => Some("self"),
        "encoder_attn" => Some("context"),
        _ => None,
    };
    Some(match part {
        "fc1" => format!("{prefix}_ffn_{letter}1"),
        "fc2" => format!("{prefix}_ffn_{letter}2"),
        "final_layer_norm" => format!("{prefix}_ffn_ffn_{}{place}", norm(kind)?),
        _ => match (part.split_once('.'), part.strip_suffix("_layer_norm")) {
            (Some((of, projection)), _) => {
                let projection = projection.strip_suffix("_proj")?.replace("out", "o");
                format!("{prefix}_{}_{letter}{projection}", sublayer(of)?)
            }
            (None, Some(of)) => format!("{prefix}_{}_Wo_{}{place}", sublayer(of)?, norm(kind)?),
            (None, None) => return None,
        },
    })
}
