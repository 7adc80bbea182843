#!/bin/bash
# The second program of a guest, in this machine's root file system: mounts what a system has mounted, runs the command,
# tells its status, and switches the guest off. Its argument is the folder of the run; the file `settings` there sets
# RELEASE, MODULES, KMOD and BUSYBOX.
run=$1
. "$run/settings"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /proc /sys /dev /run
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs shm /dev/shm
mount -t tmpfs -o mode=755 run /run; mkdir -p /run/lock /run/netns
mount -t bpf bpf /sys/fs/bpf; mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t debugfs debugfs /sys/kernel/debug; mount -t tracefs tracefs /sys/kernel/tracing
rm -rf "/lib/modules/$RELEASE"; mkdir -p /lib/modules; ln -s "$MODULES" "/lib/modules/$RELEASE"
for name in modprobe insmod lsmod rmmod; do [ -e "/sbin/$name" ] || ln -s "$KMOD" "/sbin/$name"; done
ln -sfn /proc/self/fd /dev/fd
ln -sfn /proc/self/fd/0 /dev/stdin; ln -sfn /proc/self/fd/1 /dev/stdout; ln -sfn /proc/self/fd/2 /dev/stderr
# To open it loads the module.
[ -e /dev/net/tun ] || { mkdir -p /dev/net; mknod /dev/net/tun c 10 200; }
ip link set lo up; hostname vm
stty -F /dev/ttyS1 raw -echo; stty -F /dev/ttyS2 raw -echo
setsid bash "$run/command" </dev/null >/dev/ttyS1 2>&1
echo $? >/dev/ttyS2
sync
"$BUSYBOX" poweroff -f
