#!/bin/bash
# rmdir: refused while the volume is in use anywhere; its name is free at once; in the end nothing is left of it on any box.
# deadline: 300
. "$(dirname "$0")/_lib.sh"
need_cluster 3

free=$(box 1 cat /cluster/pools/main/free)
make_volume 1 db "size=64M place=box2,box3"
[ "$(box 1 cat /cluster/pools/main/free)" != "$free" ] || fail "the volume takes no room in pool main"
use 2 db
must box 2 "echo hello >/mnt/db/file && sync"

say "not while it is in use"
for number in 1 2 3; do
    must_fail box $number "rmdir $V/db"
    must box $number "grep 'in use on box2' $V/db/error"
done
must_fail box 2 "rm -rf $V/db" >/dev/null
expect_eq "the file" "$(box 2 cat /mnt/db/file)" hello
until_state 1 db ready 60
id=$(box 1 cat $V/db/id)

say "used no longer, it goes, and its name can be taken again without a pause"
unmount 2 db
until_box 3 30 "rmdir $V/db"
make_volume 3 db "size=32M place=box3,box2"
[ "$(box 1 cat $V/db/id)" != "$id" ] || fail "the new volume has the old one's id"
promote 3 db
must_fail box 3 "blkid -p $V/db/device"
demote 3 db
device=$(box 1 readlink $V/db/device)

say "nothing is left of it anywhere"
remove_volume 2 db
for number in 1 2 3; do
    until_box $number 20 "! ls $V/db"
    must box $number "lvs --noheadings -o lv_name >/run/lvs && ! grep -w db /run/lvs"
    must_fail box $number "test -e $device"
    must_fail box $number "test -e /etc/drbd.d/db.res"
    must_fail box $number "drbdsetup status db"
    must_fail box $number "ls /cluster/nodes/box2/volumes/db"
done
until_box 1 30 "[ \"\$(cat /cluster/pools/main/free)\" = '$free' ]"

say "a volume without a size"
must box 1 "mkdir $V/empty && rmdir $V/empty"
must_fail box 1 "ls $V/empty"
healthy 30
