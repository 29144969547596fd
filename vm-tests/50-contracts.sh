#!/bin/bash
# The step contracts (tests/contract) on this lab's kernel, in one box alone and in boxes together; and a daemon that records what
# LVM's and DRBD's programs say. With RECORDING_TO=DIR what was recorded is kept there, for tests/fixtures/recorded.
# deadline: 600
. "$(dirname "$0")/_lib.sh"
command -v cargo >/dev/null || skip "no cargo to build the contracts with"
repo=$(cd "$(dirname "$0")/.." && pwd)
binary=$(cd "$repo" && cargo test --quiet --no-run --test host_contract --message-format=json |
    sed -n 's/.*"executable":"\([^"]*host_contract-[^"]*\)".*/\1/p' | tail -n 1)
[ -x "$binary" ] || fail "the contracts were not built"
# Its symbols are most of it.
stripped=$(mktemp)
strip -o "$stripped" "$binary"

# Those that are together are on their own disks, and so is the one that is alone.
together=2
[ -z "${DRBD_MODULES:-}" ] || together=3
alone=$((together + 1))
"$LAB" down
must "$LAB" up --bare $alone --disks 2 --disk-size 1G
for ((number = 1; number <= alone; number++)); do
    must "$LAB" sh box$number 'cat >/root/host_contract && chmod +x /root/host_contract && modprobe drbd' <"$stripped"
done
rm "$stripped"
# shellcheck disable=SC2016
box 1 'echo "DRBD $(cat /sys/module/drbd/version), $(drbdadm --version | grep DRBDADM_VERSION=), $(lvm version | head -n 1)"'

# contract N TEST BOXES: the output of the last is kept in the box, and shown where it fails.
contract() {
    local boxes number
    for ((number = 1; number <= together; number++)); do boxes=${boxes:+$boxes,}box$number=10.77.0.$number; done
    [ "$1" -le $together ] || boxes=box$1=10.77.0.$1
    box "$1" "cd /root && disk() { readlink -f /dev/disk/by-id/virtio-box$1-d\$1; }
        export HOLDFAST_TEST_DISK=\$(disk 1),\$(disk 2) HOLDFAST_TEST_BOXES=$boxes HOLDFAST_TEST_RECORDING=/root/recording
        export HOLDFAST_TEST_RECORD=/root/steps
        ./host_contract --ignored --nocapture --test-threads=1 $2 >/root/$2.log 2>&1; code=\$?
        [ \$code = 0 ] || cat /root/$2.log
        grep -q '^test result: ok. [1-9]' /root/$2.log && exit \$code"
}

say "in $together boxes together, and in another one alone"
pids=()
for ((number = 1; number <= together; number++)); do
    contract $number together &
    pids+=($!)
done
(
    for test in alone the_stores_place looking_is_not_heard; do contract $alone $test || exit 1; done
) &
pids+=($!)
for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
[ -z "${failed:-}" ] || fail "a promise was not kept"
for ((number = 1; number <= together; number++)); do box $number "grep -- '-- .*kept,' /root/together.log"; done
box $alone "grep -h -- '-- .*kept,' /root/alone.log"
# What the steps' programs said there, refusals and all.
contract $alone what_steps_said_is_understood

say "a daemon that cannot record where it is told to says so, and does not start"
must box 1 "holdfast init --name lab --address 10.77.0.1 --disk $(box 1 readlink -f /dev/disk/by-id/virtio-box1-d1)"
must_fail box 1 'holdfast daemon --record /dev/null/recording'
must_fail box 1 'holdfast daemon --record'

say "two that record: box1's recording is whole, box2's has a disk that is soon full"
must box 2 'mkdir /root/recording && mount -t tmpfs -o size=48k none /root/recording'
for number in 1 2; do
    must box $number 'mkdir -p /etc/systemd/system/holdfast.service.d
        printf "[Service]\nExecStart=\nExecStart=/usr/sbin/holdfast daemon --record /root/recording\n" \
            >/etc/systemd/system/holdfast.service.d/record.conf
        systemctl daemon-reload'
done
must box 1 'systemctl enable --now holdfast'
until_box 1 60 'grep -qx box1 /cluster/leader'
token=$(box 1 cat /cluster/token)
must box 2 "holdfast join '$token' --address 10.77.0.2 && systemctl enable --now holdfast"
until_box 1 60 "echo main >/cluster/nodes/box2/disks/\$(basename $(box 2 readlink -f /dev/disk/by-id/virtio-box2-d1))/pool"
healthy 120
make_volume 1 db "size=64M place=box1,box2"
GENERATION=$(generation)
promote 1 db
must box 1 "echo hello | dd of=$V/db/device bs=512 conv=sync,fsync status=none"
demote 1 db
secrets=$(box 1 "cat /etc/drbd.d/*.res | sed -n 's/.*shared-secret \"\(.*\)\";/\1/p'
    grep -o '[0-9a-f]\{64\}' /run/holdfast/meta/store/export.txt")
[ -n "$secrets" ] || fail "there is no secret to look for"
remove_volume 1 db
healthy 60
must box 1 'systemctl stop holdfast && ls -l /root/recording | tail -n 5 && du -sh /root/recording'
contract 1 a_recording_is_understood
must box 1 "! grep -rF '$secrets' /root/recording"

say "a full disk ended one recording, once, and nothing else"
must box 2 'df /root/recording; journalctl -u holdfast -o cat --no-pager | grep "recording in"'
expect_eq "lines about it" "$(box 2 'journalctl -u holdfast -o cat --no-pager | grep -c "recording in"')" 1
expect_eq "restarts" "$(box 2 'systemctl show --value -p NRestarts holdfast')" 0
if [ -n "${RECORDING_TO:-}" ]; then
    mkdir -p "$RECORDING_TO"
    "$LAB" sh box1 'tar -c -C /root recording' | tar -x -C "$RECORDING_TO"
    "$LAB" sh box$alone 'tar -c -C /root steps' | tar -x -C "$RECORDING_TO"
fi
