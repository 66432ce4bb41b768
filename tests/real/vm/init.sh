#!/bin/sh
# The first program of a guest: puts the host's root under a layer of memory, and goes there.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 host /host || echo 'vm: no host'
mount -t tmpfs -o size=60% tmpfs /scratch
mkdir /scratch/upper /scratch/work
mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work overlay /new || echo 'vm: no root'
for directory in proc sys dev; do mount --move "/$directory" "/new/$directory"; done
mkdir -p /new/run /new/out /new/dev/pts /new/dev/shm
mount -t tmpfs tmpfs /new/run
mount -t tmpfs tmpfs /new/dev/shm
mount -t devpts devpts /new/dev/pts
mount -t 9p -o trans=virtio,version=9p2000.L,cache=none,msize=262144 out /new/out || echo 'vm: no share'
exec switch_root /new /bin/sh /out/begin.sh </dev/console >/dev/console 2>&1
