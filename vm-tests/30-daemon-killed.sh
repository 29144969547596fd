#!/bin/bash
# The daemon dies (-9) again and again, on the box that writes and on the leader: the writer never notices, and what comes back
# finds everything in place and does nothing.
# deadline: 420
. "$(dirname "$0")/_lib.sh"
need_cluster 3

make_volume 1 db "size=64M place=box2,box3"
use 2 db
start_writer 2 db

# kill_daemon N: and wait for the new one to be of use.
kill_daemon() {
    local number=$1 old
    old=$(box "$number" "systemctl show --value -p MainPID holdfast")
    [ "$old" -gt 0 ] || fail "no daemon runs on box$number"
    # Where the log of the next one begins.
    must box "$number" "journalctl -u holdfast -n 1 --show-cursor --no-pager | sed -n 's/^-- cursor: //p' >/run/cursor; kill -9 $old"
    until_box "$number" 90 "new=\$(systemctl show --value -p MainPID holdfast); [ \$new -gt 0 ] && [ \$new != $old ] && ls /cluster/volumes/db && grep -x ok /cluster/health"
}

# did_nothing N: what was there was not made again.
did_nothing() {
    local log
    # shellcheck disable=SC2016
    log=$(box "$1" 'journalctl -u holdfast --no-pager -o cat --after-cursor="$(cat /run/cursor)"')
    grep 'runs as' <<<"$log" || fail "the log of box$1 does not have the start: $log"
    ! grep ': done$' <<<"$log" || fail "box$1 did something after the restart"
}

for round in 1 2 3; do
    say "round $round: the daemon of the box that writes"
    kill_daemon 2
    until_state 2 db ready 180
    writer_goes_on 2 db
    did_nothing 2
done
for round in 1 2; do
    say "round $round: the leader's daemon"
    kill_daemon 1
    until_box 3 60 "grep -x box1 /cluster/leader && grep -x ok /cluster/health"
    until_state 3 db ready 180
    must box 2 "mkdir $V/new$round"
    must box 3 "[ -d $V/new$round ] && rmdir $V/new$round"
    writer_goes_on 2 db
    did_nothing 1
done

say "all three at once"
all_boxes "kill -9 \$(systemctl show --value -p MainPID holdfast)"
for number in 1 2 3; do until_box $number 120 "grep -x ok /cluster/health && grep -x ready $V/db/state"; done
writer_goes_on 2 db
stop_writer 2 db
count=$(acked 2 db)
unmount 2 db
mount_on 3 db
has_numbers 3 db "$count"
unmount 3 db
remove_volume 1 db
healthy 30
