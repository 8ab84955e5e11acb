#!/bin/sh
# Runs a command as process 1 on a root of its own, made of the machine's.  To be started by
# `unshare` in new mount, pid, net, uts, ipc (and cgroup) namespaces: nothing outside is changed,
# and all of it is gone with process 1.
#
# new_root.sh WORK IMAGE BASE machine|pod NAME [SOURCE=TARGET | tmpfs=TARGET]... -- COMMAND...
#   WORK   an empty folder; what is written goes to a tmpfs on it
#   IMAGE  a folder whose files lie over those of BASE
#   BASE   "/", or the root of another installation
#   machine: prepared for systemd.  pod: read-only but for what is mounted, 10.9.0.1 is its address.
set -eu
work=$1 image=$2 base=$3 kind=$4 name=$5
shift 5

mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/upper" "$work/scratch" "$work/root"
cp -a "$image/." "$work/upper" # not a layer of its own: it lies within another, the machine's
mount -t overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/scratch" overlay "$work/root"
cd "$work/root"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys # its settings are the machine's own
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    : >"dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/shm dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
if [ "$kind" = machine ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    : >etc/machine-id
fi
while [ "$1" != -- ]; do
    mkdir -p "./${1#*=}"
    case $1 in
    tmpfs=*) mount -t tmpfs -o mode=1777 tmpfs "./${1#*=}" ;;
    *) mount --bind "${1%%=*}" "./${1#*=}" ;;
    esac
    shift
done
shift

mkdir -p old
pivot_root . old
umount -l old
hostname "$name"
[ "$kind" = pod ] || mount --make-rshared / # as systemd expects it of a container's manager
ldconfig # finds the shared library of an interpreter that is not the system's
if [ "$kind" = pod ]; then
    ip link set lo up
    ip address add 10.9.0.1/32 dev lo
    mount -o remount,bind,ro /
fi
exec "$@"
