#!/bin/bash
# What cannot be or must not be is refused in the write itself, with a sentence where the tree says, and changes nothing: not a wish,
# not an LV, not a resource, not a byte at the start of a disk.
# deadline: 420
. "$(dirname "$0")/_lib.sh"
need_cluster 3

# refused N COMMAND ERROR-FILE WORDS: the command fails on box N, and then the file there has the words in its last line.
refused() {
    must_fail box "$1" "$2"
    must box "$1" "tail -n 1 /cluster/$3 | grep -F -- '$4'"
}

# All wishes, and what they were made into.
everything() {
    local number
    box 1 'cd /cluster && grep -r . name volumes/*/spec volumes/*/on/*/role pools/*/kind groups nodes/*/disks/*/pool
        ls -R volumes pools groups'
    for number in 1 2 3; do
        box $number "lvs --noheadings -o vg_name,lv_name,lv_size,lv_tags; pvs --noheadings -o pv_name,vg_name,pv_size
            ls /etc/drbd.d; cat /etc/drbd.d/*.res | md5sum; drbdadm status 2>&1 || cat /proc/drbd | grep -o ' [0-9]*: .*'
            for disk in /sys/class/block/vd[c-z]; do
                disk=/dev/\$(basename \$disk); blkid -p \$disk; head -c 1M \$disk | md5sum
            done"
    done
}

make_volume 1 db "size=64M place=box2,box3"
must box 1 "mkdir $V/other"
# Disks that are not blank, on box3: a file system, a partition table, one that is mounted.
with_fs=$("$LAB" add-disk box3 300M)
with_gpt=$("$LAB" add-disk box3 300M)
mounted=$("$LAB" add-disk box3 300M)
name_of() {
    box 3 "udevadm settle; basename \$(readlink -f /dev/disk/by-id/virtio-$1)"
}
fs=$(name_of "$with_fs") gpt=$(name_of "$with_gpt") used=$(name_of "$mounted")
must box 3 "mkfs.ext4 -q /dev/$fs; mkfs.ext4 -q /dev/$used; mkdir -p /mnt/used; mount /dev/$used /mnt/used
    printf 'EFI PART' | dd of=/dev/$gpt bs=512 seek=1 conv=sync,fsync,notrunc status=none"
# A GPT whose header is nothing but its signature is what a prober may take for none: it gets a protective MBR as well.
must box 3 "printf '\\000\\000\\002\\000\\356\\377\\377\\377\\001\\000\\000\\000\\377\\377\\011\\000' | dd of=/dev/$gpt bs=1 seek=446 conv=fsync,notrunc status=none
    printf '\\125\\252' | dd of=/dev/$gpt bs=1 seek=510 conv=fsync,notrunc status=none; udevadm trigger --settle /dev/$gpt"
disks=/cluster/nodes/box3/disks
until_box 1 60 "grep -x foreign $disks/$fs/state && grep -x foreign $disks/$gpt/state && grep -x in-use $disks/$used/state"
box 1 "grep . $disks/$fs/reason $disks/$gpt/reason $disks/$used/reason"
before=$(everything)

say "sizes"
for size in lots 10GB -1 0 1.5G 1K 99999999999999999999; do
    refused 2 "echo '$size' >$V/db/size" volumes/db/error "\"$size\""
done
refused 2 "echo >$V/db/size" volumes/db/error "empty"
refused 1 "echo 32M >$V/db/size" volumes/db/error '"32M" is smaller than db is now (64M)'
refused 3 "echo 900G >$V/db/size" volumes/db/error 'cannot grow to "900G"'
refused 3 "echo 900G >$V/other/size" volumes/other/error '900G'

say "boxes, replicas, groups, pools"
refused 1 "echo box2 box9 >$V/other/place" volumes/other/error 'there is no box box9'
refused 1 "echo box2,../x >$V/other/place" volumes/other/error 'is not a place'
refused 3 "echo 17 >$V/other/replicas" volumes/other/error '"17"'
[ "$GENERATION" = 9 ] || refused 3 "echo 3 >$V/other/replicas" volumes/other/error '"3" replicas are more than DRBD 8.4'
refused 1 "echo 0 >$V/other/replicas" volumes/other/error '"0"'
refused 2 "echo nogroup >$V/other/group" volumes/other/error 'there is no group nogroup'
refused 2 "echo nopool >$V/other/pool" volumes/other/error 'there is no pool nopool'
refused 2 "echo box1 >$V/db/place" volumes/db/error 'this version cannot take any away'
refused 2 "echo box1 box2 >$V/db/place" volumes/db/error 'this version cannot move replicas'
refused 3 "echo size=64M replicas=4 >$V/other/spec" volumes/other/error '4'

say "spec: all or nothing"
refused 1 "echo size=96M colour=red >$V/db/spec" volumes/db/error '"colour" is no key of spec'
refused 1 "echo size=96M replicas=99 >$V/db/spec" volumes/db/error '"99"'
refused 1 "echo size=96M size=128M >$V/db/spec" volumes/db/error 'twice'
refused 1 "echo 96M >$V/db/spec" volumes/db/error '"96M"'

say "names"
for name in .hidden -x 'a b' snapshot pvmove0 x_mimage "$(printf 'x%.0s' {1..60})"; do
    must_fail box 1 "mkdir -- '$V/$name'"
    must box 1 "tail -n 1 /cluster/errors | grep -F -- '$name'"
done
must_fail box 1 "mkdir $V/db"
must_fail box 1 "mkdir /cluster/pools/main"

say "one value, one line, at the start; facts are not written, files are not made or taken away"
refused 1 "echo 96M >>$V/db/size" volumes/db/error '>>'
# Bash's own printf makes a write(2) of each line.
refused 1 "env printf '96M\n128M\n' >$V/db/size" volumes/db/error 'line'
for file in state status id error on/box2/disk on/box2/kind; do must_fail box 1 "echo x >$V/db/$file"; done
must_fail box 1 "rm -f $V/db/size"
must_fail box 1 "touch $V/db/new"
must_fail box 1 "ln -s x $V/db/link"
must_fail box 1 "mv $V/db $V/db2"
must_fail box 1 "mkdir $V/db/on/box1"
must_fail box 1 "rmdir $V/db/on/box2"
must_fail box 1 "rmdir /cluster/nodes/box3"
must_fail box 1 "rmdir /cluster/groups/default"
must_fail box 1 "rmdir /cluster/pools/main"
refused 1 "echo upwards >$V/db/on/box2/role" volumes/db/error '"upwards" is not a role'

say "disks"
refused 1 "echo main >$disks/$fs/pool" errors "$fs is not blank"
refused 3 "echo main >$disks/$gpt/pool" errors "$gpt is not blank"
refused 2 "echo main >$disks/$used/pool" errors "$used is not blank but in use"
refused 3 "echo nopool >$disks/$fs/pool" errors 'there is no pool nopool'
refused 3 "echo none >$disks/vdc/pool" errors 'holds data'
must_fail box 3 "echo main >$disks/vdz/pool"
must_fail box 3 "echo main >/cluster/nodes/box9/disks/vdc/pool"

say "nothing has changed"
after=$(everything)
[ "$before" = "$after" ] || fail "changed: $(diff <(echo "$before") <(echo "$after"))"
must box 3 "umount /mnt/used"
for serial in "$with_fs" "$with_gpt" "$mounted"; do must "$LAB" pull-disk box3 "$serial"; done
until_box 1 60 "! ls $disks/$fs"
must box 1 "rmdir $V/other"
remove_volume 1 db
healthy 30
