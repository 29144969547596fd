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

# The rest is for scripts that use a cluster. They share one to save time: each leaves it as it was.

# Where the volumes are, in each box.
V=/cluster/volumes

# need_cluster N: a healthy cluster of N boxes without volumes, with the DRBD that is asked for; a fresh one if what is up is not
# like that. Sets GENERATION to 8 or 9.
need_cluster() {
    if ! cluster_fits "$1"; then
        must "$LAB" down
        must "$LAB" up "$1"
    fi
    GENERATION=$(generation)
    # A young cluster goes on completing its own store: two copies with DRBD 8.4, three with 9.
    case $GENERATION in
    8) until_box 1 180 "[ \$(grep -o UpToDate /proc/drbd | wc -l) -ge 2 ]" ;;
    9) until_box 1 180 "[ \$(drbdsetup status holdfast-meta | grep -c 'disk:UpToDate') -ge 3 ]" ;;
    *) fail "nodes/box1/drbd says '$GENERATION'" ;;
    esac
    healthy 60
}

# Whether the lab that is up can be used as it is.
cluster_fits() {
    local boxes=$1 wanted=8 status number
    [ -z "${DRBD_MODULES:-}" ] || wanted=9
    status=$("$LAB" status 2>/dev/null) || return 1
    [ "$(grep -c '^box[0-9]' <<<"$status")" = "$boxes" ] || return 1
    [ "$(grep -c '^box[0-9]* *on ' <<<"$status")" = "$boxes" ] || return 1
    grep -q '^nothing is cut' <<<"$status" || return 1
    [ "$(generation)" = "$wanted" ] || return 1
    for ((number = 1; number <= boxes; number++)); do
        # What the script before it removed may still be on its way out.
        box "$number" "[ -z \"\$(ls $V)\" ] || exit 1
            for try in \$(seq 60); do
                [ \"\$(cat /cluster/health)\" = ok ] && ! grep -q dying /cluster/status && exit 0
                sleep 0.5
            done
            exit 1" || return 1
    done
}

# The generation of DRBD as the cluster says: 8 or 9.
generation() {
    box 1 'cut -d . -f 1 /cluster/nodes/box1/drbd'
}

# until_box N SECONDS CONDITION: waits in a box until a shell condition holds; shows what `about` prints there if it does not.
# The condition is looked at in the box, which is cheaper than `eventually` from outside.
until_box() {
    local number=$1 seconds=$2 condition=$3 code=0
    box "$number" "end=\$((SECONDS + $seconds))
        while :; do
            ($condition) >/tmp/condition 2>&1 && exit 0
            [ \$SECONDS -lt \$end ] || break
            sleep 0.3
        done
        cat /tmp/condition /cluster/status /cluster/health /cluster/errors
        exit 1" || code=$?
    [ "$code" = 0 ] || fail "box$number: not within $seconds s: $condition (exit code $code)"
}

# until_state N VOLUME WORD SECONDS: as box N sees it.
until_state() {
    until_box "$1" "$4" "read -r word rest <$V/$2/state; echo \"state: \$word \$rest\"; [ \"\$word\" = $3 ]"
}

# make_volume N VOLUME SPEC: mkdir and echo on box N, until all copies are there.
make_volume() {
    must box "$1" "mkdir $V/$2 && echo '$3' >$V/$2/spec"
    must box "$1" "holdfast wait $2 --synced --timeout 240"
}

# promote N VOLUME: lets box N open the device. DRBD 9 does that by itself.
promote() {
    [ "$GENERATION" = 8 ] || return 0
    must box "$1" "echo primary >$V/$2/on/box$1/role"
    until_box "$1" 30 "grep -qw box$1 $V/$2/used-by"
}

# demote N VOLUME: the reverse, after which another box may open it.
demote() {
    [ "$GENERATION" = 9 ] || must box "$1" "echo secondary >$V/$2/on/box$1/role"
    until_box "$1" 30 "[ \"\$(cat $V/$2/used-by)\" = - ]"
}

# use N VOLUME: box N makes a file system on it and mounts it on /mnt/VOLUME.
use() {
    promote "$1" "$2"
    must box "$1" "mkfs.ext4 -q $V/$2/device && mkdir -p /mnt/$2 && mount $V/$2/device /mnt/$2"
}

# mount_on N VOLUME: box N mounts the file system that is on it already.
mount_on() {
    promote "$1" "$2"
    must box "$1" "mkdir -p /mnt/$2 && mount $V/$2/device /mnt/$2"
}

# unmount N VOLUME: box N uses it no longer.
unmount() {
    must box "$1" "umount /mnt/$2"
    demote "$1" "$2"
}

# remove_volume N VOLUME: on box N; it is not in use any more.
remove_volume() {
    # What DRBD closed a moment ago may still be seen as open.
    until_box "$1" 30 "[ ! -e $V/$2 ] || rmdir $V/$2"
    until_box "$1" 120 "! grep -q dying /cluster/status"
}

# start_writer N VOLUME: a process in box N that appends 1, 2, 3, ... to /mnt/VOLUME/numbers, each with fsync, and each acknowledged
# one to /run/VOLUME.acked. It stops at the first error, which it keeps in /run/VOLUME.error.
start_writer() {
    must box "$1" "rm -f /run/$2.*
        cat >/run/$2.writer <<'END'
n=0
while [ ! -e /run/$2.stop ]; do
    n=\$((n + 1))
    if ! echo \$n | dd of=/mnt/$2/numbers oflag=append conv=notrunc,fsync status=none 2>/run/$2.said; then
        echo \"\$n: \$(cat /run/$2.said)\" >/run/$2.error
        break
    fi
    echo \$n >>/run/$2.acked
    sleep 0.05
done
END
        setsid bash /run/$2.writer >/dev/null 2>&1 &
        echo \$! >/run/$2.pid"
    writer_goes_on "$1" "$2"
}

# writer_goes_on N VOLUME: it has had no error, and within a bound more is acknowledged.
writer_goes_on() {
    local before
    before=$(acked "$1" "$2")
    until_box "$1" 60 "[ -e /run/$2.error ] || [ \$(cat /run/$2.acked | wc -l) -gt $((before + 2)) ]"
    no_write_error "$1" "$2"
}

# stop_writer N VOLUME: without an error so far.
stop_writer() {
    must box "$1" "touch /run/$2.stop"
    until_box "$1" 60 "[ ! -e /proc/\$(cat /run/$2.pid) ]"
    no_write_error "$1" "$2"
}

no_write_error() {
    local error
    error=$(box "$1" "cat /run/$2.error 2>/dev/null; true")
    [ -z "$error" ] || fail "the writer on box$1 got an error: $error"
}

# How many numbers are acknowledged so far.
acked() {
    box "$1" "cat /run/$2.acked 2>/dev/null | wc -l"
}

# has_numbers N VOLUME COUNT: what is mounted on box N has the first COUNT numbers, in order and whole.
has_numbers() {
    [ "$3" -gt 0 ] || fail "nothing was acknowledged"
    must box "$1" "head -n $3 /mnt/$2/numbers >/run/found && seq $3 | cmp - /run/found"
    say "box$1 has all $3 acknowledged numbers"
}

# checksum N VOLUME: of all of the device as box N reads it; it must be able to open it.
checksum() {
    box "$1" "md5sum <$V/$2/device | cut -d ' ' -f 1"
}

# all_boxes COMMAND: the same in box 1, 2 and 3; any failure counts.
all_boxes() {
    local number
    for number in 1 2 3; do must box "$number" "$1"; done
}

# healthy SECONDS [N]: /cluster/health is ok within the bound, on box N (1).
healthy() {
    until_box "${2:-1}" "$1" 'grep -qx ok /cluster/health'
}
