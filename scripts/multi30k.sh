#!/usr/bin/env bash
# Reproduces a row of the table of Multi30k: fetches the data, builds Tallow, trains, and prints the scores.
#
#   bash scripts/multi30k.sh en-de                   configs/multi30k-en-de.toml with seed 1
#   bash scripts/multi30k.sh en-de 1 2 3             with each of these seeds, their mean and their spread
#   bash scripts/multi30k.sh --from DIR en-de        the data from a folder that has them
#
# A run that was interrupted is resumed; one that is finished is not repeated. Runs lie in runs/multi30k-NAME-SEED.
set -euo pipefail
export LC_ALL=C
began_in=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    sed -n '2,8s/^# \{0,1\}//p' scripts/multi30k.sh
    printf 'names: %s\n' "$(for config in configs/multi30k-*.toml; do basename "${config#configs/multi30k-}" .toml; done | tr '\n' ' ')"
    exit 2
} >&2

fail() {
    printf 'multi30k: %s\n' "$*" >&2
    exit 1
}

fetch=(bash scripts/fetch-multi30k.sh)
if [[ "${1:-}" == --from ]]; then
    [[ $# -ge 2 && -n "$2" ]] || usage
    # As seen from where the script was called.
    case $2 in
        /*) from=$2 ;;
        *) from=$began_in/$2 ;;
    esac
    [[ -d "$from" ]] || fail "--from $2: no such folder"
    fetch+=(--from "$from")
    shift 2
fi
[[ $# -ge 1 && "$1" != -* ]] || usage
name=$1
shift
config=configs/multi30k-$name.toml
[[ -f "$config" ]] || { printf 'multi30k: there is no %s\n' "$config" >&2; usage; }

# Before hours are spent on the first of them.
seeds=("$@")
[[ $# -gt 0 ]] || seeds=(1)
for seed in "${seeds[@]}"; do
    [[ "$seed" =~ ^(0|[1-9][0-9]{0,17})$ ]] || fail "$seed: not a seed; seeds are whole numbers of at most 18 digits"
done
twice=$(printf '%s\n' "${seeds[@]}" | sort | uniq -d)
[[ -z "$twice" ]] || fail "seed $twice: named twice"

"${fetch[@]}"
cargo build --release --package tallow-cli
tallow=${CARGO_TARGET_DIR:-target}/release/tallow

# Every value of a config but what its model card says, without where it came from.
values() {
    "$tallow" explain "$@" | sed -e '/^\[card\]/,$d' -e 's/ *# [^#]*$//'
}

# A score of run.json, by its name.
score() {
    awk -v name="\"$2\"" '$1 == "\"name\":" { found = index($2, name) == 1 } found && $1 == "\"score\":" { print $2 + 0; exit }' "$1"
}

scores=
for seed in "${seeds[@]}"; do
    run=runs/multi30k-$name-$seed
    set_name=(--set "name=multi30k-$name-$seed" --set "seed=$seed")
    if [[ ! -f "$run/run.json" ]]; then
        "$tallow" train "$config" "${set_name[@]}"
    else
        # A score must not be taken for that of another recipe.
        if [[ -f "$run/config.toml" ]]; then
            was=$(values "$run/config.toml") || fail "the config of $run cannot be read"
            is=$(values "$config" "${set_name[@]}") || fail "$config cannot be read"
            changes=$(diff <(printf '%s\n' "$was") <(printf '%s\n' "$is")) || fail "$run was made by another config (<) than \
$config (>); move it away or remove it:
$changes"
        fi
        if [[ ! -f "$run/config.toml" ]] || ! grep -q '"test": {' "$run/run.json"; then
            "$tallow" train "$config" "${set_name[@]}" --resume
        fi
    fi
    bleu=$(score "$run/run.json" BLEU)
    chrf=$(score "$run/run.json" chrF2)
    [[ -n "$bleu" && -n "$chrf" ]] || fail "$run/run.json holds no scores"
    printf '%s, seed %s: BLEU %s, chrF2 %s\n' "$name" "$seed" "$bleu" "$chrf"
    scores+="$bleu $chrf"$'\n'
done
printf '%s' "$scores" | awk -v name="$name" '
    function summary(metric, of,    i, sum, squares, least, most) {
        least = most = of[1]
        for (i = 1; i <= NR; i++) {
            sum += of[i]
            if (of[i] < least) least = of[i]
            if (of[i] > most) most = of[i]
        }
        for (i = 1; i <= NR; i++) squares += (of[i] - sum / NR) ^ 2
        printf "%s, %d seeds: %s %.2f on average, standard deviation %.2f, %.2f to %.2f\n",
            name, NR, metric, sum / NR, sqrt(squares / (NR - 1)), least, most
    }
    { bleu[NR] = $1; chrf[NR] = $2 }
    END { if (NR > 1) { summary("BLEU", bleu); summary("chrF2", chrf) } }'
