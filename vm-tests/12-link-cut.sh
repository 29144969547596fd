#!/bin/bash
# The two boxes with copies cannot reach each other for a while: the one that writes goes on without an error, and after the mending
# both copies are the same, byte for byte.
# deadline: 420
. "$(dirname "$0")/_lib.sh"
need_cluster 3

make_volume 1 db "size=96M place=box2,box3"
use 2 db
start_writer 2 db

say "box2 and box3 are cut off from each other"
must "$LAB" cut box2 box3
until_state 1 db degraded 180
writer_goes_on 2 db
must_fail box 1 "holdfast wait db --synced --timeout 1"

say "mended"
must "$LAB" mend
must box 1 "holdfast wait db --synced --timeout 240"
writer_goes_on 2 db
stop_writer 2 db
count=$(acked 2 db)
unmount 2 db

say "both copies are the same"
promote 2 db
sum=$(checksum 2 db)
[ "${#sum}" = 32 ] || fail "no checksum: '$sum'"
demote 2 db
promote 3 db
expect_eq "checksum on box3" "$(checksum 3 db)" "$sum"
demote 3 db
mount_on 3 db
has_numbers 3 db "$count"
unmount 3 db
remove_volume 1 db
healthy 60
