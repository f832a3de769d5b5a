# Sessions from a shell: source this file, then
#
#     codex_session_start "$@" || :            # writes session_start and the .meta file, exports CODEX_SESSION_ID
#     trap 'codex_session_end $? || :' EXIT    # writes session_end with the exit code and the duration
#     trap 'exit 143' TERM                     # where a signal ends the shell without its EXIT trap, as in dash
#
# For dash, bash, zsh, BusyBox and their like; it needs awk, cat, chmod, date, dd, ls, mkdir, od, sed, tail and tr, and
# takes the writers' lock where there is flock. Both functions return 2 for a session id that can't name a file, which
# `|| :` keeps from ending a script under `set -e`. A write that fails is warned of, and returns 0: it can't stop an
# agent. Without an argument codex_session_end takes the status of the command before it; what is no whole number is
# logged as null.
#
# Nothing of the caller's changes but CODEX_SESSION_ID: the work is done in subshells, and names that begin with _codex_
# are this file's own. Text is written as ASCII JSON; a byte that is not UTF-8 becomes \udcXX, XX being its hexadecimal
# value, as Python's surrogateescape has it. Logs aren't rotated here: the next writer in Python does that.

codex_session_start() {
    : "${_codex_home=${PWD-}}"
    _codex_given=$(_codex_session_id) || return 2
    case ${CODEX_SESSION_ID-} in
        "$_codex_given") ;;
        *) CODEX_SESSION_ID=$_codex_given ;;
    esac
    export CODEX_SESSION_ID
    (_codex_start "$@") || :
}

codex_session_end() {
    _codex_status=${1-$?}
    : "${_codex_home=${PWD-}}"
    _codex_given=$(_codex_session_id) || return 2
    (_codex_end "$_codex_given" "$_codex_status") || :
}

# All that follows runs in subshells. `command` passes over the caller's aliases and functions.

_codex_calm() {
    [ -z "${ZSH_VERSION-}" ] || emulate sh
    LC_ALL=C
    export LC_ALL
    umask 077
}

_codex_warn() {
    printf 'codex: %s\n' "$1" >&2
}

# CODEX_SESSION_ID, else SESSION_ID_SOURCE, else a new UUID4; the same ids are refused as in config.py.
_codex_session_id() (
    _codex_calm
    id=${CODEX_SESSION_ID:-${SESSION_ID_SOURCE:-}}
    if [ -z "$id" ]; then
        id=$(command od -An -N16 -tx1 /dev/urandom | command tr -d ' \n' |
            command sed 's/^\(.\{8\}\)\(.\{4\}\).\(.\{3\}\).\(.\{3\}\)\(.\{12\}\)$/\1-\2-4\3-a\4-\5/')
    fi
    problem=
    case $id in
        '' | [!A-Za-z0-9_]* | *[!A-Za-z0-9._@+=,~\ -]*)
            problem='is not 1 to 200 letters, digits and ._@+=,~- (the first a letter, digit or _)' ;;
        *[.\ ]) problem='ends in a dot or a space' ;;
    esac
    [ "${#id}" -le 200 ] || problem='is longer than 200 characters'
    device=${id%%.*}
    while [ "$device" != "${device% }" ]; do device=${device% }; done
    case $device in
        [Cc][Oo][Nn] | [Pp][Rr][Nn] | [Aa][Uu][Xx] | [Nn][Uu][Ll] | [Cc][Oo][Mm][1-9] | [Ll][Pp][Tt][1-9])
            problem='is the name of a device on Windows' ;;
    esac
    if [ -n "$problem" ]; then
        _codex_warn "the session id can't name a log file: it $problem; choose another CODEX_SESSION_ID, or unset it"
        exit 2
    fi
    printf '%s\n' "$id"
)

_codex_start() {
    _codex_calm
    _codex_is_test && exit
    now=$(_codex_now)
    log=$(_codex_log "$CODEX_SESSION_ID" && printf x)
    log=${log%x}
    cwd=$(pwd -P 2>/dev/null && printf x)
    cwd=${cwd%?x}
    if [ -d "$cwd" ]; then cwd=$(_codex_json "$cwd"); else cwd=null; fi
    _codex_append "${log%.ndjson}.meta" "$now session_start $CODEX_SESSION_ID"
    _codex_append "$log" "$(
        printf '{"ts":"%s","type":"session_start","session_id":"%s",' "$now" "$CODEX_SESSION_ID"
        printf '"cwd":%s,"argv":[%s]}' "$cwd" "$(_codex_json "$@")"
    )"
}

_codex_end() {
    _codex_calm
    _codex_is_test && exit
    now=$(_codex_now)
    log=$(_codex_log "$1" && printf x)
    log=${log%x}
    case ${2#-} in
        '' | *[!0-9]* | 0?*) code=null ;;
        *) code=$2 ;;
    esac
    duration=$(_codex_duration "$1" "${log%.ndjson}.meta" "$now")
    _codex_append "$log" "$(
        printf '{"ts":"%s","type":"session_end","session_id":"%s",' "$now" "$1"
        printf '"exit_code":%s,"duration_s":%s}' "$code" "$duration"
    )"
}

_codex_is_test() {
    case $(printf '%s' "${TEST_MODE-}" | command tr -d ' \t\n' | command tr A-Z a-z) in
        1 | true | yes | on) return 0 ;;
    esac
    return 1
}

# UTC in ISO 8601, with microseconds where date knows them.
_codex_now() {
    now=$(command date -u +%Y-%m-%dT%H:%M:%S.%6NZ 2>/dev/null)
    case $now in
        *:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z) printf '%s' "$now" ;;
        *) command date -u +%Y-%m-%dT%H:%M:%SZ ;;
    esac
}

# The file of a session's records. A relative path is relative to where the first session began.
_codex_log() {
    log=${CODEX_LOG_DB_PATH:-${CODEX_DB_PATH:-}}
    case $log in
        *.ndjson) ;;
        *) log=${CODEX_SESSION_LOG_DIR:-.codex/sessions}/$1.ndjson ;;
    esac
    case $log in
        /*) ;;
        [~]/*) log=${HOME-}/${log#??} ;;
        *) log=$_codex_home/$log ;;
    esac
    printf '%s' "$log"
}

# Whole seconds from the session's last start, which its .meta file tells, to `$3`; null where that isn't told.
_codex_duration() {
    { command cat "$2" 2>/dev/null; printf '%s now %s\n' "$3" "$1"; } | command awk -v id="$1" '
        function seconds(time,   part, year, month) {
            split(time, part, "[-T:Z]")
            year = part[1] - (part[2] < 3)
            month = part[2] + (part[2] < 3 ? 9 : -3)
            return (365 * year + int(year / 4) - int(year / 100) + int(year / 400) + int((153 * month + 2) / 5) \
                + part[3]) * 86400 + part[4] * 3600 + part[5] * 60 + part[6]
        }
        {
            name = $0
            sub(/^[^ ]* [^ ]* /, "", name)
        }
        $2 == "session_start" && name == id { begun = $1 }
        $2 == "now" { ended = $1 }
        END {
            duration = seconds(ended) - seconds(begun)
            if (begun !~ /^[0-9]+-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9.]+Z$/) print "null"
            else printf "%d\n", (duration < 0 ? 0 : duration)
        }'
}

# The arguments as JSON strings, with commas between them.
_codex_json() {
    [ "$#" -gt 0 ] || return 0
    printf '%s\0' "$@" | command od -An -v -tu1 | command awk '
        function lone(byte) { return sprintf("\\udc%02x", byte) }
        function character(code) {
            if (code < 65536) return sprintf("\\u%04x", code)
            code -= 65536
            return sprintf("\\u%04x\\u%04x", 55296 + int(code / 1024), 56320 + code % 1024)
        }
        function begin(byte, bits, following, from, to) {
            code = bits; missing = following; low = from; high = to; held = lone(byte)
        }
        function take(byte) {
            if (missing && byte >= low && byte <= high) {
                code = code * 64 + byte - 128; held = held lone(byte); low = 128; high = 191; missing--
                if (!missing) { printf "%s", character(code); held = "" }
                return
            }
            printf "%s", held
            held = ""; missing = 0
            if (byte == 0) { printf "\""; inside = 0 }
            else if (byte == 34) printf "\\\""
            else if (byte == 92) printf "\\\\"
            else if (byte < 32 || byte == 127) printf "%s", character(byte)
            else if (byte < 128) printf "%c", byte
            else if (byte < 194 || byte > 244) printf "%s", lone(byte)
            else if (byte < 224) begin(byte, byte - 192, 1, 128, 191)
            else if (byte < 240) begin(byte, byte - 224, 2, (byte == 224 ? 160 : 128), (byte == 237 ? 159 : 191))
            else begin(byte, byte - 240, 3, (byte == 240 ? 144 : 128), (byte == 244 ? 143 : 191))
        }
        {
            for (i = 1; i <= NF; i++) {
                if (!inside) { printf "%s\"", comma; comma = ","; inside = 1 }
                take($i + 0)
            }
        }'
}

# Append a line to a file: again when that failed, and again as often as the file was rotated meanwhile.
_codex_append() {
    if [ -h "$1" ] || [ -p "$1" ] || [ -S "$1" ] || [ -b "$1" ] || [ -c "$1" ] || [ -d "$1" ]; then
        _codex_warn "not logged: $1 is not a regular file"
        return
    fi
    failed=
    for look in 1 2 3 4 5 6 7 8; do
        _codex_make "$1"
        _codex_append_locked "$1" "$2" 2>/dev/null
        case $? in
            0) return ;;
            75) ;;
            *) [ -z "$failed" ] || break; failed=1 ;;
        esac
    done
    _codex_warn "not logged: $1 can't be written"
}

_codex_make() {
    [ -e "$1" ] && return
    case ${CODEX_LOG_FILE_MODE-} in
        [0-7][0-7][0-7] | 0[0-7][0-7][0-7]) mode=$CODEX_LOG_FILE_MODE ;;
        *) mode=600 ;;
    esac
    command mkdir -p "${1%/*}" && printf '' >>"$1" && command chmod "$mode" "$1" && command chmod u+rw "$1"
} 2>/dev/null

# One write to a descriptor in append mode, which dd makes of all that it is given, under the lock that every writer
# takes (see writer.py) where there is flock(1); a dead writer's torn tail is closed first.
_codex_append_locked() {
    file=$(command ls -i "$1")
    # shellcheck disable=SC2094
    (
        command flock -x -w 2 9 || command flock -x -n 9
        [ "$(command ls -i "$1")" = "$file" ] || [ "$look" = 8 ] || exit 75
        torn=
        [ -s "$1" ] && [ "$(command tail -c 1 "$1" | command od -An -tx1 | command tr -d ' \n')" != 0a ] && torn='
'
        printf '%s%s\n' "$torn" "$2" | command dd ibs=65536 obs=16777216 >&9
    ) 9>>"$1"
}
