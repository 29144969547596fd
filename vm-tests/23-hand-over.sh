#!/bin/bash
# A blank disk is plugged in and handed to the pool: the pool grows by it, and a volume that had no room before has it now.
# deadline: 420
. "$(dirname "$0")/_lib.sh"
need_cluster 3

bytes() {
    box 1 "numfmt --from=iec <$1"
}

box 1 cat /cluster/status
size=$(bytes /cluster/pools/main/size)
# On each of box2 and box3 256M more than is free there now: no such volume fits.
wanted=$(($(box 1 "cat /cluster/nodes/box[23]/pools/main/free | numfmt --from=iec | sort -n | tail -n 1") / 1048576 + 256))
must box 1 "mkdir $V/large"
must_fail box 1 "echo size=${wanted}M place=box2,box3 >$V/large/spec"
must box 1 "cat $V/large/error; grep 'box2: ' $V/large/error"
expect_eq "the spec of the refused one" "$(box 1 cat $V/large/size)" none

say "a disk more in box2 and in box3"
for number in 2 3; do
    serial=$("$LAB" add-disk box$number 1G)
    disk=$(box $number "udevadm settle; basename \$(readlink -f /dev/disk/by-id/virtio-$serial)")
    disks=/cluster/nodes/box$number/disks
    until_box 1 60 "grep -x blank $disks/$disk/state"
    expect_eq serial "$(box 1 "cat $disks/$disk/serial")" "$serial"
    expect_eq size "$(box 1 "cat $disks/$disk/size")" 1G
    expect_eq pool "$(box 1 "cat $disks/$disk/pool")" none
    must box 1 "echo main >$disks/$disk/pool"
    until_box 1 60 "grep -x claimed $disks/$disk/state"
    expect_eq pool "$(box 1 "cat $disks/$disk/pool")" main
done
until_box 1 30 "[ \$(numfmt --from=iec </cluster/pools/main/size) -gt $((size + (2000 << 20))) ]"

say "now it fits"
must box 1 "echo size=${wanted}M place=box2,box3 >$V/large/spec"
must box 1 "holdfast wait large --timeout 300"
promote 2 large
# Its last mebibyte can be written.
must box 2 "head -c 1048576 /dev/urandom >/run/last; dd if=/run/last of=$V/large/device bs=1M seek=$((wanted - 1)) oflag=direct conv=fsync status=none
    dd if=$V/large/device bs=1M skip=$((wanted - 1)) count=1 iflag=direct status=none | cmp - /run/last"
demote 2 large
remove_volume 1 large
healthy 60
