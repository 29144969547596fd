#!/bin/bash
# A volume grows while its file system is mounted and written to; what is wrong is refused meanwhile and does nothing.
# deadline: 420
. "$(dirname "$0")/_lib.sh"
need_cluster 3

# The size in bytes that the kernel gives the device on a box.
bytes_on() {
    box "$1" "echo \$((\$(cat /sys/class/block/\$(basename \$(readlink $V/db/device))/size) * 512))"
}

make_volume 3 db "size=96M place=box2,box3"
use 2 db
must box 2 "head -c 20000000 /dev/urandom >/mnt/db/file && sha256sum /mnt/db/file >/mnt/db/sum && sync"
start_writer 2 db
before=$(box 2 "stat -f -c %b /mnt/db")

say "from 96M to 192M, in use"
must box 1 "echo 192M >$V/db/size"
must_fail box 3 "echo 96M >$V/db/size"
must_fail box 3 "echo 900T >$V/db/size"
must_fail box 3 "echo lots >$V/db/size"
expect_eq size "$(box 3 cat $V/db/size)" 192M
must box 3 "holdfast wait db --synced --timeout 240"
for number in 2 3; do
    [ "$(bytes_on $number)" -ge $((192 << 20)) ] || fail "the device on box$number has $(bytes_on $number) bytes"
done

say "the file system too"
must box 2 "resize2fs \$(readlink $V/db/device)"
after=$(box 2 "stat -f -c %b /mnt/db")
[ "$after" -gt $((before * 3 / 2)) ] || fail "the file system had $before blocks and has $after"
must box 2 "head -c 60000000 /dev/urandom >/mnt/db/large && sha256sum /mnt/db/large >>/mnt/db/sum && sync"
writer_goes_on 2 db
stop_writer 2 db
count=$(acked 2 db)
must box 2 "sha256sum -c /mnt/db/sum"
must box 2 "holdfast wait db --synced --timeout 120"
unmount 2 db

say "the other copy has it all"
mount_on 3 db
must box 3 "sha256sum -c /mnt/db/sum"
has_numbers 3 db "$count"
expect_eq "blocks on box3" "$(box 3 "stat -f -c %b /mnt/db")" "$after"
unmount 3 db
remove_volume 3 db
healthy 60
