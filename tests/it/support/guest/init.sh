#!/bin/busybox sh
# shellcheck shell=dash
# The first process in a guest: brings up what is needed, then runs the commands that come in by the second serial line.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ NO_COLOR=1 LD_LIBRARY_PATH=/lib/guest
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
mount -t tmpfs none /run
for module in /modules/*; do insmod "$module" || echo "no $module"; done
ip link set lo up
ip link set eth0 up
# As QEMU's user network has it.
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
guest-probe serve 10124 &
# Held open: a terminal that nobody has open forgets what comes in.
exec 3<>/dev/ttyS1
stty raw -echo <&3
echo ready >&3
while read -r id command; do
    sh -c "$command" </dev/null >/tmp/output 2>&1 3<&-
    status=$?
    cat /tmp/output >&3
    printf '\n%s %s\n' "$id" "$status" >&3
done <&3
