#!/bin/busybox sh
# The first program of a guest, in its initial file system: loads the modules that are needed to get at the shared root
# file system, puts a layer in memory over it, and goes on there.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module" || echo "vm: cannot load $module"; done
for word in $(cat /proc/cmdline); do case $word in vm.run=*) run=${word#*=};; esac; done
mount -t virtiofs -o ro root /lower || { echo "vm: cannot mount the root file system"; poweroff -f; }
mount -t tmpfs -o mode=755,size=75% upper /upper; mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /new
# Process 1 itself has to change its root: the kernel's own calls of modprobe follow it.
exec chroot /new /bin/bash "$run/guest.sh" "$run"
