# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host whose own disks and NICs interrupt all CPUs: cores
# are leased all the same.  Their interrupts move to other CPUs, without the
# affinity that user space sees, and come back afterwards.  None is lost: disks
# and NICs are busy all the time, also while they are reset, removed and found
# again, and while the CPU that stands in goes off line.
#
#   CYCLES  leases and releases of two cores each  (50)
#
# The disks are nvme0 and nvme1, the NICs eth0 and eth1, which share a wire.

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/lease.sh

CORES='2 3'
MATRIX=/sys/kernel/debug/irq/domains/VECTOR
# Milliseconds; a lost interrupt takes the driver 30 s to notice.
SLOW=20000

# What /proc/interrupts has of devices: number, a count for each CPU, user.
device_rows() {
	awk 'NR == 1 { cpus = NF; next }
	     $1 ~ /^[0-9]+:$/ {
		printf "%d", $1
		for (i = 2; i <= cpus + 1; i++) printf " %s", $i
		print " " $NF
	     }' /proc/interrupts
}

# affinities: user, mask, and effective mask of each interrupt.
affinities() {
	device_rows | while read -r _row; do
		_irq=/proc/irq/${_row%% *}
		echo "${_row##* } $(cat $_irq/smp_affinity_list)" \
			"$(cat $_irq/effective_affinity_list)"
	done | sort
}

masks() { affinities | cut -d' ' -f1,2; }

# Those that are aimed at a core.
aimed_at_cores() { affinities | awk '$3 == 2 || $3 == 3'; }

# Interrupts of devices that the cores have taken so far.
core_counts() { device_rows | awk '{ print $1, $4, $5 }'; }

# Since /tmp/counts, they have taken none; some may be new.
cores_undisturbed() {
	core_counts | awk '
		NR == FNR { had[$1, 2] = $2; had[$1, 3] = $3; next }
		{ for (i = 2; i <= 3; i++)
			if ($i && $i != had[$1, i]) { bad++; print } }
		END { exit bad }' /tmp/counts -
}

# nvme_count DISK: completions that its I/O queues have signalled, anywhere.
nvme_count() {
	device_rows | awk -v name="^$1q[1-9]" '
		$NF ~ name { for (i = 2; i < NF; i++) sum += $i }
		END { print sum + 0 }'
}

# How many vectors each CPU has: the numbers may differ.
matrix() { awk '/^(Online|Global|Total)/
		$1 ~ /^[0-9]+$/ { print $1, $2, $3, $4, $5 }' $MATRIX; }
managed() { awk '$1 ~ /^[0-9]+$/ { print $1, $3, $4 }' $MATRIX; }

# same NAME COMMAND FILE: COMMAND prints what it printed into FILE.
same() {
	$2 >/tmp/now
	diff "$3" /tmp/now >/tmp/differs
	result $? "$1"
	notes </tmp/differs
}

remember() {
	masks >/tmp/masks
	affinities >/tmp/affinities
	matrix >/tmp/matrix
	managed >/tmp/managed
}

as_before() {	# title
	same "$1: affinities are as before" affinities /tmp/affinities
	same "$1: the CPUs have as many vectors as before" matrix /tmp/matrix
}

io_start() {	# disk, CPU...
	_disk=/dev/${1}n1
	shift
	"$FILES/disk-io" $_disk "$@" >/tmp/io 2>&1 &
	_io=$!
}

# All of it was right, soon, and there was some of each CPU's.
io_right() {
	kill $_io
	wait $_io
	_status=$?
	cat /tmp/io
	[ $_status -eq 0 ] && awk -v slow=$SLOW '
		{ split($2, n, "="); split($4, ms, "=") }
		n[2] < 10 || ms[2] > slow { bad++ }
		END { exit bad || !NR }' /tmp/io
}

received() { cat /sys/class/net/$1/statistics/rx_packets; }

# Packets from either NIC arrive at the other.
packets_arrive() {
	for _pair in 'eth0 eth1' 'eth1 eth0'; do
		set -- $_pair
		_had=$(received $2)
		arping -q -b -c 3 -w 5 -I $1 192.0.2.99
		within 10 test $(($(received $2) - _had)) -ge 3 || return 1
	done
}

# Nothing that a lost or stray interrupt makes the kernel say.
no_complaint() {
	! dmesg | grep -E 'completion polled|timeout, |No irq handler|unexpected IRQ|transmit queue|et affinity failed|has no vector|still pending|Affinity broken'
}

# work NAME SECONDS DISK CPU...: the disk is busy with what these CPUs ask for.
work() {
	local name=$1 seconds=$2
	shift 2
	io_start "$@"
	sleep $seconds
	ok "$name: all data is right, no request is slow" io_right
}

away() {	# title
	same "$1: nobody's smp_affinity has changed" masks /tmp/masks
	aimed_at_cores >/tmp/aimed
	result "$(grep -c . /tmp/aimed)" "$1: no device is aimed at the cores"
	notes </tmp/aimed
}

set_online() { echo $2 >/sys/devices/system/cpu/cpu$1/online; }

for nic in eth0 eth1; do
	ip link set $nic up
done
for disk in nvme0 nvme1; do
	ok "$disk is there" within 30 test -b /dev/${disk}n1
done
sleep 2

# The host is what this test is for.
ok "each core has a managed interrupt of nvme0's" \
	test "$(affinities | grep -c '^nvme0q[1-9]* [23] [23]$')" -eq 2
ok "the kernel shows who has vectors" test "$(managed | grep -c .)" -eq 4
ok "other interrupts may go to any CPU" \
	sh -c 'test "$(cat /proc/irq/default_smp_affinity)" = f'
ok "packets arrive" packets_arrive
work "at first" 3 nvme0 0 1 2 3
remember

# A guest in passthrough.
vm_start guest hpkvm,cpus=2-3,fallback=off forever
ok "leased: the vCPUs are in passthrough" vm_dedicated guest 2
away leased
core_counts >/tmp/counts
count=$(nvme_count nvme0)
work leased 5 nvme0 0 1 2 3
ok "leased: the disk has interrupted" \
	test $(($(nvme_count nvme0) - count)) -ge 100
ok "leased: packets arrive" packets_arrive

ok "leased: no device has interrupted a core" cores_undisturbed
ok "leased: the guest moves on" vm_moves_on guest
vm_console guest >/tmp/guest
ok "leased: the guest got nobody's interrupt" \
	not grep -E 'irq handler|unexpected' /tmp/guest
io_start nvme0 0 1 2 3
sleep 1
vm_kill guest
sleep 1
ok "released: all data is right, no request is slow" io_right
as_before released
core_counts >/tmp/counts
work released 2 nvme0 2 3
ok "released: the disk interrupts the cores again" not cores_undisturbed
ok "released: packets arrive" packets_arrive

# Drivers that free interrupts and ask for others meanwhile.
ok "cores are leased" lease hold $CORES
core_counts >/tmp/counts
io_start nvme0 0 1 2 3
sleep 1
ok "a disk is reset" sh -c 'echo 1 >/sys/class/nvme/nvme0/reset_controller'
sleep 2
ok "reset: all data is right, no request is slow" io_right
away reset

slot=$(basename "$(readlink -f /sys/class/nvme/nvme1/device)")
ok "a disk is removed" sh -c "echo 1 >/sys/bus/pci/devices/$slot/remove"
ok "it is gone" within 10 not test -b /dev/nvme1n1
ok "it is found again" sh -c 'echo 1 >/sys/bus/pci/rescan'
ok "it is there again" within 30 test -b /dev/nvme1n1
work "found again" 2 nvme1 0 1 2 3
away "found again"

# Who stands in goes off line, and comes back.
io_start nvme0 0 2 3
for round in 1 2 3; do
	ok "CPU 1 goes off line" set_online 1 0
	sleep 1
	ok "CPU 1 comes back" set_online 1 1
	sleep 1
done
ok "CPU 1 came and went: all data is right, no request is slow" io_right
away "CPU 1 came and went"
work "CPU 1 came back" 2 nvme0 1 2
ok "leased: no device has interrupted a core" cores_undisturbed
ok "cores are given back" release
same "given back: smp_affinity is as before" masks /tmp/masks
same "given back: the CPUs have as many managed vectors as before" managed \
	/tmp/managed
ok "each core has its interrupts of both disks again" \
	test "$(aimed_at_cores | grep -c '^nvme[01]q[1-4]')" -eq 4

# Over and over.
remember
io_start nvme0 0 1 2 3
"$FILES/lease" cycles ${CYCLES:-50} $CORES >/tmp/lease 2>&1
result $? "${CYCLES:-50} leases of each core"
notes </tmp/lease
ok "all data is right after them, no request was slow" io_right
as_before "after many leases"
ok "packets arrive after them" packets_arrive

# What nobody may move, or not everybody.
remember
ok "a timer's interrupt stays, and is named" \
	sh -c '"$FILES/lease" hold 0 </dev/null | grep "errno=16 reason=9 irq=0 culprit=timer"'
as_before "refused"
irq=$(device_rows | sed -n 's/ .*eth0.*//p' | head -n 1)
old=$(cat /proc/irq/$irq/smp_affinity_list)
chmod 666 /dev/kvm
echo 2 >/proc/irq/$irq/smp_affinity_list
packets_arrive
ok "an interrupt that is meant for the core needs CAP_SYS_NICE" \
	sh -c '"$FILES/lease" --user hold 2 </dev/null | grep "errno=1 reason=12 irq='"$irq"' culprit=eth0"'
ok "it stays" grep -qx 2 /proc/irq/$irq/effective_affinity_list
echo 0,2 >/proc/irq/$irq/smp_affinity_list
ok "another is moved for anybody" lease --user hold 2
ok "it is elsewhere" grep -qx 0 /proc/irq/$irq/effective_affinity_list
ok "it is wanted on the core" \
	sh -c "echo 2 >/proc/irq/$irq/smp_affinity_list"
ok "that is noted" grep -qx 2 /proc/irq/$irq/smp_affinity_list
ok "and takes no effect yet" grep -qx 0 /proc/irq/$irq/effective_affinity_list
ok "the core is given back" release
ok "now it does" grep -qx 2 /proc/irq/$irq/effective_affinity_list
echo $old >/proc/irq/$irq/smp_affinity_list
ok "packets arrive in the end" packets_arrive

ok "no interrupt was lost, and none went astray" no_complaint
