#!/bin/sh
# Makes what the lab's boxes boot from, out of Debian packages of the host's own release and sources.
#
#   build.sh resolve                 prints the release, the kernel and the kernel package's version
#   build.sh base OUT KERNEL         OUT/tree (the root file system), OUT/vmlinuz
#   build.sh root TREE KERNEL OUT [MODULES]   OUT/root.erofs, with the DRBD modules found in MODULES instead of the kernel's own
#   build.sh initrd TREE KERNEL AGENT OUT     OUT, a cpio: busybox, the modules to reach the root, the agent
#
# The lab keys its cache with this file and its neighbours, so nothing in here may depend on the time or the place.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
meta_kernel=linux-image-cloud-amd64
# xfsprogs: the second file system the tests put on volumes. procps, less, psmisc: for people.
packages=systemd-sysv,dbus,udev,lvm2,drbd-utils,fuse3,e2fsprogs,xfsprogs,kmod,iproute2,iputils-ping,procps,util-linux,libudev1,psmisc,less
# What it takes to reach the root file system and the lab. lvm2, drbd and fuse are loaded later, as on a real box.
early_modules='virtio_pci virtio_blk virtio_console virtio_net erofs overlay'

die() {
    echo "$*" >&2
    exit 1
}

resolve() {
    . /etc/os-release
    # Lists are often thrown away to make a machine's image small.
    apt-cache show "$meta_kernel" >/dev/null 2>&1 || apt-get update -qq >&2
    # Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)
    kernel=$(apt-cache show --no-all-versions "$meta_kernel" 2>/dev/null |
        sed -n 's/^Depends: linux-image-\([0-9][^ ]*\) (= \([^)]*\)).*/\1 \2/p' | head -n 1)
    [ -n "$kernel" ] || die "apt knows no $meta_kernel: run apt-get update, or use a Debian host"
    echo "${VERSION_CODENAME:-bookworm}" "$kernel"
}

# The host's own Debian sources, as plain lines.
sources() {
    apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' "Architecture: $(dpkg --print-architecture)" | sort -u
}

base() {
    out=$1 kernel=$2
    suite=$(resolve | cut -d ' ' -f 1)
    scratch=$out/scratch
    mkdir -p "$scratch"
    sources >"$scratch/sources.list"
    [ -s "$scratch/sources.list" ] || die "apt has no Debian package lists: run apt-get update"
    apt-config dump | grep -E '^Acquire::(Check-|.*Proxy|Retries)' >"$scratch/apt.conf" || :

    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    if [ -e "$keyring" ]; then set -- --keyring="$keyring"; else set --; fi
    SOURCE_DATE_EPOCH=0 mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" "$@" \
        --aptopt='Apt::Install-Recommends "false"' --aptopt="$scratch/apt.conf" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
 --format=directory "$suite" "$out/tree" "$scratch/sources.list" >&2
    rm -rf "$out/tree/var/cache/apt" "$out/tree/var/lib/apt/lists" "$out/tree/etc/apt/sources.list"

    # Unpacked, not installed: its scripts would want an initramfs generator and a boot loader.
    (cd "$scratch" && apt-get -qq -o APT::Sandbox::User=root download "linux-image-$kernel" >&2)
    dpkg-deb -x "$scratch"/linux-image-*.deb "$scratch/kernel"
    mv "$scratch/kernel/boot/vmlinuz-$kernel" "$out/vmlinuz"
    modules=$scratch/kernel/lib/modules
    [ -d "$modules" ] || modules=$scratch/kernel/usr/lib/modules
    mkdir -p "$out/tree/usr/lib/modules"
    mv "$modules/$kernel" "$out/tree/usr/lib/modules/$kernel"
    depmod -b "$out/tree" "$kernel"
    rm -rf "$scratch"

    configure "$out/tree"
}

# Turns a Debian tree into a box: the agent starts first, slow things that no test relies on do not start at all.
# Nothing of lvm2, device-mapper and udev is masked: holdfast relies on it.
configure() {
    tree=$1
    cp -r "$here/files/." "$tree/"
    echo box >"$tree/etc/hostname"
    : >"$tree/etc/machine-id"
    rm -f "$tree/var/lib/dbus/machine-id"
    rm -f "$tree/etc/fstab" && : >"$tree/etc/fstab"
    mkdir -p "$tree/cluster" "$tree/lab/system" "$tree/var/log/journal" "$tree/var/lib/holdfast" "$tree/usr/lib/lab"
    # Units and people find the daemon in either place; it is installed under /usr/local, on the box's own disk.
    ln -s ../local/sbin/holdfast "$tree/usr/bin/holdfast"
    ln -s ../local/sbin/holdfast "$tree/usr/sbin/holdfast"
    chroot "$tree" passwd -d root >/dev/null

    units=$tree/etc/systemd/system
    for unit in e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
        fstrim.timer man-db.timer systemd-tmpfiles-clean.timer getty.target getty@tty1.service serial-getty@ttyS0.service \
        getty-static.service systemd-logind.service systemd-user-sessions.service proc-sys-fs-binfmt_misc.automount \
        proc-sys-fs-binfmt_misc.mount systemd-binfmt.service dev-mqueue.mount dev-hugepages.mount \
        sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount systemd-update-utmp.service \
        systemd-update-utmp-runlevel.service systemd-remount-fs.service \
        systemd-sysusers.service systemd-random-seed.service systemd-pstore.service systemd-modules-load.service \
        modprobe@configfs.service modprobe@drm.service modprobe@efi_pstore.service modprobe@loop.service \
        systemd-hwdb-update.service systemd-journal-catalog-update.service ldconfig.service systemd-firstboot.service \
        systemd-machine-id-commit.service systemd-update-done.service systemd-networkd.service \
        systemd-timesyncd.service drbd.service; do
        ln -sf /dev/null "$units/$unit"
    done
    # Every `systemctl enable` runs all generators, 0.2 s each under emulation. Those of fstab and lvm2 stay.
    mkdir -p "$tree/etc/systemd/system-generators"
    for generator in "$tree"/usr/lib/systemd/system-generators/*; do
        case $generator in
        *fstab* | *lvm2*) ;;
        *) ln -s /dev/null "$tree/etc/systemd/system-generators/${generator##*/}" ;;
        esac
    done
    mkdir -p "$units/sysinit.target.wants" "$units/multi-user.target.wants"
    ln -sf /usr/lib/systemd/system/lab-agent.service "$units/sysinit.target.wants/lab-agent.service"
    ln -sf /usr/lib/systemd/system/lab-net.service "$units/multi-user.target.wants/lab-net.service"
    grep -q 'include.*drbd.d/\*.res' "$tree/etc/drbd.conf" || die "the stock /etc/drbd.conf does not read drbd.d/*.res"
}

root() {
    base=$1 kernel=$2 out=$3 modules=${4:-}
    tree=$base
    mkdir -p "$out"
    if [ -n "$modules" ]; then
        # Hard links: only the module tree is replaced, never written through.
        tree=$out/tree
        rm -rf "$tree"
        cp -al "$base" "$tree"
        rm -rf "$tree/usr/lib/modules"
        cp -a "$base/usr/lib/modules" "$tree/usr/lib/modules"
        find "$tree/usr/lib/modules" -name 'drbd*.ko*' -delete
        mkdir "$tree/usr/lib/modules/$kernel/updates"
        cp "$modules"/*.ko "$tree/usr/lib/modules/$kernel/updates/"
        for module in "$tree/usr/lib/modules/$kernel/updates"/*.ko; do
            magic=$(modinfo -F vermagic "$module")
            case $magic in
            "$kernel "*) ;;
            *) die "$(basename "$module") in $modules is built for ${magic%% *}, the lab's kernel is $kernel" ;;
            esac
        done
        depmod -b "$tree" "$kernel"
    fi
    # Uncompressed: the quickest to make, and an emulated box pays nothing to unpack it.
    mkfs.erofs --quiet -T0 -U 6c616200-0000-4000-8000-000000000001 "$out/root.erofs.new" "$tree" >&2
    mv "$out/root.erofs.new" "$out/root.erofs"
    [ "$tree" = "$base" ] || rm -rf "$tree"
}

initrd() {
    tree=$1 kernel=$2 agent=$3 out=$4
    work=$out.work
    rm -rf "$work"
    mkdir -p "$work/bin" "$work/modules" "$work/dev" "$work/proc" "$work/sys" "$work/new"
    cp "$(command -v busybox)" "$work/bin/busybox"
    ! ldd "$work/bin/busybox" 2>/dev/null | grep -q "=>" || die "busybox is not static: apt-get install busybox-static"
    cp "$here/init" "$work/init"
    cp "$agent" "$work/agent"
    chmod 0755 "$work/init" "$work/agent"
    for module in $early_modules; do
        modprobe -d "$tree" -S "$kernel" --ignore-install --show-depends "$module"
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' >"$work/list"
    number=100
    while read -r path; do
        number=$((number + 1))
        name=$number-$(basename "$path")
        case $path in
        *.xz) xz -dc "$path" >"$work/modules/${name%.xz}" ;;
        *.zst) zstd -qdc "$path" >"$work/modules/${name%.zst}" ;;
        *) cp "$path" "$work/modules/$name" ;;
        esac
    done <"$work/list"
    rm "$work/list"
    (cd "$work" && find . | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible -R 0:0) >"$out.new"
    mv "$out.new" "$out"
    rm -rf "$work"
}

verb=${1:-}
[ $# -gt 0 ] && shift
case $verb in
resolve) resolve ;;
base) base "$@" ;;
root) root "$@" ;;
initrd) initrd "$@" ;;
*) die "usage: build.sh resolve|base|root|initrd ..." ;;
esac
