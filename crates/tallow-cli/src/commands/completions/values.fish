
# Values that clap knows nothing of: keys after --set, and configs.
complete -c tallow -n "__fish_tallow_using_subcommand @CONFIG_COMMANDS@" -l set -x -a "@KEYS@"
complete -c tallow -n "__fish_tallow_using_subcommand @CONFIG_COMMANDS@" -k -x -a "(__fish_complete_suffix .toml)"
complete -c tallow -n "__fish_tallow_using_subcommand @SEARCH_COMMANDS@" -l set -x -a "@DECODE_KEYS@"
complete -c tallow -n "__fish_tallow_using_subcommand @MODEL_COMMANDS@" -x -a "(__fish_complete_directories)"
