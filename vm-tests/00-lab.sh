#!/bin/bash
# The lab itself: boxes that reach each other, cuts, disks, the plug, time that stands still, and nothing left behind.
# deadline: 300
. "$(dirname "$0")/_lib.sh"

reaches() {
    box "$1" "ping -c 1 -W 3 box$2 >/dev/null"
}
reaches_not() {
    ! box "$1" "ping -c 2 -i 0.5 -W 1 box$2 >/dev/null"
}

say "three boxes without a cluster"
must "$LAB" up --bare 3
must_fail "$LAB" up --bare 3
for number in 1 2 3; do expect_eq "host name" "$(box $number hostname)" "box$number"; done
ids=$(for number in 1 2 3; do box $number 'cat /proc/sys/kernel/random/uuid'; done | sort -u | wc -l)
expect_eq "distinct random ids" "$ids" 3
machines=$(for number in 1 2 3; do box $number 'cat /etc/machine-id'; done | sort -u | wc -l)
expect_eq "distinct machine ids" "$machines" 3
drift=$(($(date +%s) - $(box 2 date +%s)))
[ ${drift#-} -le 3 ] || fail "box2's clock is $drift s off"
box 1 'echo drbd $(cat /sys/module/drbd/version); [ -c /dev/fuse ] && lvm version | head -n 1'

say "a command's output, input and exit code are passed on"
expect_eq "standard output" "$(box 1 'echo out; echo err >&2' 2>/dev/null)" out
expect_eq "standard error" "$(box 1 'echo out; echo err >&2' 2>&1 >/dev/null)" err
code=0
box 1 'exit 42' || code=$?
expect_eq "exit code" "$code" 42
expect_eq "bytes through a box" "$(head -c 3000000 /dev/zero | "$LAB" sh box1 cat | wc -c)" 3000000
begin=$SECONDS
box 1 'sleep 100 & echo started'
[ $((SECONDS - begin)) -lt 20 ] || fail "a command in the background holds up the caller"
timeout 1 "$LAB" sh box1 'sleep 1234' || :
eventually 10 box 1 '! pgrep -f "sleep [1]234"'

say "cuts: one pair, one box from all, and mending"
must reaches 1 2
must "$LAB" cut box1 box2
must reaches_not 1 2
must reaches 1 3
must reaches 2 3
must "$LAB" mend box2 box1
eventually 20 reaches 1 2
must "$LAB" cut box3
must reaches_not 1 3
must reaches_not 2 3
must reaches 1 2
must "$LAB" mend
eventually 20 reaches 1 3
must_fail_255() {
    code=0
    "$@" || code=$?
    expect_eq "exit code of $*" "$code" 255
}
must_fail_255 "$LAB" cut box1 box7

say "disks come and go, and keep what is on them"
serial=$("$LAB" add-disk box1 64M)
expect_eq "serial" "$serial" box1-d2
must box 1 "echo hello | dd of=/dev/disk/by-id/virtio-$serial bs=512 conv=sync,fsync 2>/dev/null"
expect_eq "size" "$(box 1 "blockdev --getsize64 /dev/disk/by-id/virtio-$serial")" $((64 << 20))
must "$LAB" pull-disk box1 "$serial"
eventually 10 box 1 "[ ! -e /dev/disk/by-id/virtio-$serial ]"
expect_eq "serial" "$("$LAB" add-disk box2 64M --serial "$serial")" "$serial"
expect_eq "what was written" "$(box 2 "head -c 5 /dev/disk/by-id/virtio-$serial")" hello
file=$(mktemp)
echo from a file >"$file"
must "$LAB" add-disk box3 32M --serial other --from "$file"
rm "$file"
expect_eq "what was in the file" "$(box 3 'head -c 11 /dev/disk/by-id/virtio-other')" "from a file"

say "the plug: what was written to disk is there afterwards"
must box 2 'echo kept > /var/lib/holdfast/kept; echo kept > /etc/kept; echo kept >/root/kept
    echo data | dd of=/dev/disk/by-id/virtio-box2-d1 bs=512 conv=sync,fsync 2>/dev/null; sync'
must "$LAB" power-off box2
must reaches_not 1 2
must_fail_255 box 2 true
must "$LAB" power-on box2
expect_eq "what was kept" "$(box 2 'cat /var/lib/holdfast/kept /etc/kept /root/kept | tr -d "\n"')" keptkeptkept
expect_eq "what was on the disk" "$(box 2 'head -c 4 /dev/disk/by-id/virtio-box2-d1')" data
expect_eq "the moved disk" "$(box 2 "head -c 5 /dev/disk/by-id/virtio-$serial")" hello
eventually 20 reaches 1 2

say "the same from the kernel up"
must box 2 'mkdir -p /etc/systemd/system
    printf "[Service]\nType=oneshot\nExecStart=/bin/touch /run/was-started\n[Install]\nWantedBy=multi-user.target\n" \
        >/etc/systemd/system/mine.service
    systemctl enable mine; sync'
must "$LAB" power-off box2
must "$LAB" power-on box2 --cold
expect_eq "host name" "$(box 2 hostname)" box2
eventually 60 box 2 '[ -e /run/was-started ]'
expect_eq "what was kept" "$(box 2 'cat /etc/kept')" kept
eventually 20 reaches 1 2

say "a box that restarts by itself comes back as itself"
box 2 'touch /run/lost; systemctl reboot 2>/dev/null; sleep 100' || :
expect_eq "what the restart cleared" "$(box 2 'ls /run/lost 2>/dev/null')" ""
expect_eq "host name" "$(box 2 hostname)" box2
eventually 60 reaches 1 2

say "an enabled service also starts in a restored box"
must "$LAB" power-off box2
must "$LAB" power-on box2
eventually 60 box 2 '[ -e /run/was-started ]'

say "a box of which the time stands still"
must "$LAB" freeze box3
must reaches_not 1 3
must_fail_255 box 3 true
must "$LAB" thaw box3
eventually 20 reaches 1 3

say "down leaves nothing behind"
run=$(readlink -f "$(dirname "$LAB")/../target/lab/run")
pids=$(pgrep -f "$run/" | sort)
[ -n "$pids" ] || fail "no process of the lab was found"
must "$LAB" down
for pid in $pids; do [ ! -e "/proc/$pid" ] || fail "process $pid is still there"; done
[ ! -e "$run" ] || fail "$run is still there"
must "$LAB" down
must_fail "$LAB" status
