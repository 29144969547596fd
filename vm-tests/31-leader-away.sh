#!/bin/bash
# The leader is away, without power or with its time standing still: everything can be read everywhere and the volumes go on being
# written; a change is refused in bounded time, and no process hangs. When it is back, changes are taken again.
# deadline: 600
. "$(dirname "$0")/_lib.sh"
need_cluster 3

make_volume 1 db "size=64M place=box2,box3"
use 2 db

# within SECONDS N COMMAND: on box N, and its exit code; 255, which is neither success nor a refusal, if it does not end in time.
within() {
    local seconds=$1 number=$2 code=0
    shift 2
    box "$number" "timeout -s KILL $seconds bash -c '$*'" || code=$?
    [ "$code" = 137 ] || return "$code"
    echo "box$number: not done within $seconds s: $*"
    return 255
}

# Twice, since a process may be in D for a moment; one that hangs is in it both times.
nobody_hangs() {
    until_box "$1" 60 "! ps -eo stat,pid,comm | grep '^D'"
}

while_away() {
    say "box2 and box3 see that it is away"
    for number in 2 3; do until_box $number 90 "grep -x away /cluster/nodes/box1/state && grep -x -- - /cluster/leader"; done
    box 2 "cat /cluster/health; cat /cluster/status"
    must_fail box 2 "grep -x ok /cluster/health"
    say "reads go on"
    for number in 2 3; do
        must within 15 $number "cat /cluster/status >/dev/null"
        must within 30 $number "ls -lR /cluster >/dev/null"
        must within 60 $number "find /cluster -type f ! -name token | xargs cat >/dev/null"
    done
    until_state 3 db ready 180
    writer_goes_on 2 db
    say "writes are refused, soon"
    must_fail within 20 2 "echo 96M >$V/db/size"
    must_fail within 20 3 "mkdir $V/new"
    said=$(box 3 "mkdir $V/new 2>&1; true")
    [[ $said == *"Read-only file system"* ]] || fail "mkdir says: $said"
    said=$(box 2 "(echo 96M >$V/db/size) 2>&1; true")
    [[ $said == *"Read-only file system"* ]] || fail "echo says: $said"
    must box 2 "cat $V/db/error; grep -i leader $V/db/error"
    expect_eq size "$(box 3 cat $V/db/size)" 64M
    must_fail box 3 "ls $V/new"
    writer_goes_on 2 db
    nobody_hangs 2
    nobody_hangs 3
}

and_back() {
    for number in 1 2 3; do until_box $number 180 "grep -x box1 /cluster/leader && grep -x ok /cluster/health"; done
    must box 3 "mkdir $V/new"
    must box 2 "rmdir $V/new"
    for number in 1 2 3; do until_state $number db ready 60; done
    writer_goes_on 2 db
}

start_writer 2 db
say "the leader loses power"
must "$LAB" power-off box1
while_away
say "it has power again"
must "$LAB" power-on box1
and_back

say "the leader's time stands still"
must "$LAB" freeze box1
while_away
say "its time goes on"
must "$LAB" thaw box1
and_back

stop_writer 2 db
count=$(acked 2 db)
unmount 2 db
mount_on 3 db
has_numbers 3 db "$count"
unmount 3 db
remove_volume 1 db
