#!/bin/bash
# DRBD 8.4 has no vote: a box that is cut off goes on writing, and another one can be told to. health says split brain while that is
# so, not for a mere cut; the way out in docs/operations.md works.
# deadline: 480
. "$(dirname "$0")/_lib.sh"
need_cluster 3
[ "$GENERATION" = 8 ] || skip "DRBD 9 with three boxes has a quorum: 11-quorum-of-three.sh"

make_volume 1 db "size=64M place=box2,box3"
use 2 db
must box 2 "echo before >/mnt/db/letter && sync"

say "box2 is cut off from box3: no split brain yet"
must "$LAB" cut box2 box3
until_state 1 db degraded 180
for try in 1 2 3 4 5 6; do
    must_fail box 1 "grep 'split brain' /cluster/health"
    must box 1 "sleep 2"
done

say "box3 is told to be Primary, and both write"
must box 1 "echo secondary >$V/db/on/box2/role"
must box 1 "echo primary >$V/db/on/box3/role"
until_box 3 60 "grep -qw box3 $V/db/used-by"
until_box 1 60 "grep 'volumes/db: split brain: box2 and box3 ' /cluster/health"
must box 1 "grep -F '(-12)' /cluster/health | grep 'unmount it there'"
must box 3 "mkdir -p /mnt/db && mount $V/db/device /mnt/db && echo three >/mnt/db/letter && sync"
must box 2 "echo two >/mnt/db/letter && sync"

say "mended: health says it, and goes on saying it"
must "$LAB" mend
until_box 1 120 "grep 'volumes/db: split brain: ' /cluster/health"
# box2 is no longer Primary: now only what DRBD found says it.
must box 2 "umount /mnt/db"
until_box 1 60 "[ \"\$(cat $V/db/used-by)\" = box3 ]"
for number in 2 3; do until_box $number 60 "dmesg | grep -qi split-brain && grep 'volumes/db: split brain: ' /cluster/health"; done
for try in $(seq 20); do
    must box 1 "grep -q 'volumes/db: split brain: ' /cluster/health; sleep 2"
done

say "box2's writes are dropped"
must box 2 "systemctl stop holdfast"
box 2 "drbdadm disconnect db" || true
must box 2 "drbdadm secondary db && drbdadm connect --discard-my-data db"
box 3 "drbdadm connect db" || true
until_box 2 120 "drbdadm dstate db | grep -qx UpToDate/UpToDate"
must box 2 "systemctl start holdfast"
must box 3 "grep -qx three /mnt/db/letter"
must box 1 "holdfast wait db --synced --timeout 120"
until_box 1 60 "! grep 'split brain' /cluster/health"
unmount 3 db
mount_on 2 db
must box 2 "grep -qx three /mnt/db/letter"
unmount 2 db
remove_volume 1 db
healthy 60
