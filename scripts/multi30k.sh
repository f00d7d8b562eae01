#!/usr/bin/env bash
# Reproduces a row of the table of Multi30k: fetches the data, builds Tallow, trains, and prints the scores.
#
#   bash scripts/multi30k.sh en-de                   configs/multi30k-en-de.toml with seed 1
#   bash scripts/multi30k.sh en-de 1 2 3             with each of these seeds, their mean and their spread
#   bash scripts/multi30k.sh --from DIR en-de        the data from a folder that has them
#
# A run that was interrupted is resumed; one that is finished is not repeated. Runs lie in runs/multi30k-NAME-SEED.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    sed -n '2,8s/^# \{0,1\}//p' scripts/multi30k.sh
    printf 'names: %s\n' "$(for config in configs/multi30k-*.toml; do basename "${config#configs/multi30k-}" .toml; done | tr '\n' ' ')"
}

fetch=()
if [[ "${1:-}" == --from ]]; then
    fetch=(--from "${2:?--from needs a folder}")
    shift 2
fi
if [[ $# == 0 || "$1" == -* ]]; then
    usage
    exit 2
fi
name=$1
shift
config=configs/multi30k-$name.toml
if [[ ! -f "$config" ]]; then
    printf 'multi30k: there is no %s\n' "$config" >&2
    usage >&2
    exit 2
fi
seeds=("$@")
[[ $# == 0 ]] && seeds=(1)

bash scripts/fetch-multi30k.sh "${fetch[@]}"
cargo build --release --package tallow-cli
tallow=${CARGO_TARGET_DIR:-target}/release/tallow

# A score of run.json, by its name.
score() {
    awk -v name="\"$2\"" '$1 == "\"name\":" { found = index($2, name) == 1 } found && $1 == "\"score\":" { print $2 + 0; exit }' "$1"
}

scores=()
for seed in "${seeds[@]}"; do
    run=runs/multi30k-$name-$seed
    if ! grep -qs '"test": {' "$run/run.json"; then
        resume=()
        [[ -f "$run/run.json" ]] && resume=(--resume)
        "$tallow" train "$config" --set "name=multi30k-$name-$seed" --set "seed=$seed" "${resume[@]}"
    fi
    bleu=$(score "$run/run.json" BLEU)
    chrf=$(score "$run/run.json" chrF2)
    scores+=("$bleu")
    printf '%s, seed %s: BLEU %s, chrF2 %s\n' "$name" "$seed" "$bleu" "$chrf"
done
printf '%s\n' "${scores[@]}" | awk -v name="$name" '
    { sum += $1; if (NR == 1 || $1 < least) least = $1; if (NR == 1 || $1 > most) most = $1 }
    END {
        mean = sum / NR
        if (NR > 1) printf "%s, %d seeds: BLEU %.2f on average, %.2f to %.2f\n", name, NR, mean, least, most
    }'
