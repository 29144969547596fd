#!/bin/bash
# mkdir and echo make a replicated device; the box that writes to it loses power; the other one reads all of it back. Then the
# first one gets its power back and what it missed.
# deadline: 420
. "$(dirname "$0")/_lib.sh"
need_cluster 3

say "a volume, made from a box that does not lead"
expect_eq leader "$(box 3 cat /cluster/leader)" box1
must box 3 "mkdir $V/db"
expect_eq "state without a size" "$(box 3 cat $V/db/state)" unsized
must box 3 "echo box2 box3 >$V/db/place"
must box 3 "echo 128M >$V/db/size"
must box 3 "holdfast wait db --timeout 240"
must box 3 "holdfast wait db --synced --timeout 240"
box 3 "cat $V/db/status"
for number in 1 2 3; do
    until_state $number db ready 60
    expect_eq "size on box$number" "$(box $number cat $V/db/size)" 128M
done
for number in 2 3; do
    expect_eq "kind on box$number" "$(box 1 cat $V/db/on/box$number/kind)" replica
    expect_eq "disk on box$number" "$(box 1 cat $V/db/on/box$number/disk)" UpToDate
done
if [ "$GENERATION" = 9 ]; then
    say "the box without a copy votes"
    expect_eq "kind on box1" "$(box 3 cat $V/db/on/box1/kind)" tie-breaker
    must_fail box 2 "echo primary >$V/db/on/box2/role"
else
    expect_eq "boxes" "$(box 3 ls $V/db/on | xargs)" "box2 box3"
fi

say "a file system on it, used on box2"
use 2 db
must box 2 "head -c 20000000 /dev/urandom >/mnt/db/file && sha256sum /mnt/db/file >/mnt/db/sum && sync"
expect_eq used-by "$(box 1 cat $V/db/used-by)" box2
must box 2 "holdfast wait db --synced --timeout 60"
[ "$GENERATION" = 9 ] || must_fail box 3 "dd if=$V/db/device of=/dev/null count=1"
start_writer 2 db
count=$(acked 2 db)

say "box2 loses power"
must "$LAB" power-off box2
until_state 1 db degraded 180
expect_eq "disk on box3" "$(box 1 cat $V/db/on/box3/disk)" UpToDate
if [ "$GENERATION" = 8 ]; then
    must_fail box 3 "echo primary >$V/db/on/box3/role"
    must box 3 "grep 'box2 was made Primary' $V/db/error"
    must box 3 "echo secondary >$V/db/on/box2/role"
fi
mount_on 3 db
must box 3 "sha256sum -c /mnt/db/sum"
has_numbers 3 db "$count"
must box 3 "echo more >/mnt/db/more && sync /mnt/db/more"

say "box2 has power again, and gets what it missed"
must "$LAB" power-on box2
must box 3 "holdfast wait db --synced --timeout 240"
until_state 2 db ready 180
unmount 3 db
mount_on 2 db
expect_eq "what was written without box2" "$(box 2 cat /mnt/db/more)" more
must box 2 "sha256sum -c /mnt/db/sum"
has_numbers 2 db "$count"
unmount 2 db
remove_volume 2 db
healthy 120
