#!/bin/bash
# All boxes lose power at once, under writes. Two of them come back and bring their volume up without any leader; then the leader
# comes back. No wish and nothing acknowledged is lost.
# deadline: 600
. "$(dirname "$0")/_lib.sh"
need_cluster 3

make_volume 1 db "size=64M place=box2,box3"
must box 1 "mkdir $V/wish /cluster/groups/mine && echo group=mine place=box1,box3 >$V/wish/spec"
use 2 db
must box 2 "head -c 10000000 /dev/urandom >/mnt/db/file && sha256sum /mnt/db/file >/mnt/db/sum && sync"
start_writer 2 db
must box 3 "mkdir $V/last"
wishes=$(box 1 'cd /cluster && grep -r . name id volumes/*/spec volumes/*/id pools/*/kind groups nodes/*/disks/*/pool')
[ -n "$wishes" ] || fail "there are no wishes"
count=$(acked 2 db)

say "no power anywhere"
for number in 1 2 3; do must "$LAB" power-off box$number; done

say "box2 and box3 have power again"
for number in 2 3; do must "$LAB" power-on box$number; done
for number in 2 3; do
    until_box $number 180 "grep -x UpToDate $V/db/on/box2/disk && grep -x UpToDate $V/db/on/box3/disk"
    expect_eq leader "$(box $number cat /cluster/leader)" -
done
until_state 3 db ready 120
box 2 "cat /cluster/status; cat /cluster/health"
expect_eq "last wish" "$(box 2 cat $V/last/state)" unsized
must_fail box 2 "mkdir $V/new"

say "the leader too"
must "$LAB" power-on box1
for number in 1 2 3; do until_box $number 240 "grep -x box1 /cluster/leader && grep -x ok /cluster/health"; done
for number in 1 2 3; do
    expect_eq "wishes on box$number" \
        "$(box $number 'cd /cluster && grep -r . name id volumes/*/spec volumes/*/id pools/*/kind groups nodes/*/disks/*/pool')" \
        "$wishes"
done

say "and the data is there"
# On 8.4 box2 was Primary by a wish, which is kept.
[ "$GENERATION" = 9 ] || until_box 2 60 "grep -x box2 $V/db/used-by"
mount_on 2 db
must box 2 "sha256sum -c /mnt/db/sum"
has_numbers 2 db "$count"
unmount 2 db
mount_on 3 db
must box 3 "sha256sum -c /mnt/db/sum"
has_numbers 3 db "$count"
unmount 3 db
must box 1 "rmdir $V/wish $V/last /cluster/groups/mine"
remove_volume 1 db
