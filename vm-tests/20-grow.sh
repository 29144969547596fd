#!/bin/bash
# A volume grows while its file system is mounted and written to, and while nobody uses it; what is wrong is refused meanwhile and
# does nothing.
# deadline: 540
. "$(dirname "$0")/_lib.sh"
need_cluster 3

# The size in bytes that the kernel gives the device on a box.
bytes_on() {
    box "$1" "echo \$((\$(cat /sys/class/block/\$(basename \$(readlink $V/db/device))/size) * 512))"
}

# grown MIB: the kernels of both boxes give the device so much.
grown() {
    local number bytes
    for number in 2 3; do
        bytes=$(bytes_on $number)
        [ "$bytes" -ge $(($1 << 20)) ] || fail "the device on box$number has $bytes bytes"
    done
}

make_volume 3 db "size=64M place=box2,box3"
say "from 64M to 96M, used by nobody"
must box 2 "echo 96M >$V/db/size"
must box 1 "holdfast wait db --synced --timeout 120"
grown 96
until_box 1 30 "[ \"\$(cat $V/db/used-by)\" = - ]"
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
grown 192

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

say "from 192M to 256M, used by nobody again, and then used"
must box 3 "echo 256M >$V/db/size"
must box 3 "holdfast wait db --synced --timeout 120"
grown 256
until_box 3 30 "[ \"\$(cat $V/db/used-by)\" = - ]"
mount_on 2 db
must box 2 "resize2fs \$(readlink $V/db/device) && sha256sum -c /mnt/db/sum"
unmount 2 db
remove_volume 3 db
healthy 60
