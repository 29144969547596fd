#!/bin/bash
# Three boxes, DRBD 9: the box that writes is cut off from the other two. It gets an error instead of a write that would be lost,
# the other two go on, and nothing that was acknowledged is missing there.
# deadline: 420
. "$(dirname "$0")/_lib.sh"
need_cluster 3
[ "$GENERATION" = 9 ] || skip "the quorum of a volume is DRBD 9's; these boxes have 8.4 (DRBD_MODULES=DIR for 9)"

make_volume 1 db "size=128M place=box2,box3"
expect_eq "kind on box1" "$(box 3 cat $V/db/on/box1/kind)" tie-breaker
use 2 db
start_writer 2 db

say "the box that writes is cut off from both others"
must "$LAB" cut box2
until_box 2 90 "[ -e /run/db.error ]"
box 2 "cat /run/db.error"
count=$(acked 2 db)
say "acknowledged up to then: $count"
until_box 2 60 "read -r word rest <$V/db/state; echo \$word \$rest; [ \$word = stopped ]"
must_fail box 2 "echo 256M >$V/db/size"

say "the other two go on"
until_state 3 db degraded 180
mount_on 3 db
has_numbers 3 db "$count"
must box 3 "echo from box3 >/mnt/db/more && sync /mnt/db/more"

say "the cut is mended"
must box 2 "umount /mnt/db"
must "$LAB" mend
must box 3 "holdfast wait db --synced --timeout 240"
healthy 120
must_fail box 1 "grep -i split /cluster/health $V/db/health"
unmount 3 db
mount_on 2 db
expect_eq "what was written without box2" "$(box 2 cat /mnt/db/more)" "from box3"
has_numbers 2 db "$count"
unmount 2 db
remove_volume 1 db
