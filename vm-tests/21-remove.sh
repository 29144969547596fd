#!/bin/bash
# rmdir: refused while the volume is in use anywhere; afterwards nothing is left of it on any box, and its name is free at once.
# deadline: 360
. "$(dirname "$0")/_lib.sh"
need_cluster 3

free=$(box 1 cat /cluster/pools/main/free)
make_volume 1 db "size=64M place=box2,box3"
[ "$(box 1 cat /cluster/pools/main/free)" != "$free" ] || fail "the volume takes no room in pool main"
device=$(box 1 readlink $V/db/device)
use 2 db
must box 2 "echo hello >/mnt/db/file && sync"

say "not while it is in use"
for number in 1 2 3; do
    must_fail box $number "rmdir $V/db"
    must box $number "grep 'in use on box2' $V/db/error"
done
must_fail box 2 "rm -rf $V/db"
expect_eq "the file" "$(box 2 cat /mnt/db/file)" hello
until_state 1 db ready 10

say "used no longer, it goes from all boxes"
unmount 2 db
remove_volume 3 db
for number in 1 2 3; do
    until_box $number 20 "! ls $V/db"
    must box $number "lvs --noheadings -o lv_name >/run/lvs && ! grep -w db /run/lvs"
    must_fail box $number "test -e $device"
    must_fail box $number "test -e /etc/drbd.d/db.res"
    must_fail box $number "drbdsetup status db"
    must_fail box $number "ls /cluster/nodes/box2/volumes/db"
done
until_box 1 30 "[ \"\$(cat /cluster/pools/main/free)\" = '$free' ]"

say "the same name again, and once more without a pause"
make_volume 2 db "size=64M place=box2,box3"
until_box 2 30 "rmdir $V/db"
make_volume 2 db "size=32M place=box3,box2"
promote 3 db
must_fail box 3 "blkid -p $V/db/device"
demote 3 db
remove_volume 2 db

say "a volume without a size"
must box 1 "mkdir $V/empty && rmdir $V/empty"
must_fail box 1 "ls $V/empty"
healthy 30
