# The checks that must pass before a commit.
check:
    bash scripts/check.sh

# A first model: the shipped toy corpus.
toy:
    cargo run --release -- train configs/numbers-en-de.toml
