# bash completion of warmctl and warmpy; installed as completions/warmctl and completions/warmpy.

_warmctl_names() {
    local dir=${WARMFORK_RUNTIME_DIR:-${XDG_RUNTIME_DIR:+$XDG_RUNTIME_DIR/warmfork}}
    dir=${dir:-/tmp/warmfork-$UID}/zygotes
    local path
    for path in "$dir"/*; do
        [[ -f $path ]] && printf '%s\n' "${path##*/}"
    done
}

_warmctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "start warm status stop logs audit --help --version" -- "$cur"))
        return
    fi
    local i
    for ((i = 2; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} == -- ]] && { COMPREPLY=($(compgen -W "-b -B -E -I -O -OO -P -q -s -S -u -W -X" -- "$cur")); return; }
    done
    if [[ $command == audit ]]; then
        case $prev in
        --fail-on) COMPREPLY=($(compgen -W "unsafe warning info never" -- "$cur")) ;;
        -m | -c) ;;
        *)
            if [[ $cur == -* ]]; then
                COMPREPLY=($(compgen -W "--json --fail-on --python -m -c" -- "$cur"))
            else
                compopt -o filenames 2>/dev/null
                COMPREPLY=($(compgen -d -- "$cur") $(compgen -f -X '!*.@(py|pyz|zip)' -- "$cur"))
            fi ;;
        esac
        return
    fi
    case $prev in
    --init | --python) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")); return ;;
    --preload | -n | --lines) return ;;
    esac
    case $command in
    start)
        if [[ $cur == -* ]]; then
            COMPREPLY=($(compgen -W "--preload --init --python --no-wait --" -- "$cur"))
        else
            COMPREPLY=($(compgen -W "$(_warmctl_names)" -- "$cur"))
        fi ;;
    warm) COMPREPLY=($(compgen -W "--preload --python --no-wait --" -- "$cur")) ;;
    status) COMPREPLY=($(compgen -W "--json $(_warmctl_names)" -- "$cur")) ;;
    stop) COMPREPLY=($(compgen -W "$(_warmctl_names)" -- "$cur")) ;;
    logs) COMPREPLY=($(compgen -W "-f -n --follow --lines" -- "$cur")) ;;
    esac
}
complete -F _warmctl warmctl

# As python's own: its options, then files.
_warmpy() {
    local cur=${COMP_WORDS[COMP_CWORD]}
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        -W | -X) ((i++)) ;;
        -*) ;;
        *) compopt -o default 2>/dev/null; COMPREPLY=(); return ;; # the program's own arguments
        esac
    done
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "-b -bb -B -c -d -E -h -i -I -m -O -OO -P -q -s -S -u -v -V -W -x -X --help --version" -- "$cur"))
    else
        compopt -o filenames 2>/dev/null
        COMPREPLY=($(compgen -d -- "$cur") $(compgen -f -X '!*.@(py|pyz|zip)' -- "$cur"))
    fi
}
complete -F _warmpy warmpy
