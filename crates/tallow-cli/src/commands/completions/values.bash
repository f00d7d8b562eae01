
# Values that clap knows nothing of: keys after --set, configs, and the directories of models.
_tallow_values() {
    local cur="$2" command="${COMP_WORDS[1]}" before="${COMP_WORDS[COMP_CWORD-1]}" keys="@DECODE_KEYS@"
    if [[ "$command" == tokenizer ]]; then
        command="tokenizer ${COMP_WORDS[2]}"
    fi
    # In --set=KEY, the sign is a word of its own.
    if [[ "${COMP_WORDS[COMP_CWORD]}" == "=" ]]; then
        cur=""
    elif [[ "$before" == "=" ]]; then
        before="${COMP_WORDS[COMP_CWORD-2]}"
    fi
    case "$command" in
        @CONFIG_COMMANDS@)
            keys="@KEYS@"
            ;;
    esac
    if [[ "$before" == "--set" ]]; then
        COMPREPLY=( $(compgen -W "$keys" -- "$cur") )
        compopt -o nospace 2>/dev/null
        return 0
    fi
    case "$before" in
        @OPTIONS@)
            _tallow "$@"
            return
            ;;
    esac
    if [[ "$cur" == -* || "$COMP_CWORD" -eq 1 ]]; then
        _tallow "$@"
        return
    fi
    case "$command" in
        @CONFIG_COMMANDS@)
            local IFS=$'\n'
            COMPREPLY=( $(compgen -f -X '!*.toml' -- "$cur") $(compgen -d -- "$cur") )
            compopt -o filenames 2>/dev/null
            ;;
        @MODEL_COMMANDS@)
            local IFS=$'\n'
            COMPREPLY=( $(compgen -d -- "$cur") )
            compopt -o filenames 2>/dev/null
            ;;
        *)
            _tallow "$@"
            ;;
    esac
}

if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -F _tallow_values -o nosort -o bashdefault -o default tallow
else
    complete -F _tallow_values -o bashdefault -o default tallow
fi
