#!/usr/bin/env bash
# Fetches Multi30k, task 1 (English, German, French image captions), and checks every file.
#
#   scripts/fetch-multi30k.sh                  from the public repository into data/multi30k
#   scripts/fetch-multi30k.sh --from DIR       from a folder that holds the files already, plain or gzip
#   scripts/fetch-multi30k.sh --output DIR     into another folder
#
# The files are stored plain. The sums are those of the plain text, because the same text compresses to different
# bytes with different versions of gzip. Running the script again fetches only what is missing.
set -euo pipefail

readonly REPOSITORY=https://raw.githubusercontent.com/multi30k/dataset/master/data/task1

# SHA-256 of the plain text; folder, name and form of the file in the repository.
files() {
    cat <<'END'
460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6 raw train.en .gz
2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72 raw train.de .gz
5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d raw train.fr .gz
1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227 raw val.en .gz
660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660 raw val.de .gz
5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc raw val.fr .gz
399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182 raw test_2016_flickr.en .gz
4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16 raw test_2016_flickr.de .gz
cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6 raw test_2016_flickr.fr .gz
08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119 tok train.lc.norm.tok.en -
cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505 tok train.lc.norm.tok.de -
8fa41bb718412bcb7c5dfa58603842810a01543eae86a51279f9886b901266e1 tok train.lc.norm.tok.fr -
46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec tok val.lc.norm.tok.en -
97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00 tok val.lc.norm.tok.de -
b303e301aa21fe7822a846b2b3fb2d5a1121ec807cd5b1d006fb7b2b5507168a tok val.lc.norm.tok.fr -
5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2 tok test_2016_flickr.lc.norm.tok.en -
c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4 tok test_2016_flickr.lc.norm.tok.de -
1463bd5960f9bfe098ec3cd752d3df0c49c84dc646fb518964a29232658cd836 tok test_2016_flickr.lc.norm.tok.fr -
END
}

fail() {
    printf 'fetch-multi30k: %s\n' "$*" >&2
    exit 1
}

usage() {
    cat <<'END'
usage: fetch-multi30k.sh [--from DIR] [--output DIR]

  --from DIR     copy from a folder that holds the files, plain or gzip, instead of the network
  --output DIR   where to put the files (default: data/multi30k of this project)
END
}

licence() {
    cat <<'END'
Multi30k, task 1: English, German and French captions of the images of Flickr30k.
  Licence: for non-commercial research and education only. The captions derive from Flickr30k, whose terms apply;
  do not publish the files as part of another work. This project does not contain them.
  Cite: Elliott, Frank, Sima'an and Specia: Multi30K: Multilingual English-German Image Descriptions, 2016;
        French: Elliott, Frank, Barrault, Bougares and Specia, 2017. Source: github.com/multi30k/dataset
END
}

sum_of() {
    if command -v sha256sum >/dev/null; then
        sha256sum <"$1" | cut -d ' ' -f 1
    else
        shasum -a 256 <"$1" | cut -d ' ' -f 1
    fi
}

# download URL FILE
download() {
    if command -v curl >/dev/null; then
        curl --fail --silent --show-error --location --retry 3 --output "$2" "$1"
    else
        wget --quiet --tries 3 --output-document "$2" "$1"
    fi
}

# get FOLDER NAME FORM FILE: writes the plain text of NAME into FILE.
get() {
    local folder=$1 name=$2 form=$3 file=$4
    if [ -n "$from" ]; then
        if [ -f "$from/$name" ]; then
            cp "$from/$name" "$file"
        elif [ -f "$from/$name.gz" ]; then
            gzip -dc "$from/$name.gz" >"$file" || fail "$from/$name.gz: cannot be decompressed"
        else
            fail "$from holds neither $name nor $name.gz"
        fi
    elif [ "$form" = .gz ]; then
        download "$REPOSITORY/$folder/$name.gz" "$file.gz" || fail "cannot fetch $REPOSITORY/$folder/$name.gz"
        gzip -dc "$file.gz" >"$file" || fail "$REPOSITORY/$folder/$name.gz: cannot be decompressed"
    else
        download "$REPOSITORY/$folder/$name" "$file" || fail "cannot fetch $REPOSITORY/$folder/$name"
    fi
}

from=
output=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/data/multi30k
while [ $# -gt 0 ]; do
    case $1 in
        --from | --output)
            [ $# -ge 2 ] && [ -n "$2" ] || fail "$1 needs a folder"
            if [ "$1" = --from ]; then from=$2; else output=$2; fi
            shift 2
            ;;
        -h | --help)
            usage
            exit 0
            ;;
        *)
            usage >&2
            fail "unknown argument: $1"
            ;;
    esac
done
[ -z "$from" ] || [ -d "$from" ] || fail "--from $from: no such folder"
command -v sha256sum >/dev/null || command -v shasum >/dev/null || fail "needs sha256sum or shasum"
if [ -z "$from" ]; then
    command -v curl >/dev/null || command -v wget >/dev/null || fail "needs curl or wget (or --from DIR)"
fi

licence
mkdir -p "$output" || fail "--output $output: cannot be created"
# In the output folder, so that the last step is a rename: an interrupted run leaves no half file behind.
work=$(mktemp -d "$output/.fetch.XXXXXX") || fail "$output: cannot be written"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

present=0
new=0
while read -r sum folder name form; do
    if [ -e "$output/$name" ]; then
        [ "$(sum_of "$output/$name")" = "$sum" ] ||
            fail "$output/$name exists with other content; remove it to fetch it again"
        present=$((present + 1))
        continue
    fi
    get "$folder" "$name" "$form" "$work/$name"
    found=$(sum_of "$work/$name")
    [ "$found" = "$sum" ] || fail "$name: SHA-256 is $found instead of $sum: not the text this project was tested with"
    mv "$work/$name" "$output/$name"
    new=$((new + 1))
done < <(files)
printf '%s: %d files new, %d already there, all sums correct\n' "$output" "$new" "$present"
