# Helpers for the scripts here: `. "$(dirname "$0")/_lib.sh"` at their start.
# A script acts as an operator would, through `lab sh` and /cluster; it says what it shows, and stops at the first thing
# that is not as it must be. Exit code 77 skips it; its last line then says why.
# shellcheck shell=bash

set -eu
LAB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/lab
export LAB
# `lab sh` hands its input on, as ssh does; no script here wants that.
exec </dev/null

# A line for whoever reads the output: what comes next, or what was shown.
say() {
    echo "== $*"
}

# Ends the script: something is not as it must be.
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Ends the script: it cannot be run here, and why.
skip() {
    echo "skipped: $*"
    exit 77
}

# box N COMMAND: runs a command in a box, with its output and exit code.
box() {
    local number=$1
    shift
    "$LAB" sh "box$number" "$*"
}

# must COMMAND...: the command succeeds.
must() {
    local code=0
    "$@" || code=$?
    [ "$code" = 0 ] || fail "$* (exit code $code)"
}

# must_fail COMMAND...: the command fails by itself; a box that does not answer (255) is no proof. What it said is shown.
must_fail() {
    local code=0 said
    said=$("$@" 2>&1) || code=$?
    [ -z "$said" ] || echo "$said"
    [ "$code" != 0 ] || fail "$* succeeded"
    [ "$code" != 255 ] || fail "$*: no answer"
}

# eventually SECONDS COMMAND...: tries until the command succeeds; shows what was last seen if it never does.
eventually() {
    local seconds=$1 begin=$SECONDS said code
    shift
    while :; do
        code=0
        said=$("$@" 2>&1) || code=$?
        [ "$code" != 0 ] || break
        if [ $((SECONDS - begin)) -ge "$seconds" ]; then
            fail "not within $seconds s: $* (exit code $code); last seen: $said"
        fi
        sleep 0.2
    done
}

# expect_eq WHAT FOUND WANTED
expect_eq() {
    [ "$2" = "$3" ] || fail "$1 is '$2', it should be '$3'"
}

# The version of DRBD in the boxes: 8 or 9.
drbd_major() {
    box 1 'modprobe drbd; cut -d . -f 1 /sys/module/drbd/version'
}
