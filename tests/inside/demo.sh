# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the emulated host: boots the same guest once under each
# accelerator, then one that has a device of the host's, and leaves what the
# kernel and the guest counted in /host/results/NAME.  Judges nothing.
#
# Usage: demo.sh SECONDS SLEEPS NAME=ACCELERATOR...
#
# A host with VMX has no device to give away: it goes without.
#
# The load runs for SECONDS before the window of SLEEPS sleeps on every vCPU.

. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/exits.sh
. /host/tests/inside/lib/vfio.sh

# An edu device of the host's, for its guests.
DEVICE=0000:00:10.0
BOOT_LIMIT=${BOOT_LIMIT:-180}
settle=$1 sleeps=$2
shift 2
host=$(grep -owm1 'svm\|vmx' /proc/cpuinfo | head -n 1)

die() {
	echo "demo.sh: $*" >&2
	exit 1
}

show() {	# what went wrong with a VM
	tail -n 5 "$VM_DIR/$1/log" "$VM_DIR/$1/serial" >&2
}

save_counters() {	# KVM's own statistics of each vCPU, for the record
	for vcpu in /sys/kernel/debug/kvm/*/vcpu*; do
		for file in "$vcpu"/hpkvm_* "$vcpu"/nmi_injections; do
			[ -f "$file" ] || continue
			echo "${vcpu##*/} ${file##*/} $(cat "$file")"
		done
	done >"$1/counters"
}

measure() {	# name, accelerator
	results=/host/results/$1
	mkdir -p "$results"
	echo "$host" >"$results/host"
	echo "$1: booting a guest with -accel $2"
	exits_arm || die "the kernel cannot count exits (CONFIG_HIST_TRIGGERS)"
	VM_ARGS=-no-shutdown
	vm_start "$1" "$2" steady "$settle" "$sleeps"
	if ! vm_wait_for "$1" "$BOOT_LIMIT" 'guest: start'; then
		show "$1"
		die "$1: the guest did not boot"
	fi
	echo "$1: the guest is up; its load runs, $sleeps sleeps of 1 ms on each vCPU"
	vm_ask "$1" '{"execute":"query-hpkvm"}' >"$results/query-hpkvm"
	if ! vm_wait_for "$1" "$BOOT_LIMIT" 'guest: done'; then
		show "$1"
		die "$1: the guest did not finish"
	fi
	echo "$1: done"
	exits_save "$results" || die "cannot read the counts"
	save_counters "$results"
	vm_console "$1" | grep -a '^[a-z]*: ' >"$results/guest"
	cp "$VM_DIR/$1/log" "$results/log"
	vm_qmp "$1" '{"execute":"quit"}'
	vm_wait_end "$1" 20 || vm_kill "$1"
	exits_disarm
}

# A guest without a system that takes interrupts of a device of the host's.
measure_device() {	# name, accelerator, VFIO device
	exits_arm
	VM_SMP=1 VM_KERNEL=$FILES/micro.elf
	VM_ARGS="-device $3,host=$DEVICE"
	vm_start device "$2" device_only=1
	if ! vm_wait_for device 60 '^micro: device-msi'; then
		show device
		die "$1: the guest with a device did not finish"
	fi
	exits_save /tmp/device || die "cannot read the counts"
	cp /tmp/device/kvm_exit "/host/results/$1/device_exit"
	vm_wait_end device 20 || vm_kill device
	exits_disarm
}

for run in "$@"; do
	measure "${run%%=*}" "${run#*=}"
done
[ "$host" = svm ] || exit 0
vfio_take $DEVICE || die "VFIO does not take the device $DEVICE"
for run in "$@"; do
	case ${run#*=} in
	hpkvm*) measure_device "${run%%=*}" "${run#*=}" vfio-hp-pci ;;
	*) measure_device "${run%%=*}" "${run#*=}" vfio-pci ;;
	esac
done
