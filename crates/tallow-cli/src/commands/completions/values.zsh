
# The keys after --set, which no space follows.
_tallow_keys() {
    local -a keys=(@KEYS@)
    compadd -S '' -a keys
}

_tallow_decode_keys() {
    local -a keys=(@DECODE_KEYS@)
    compadd -S '' -a keys
}
