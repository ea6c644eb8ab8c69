# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host of 6 CPUs: what the host does to the memory of a
# guest on dedicated cores, and what the guest gives back and gets, is as under
# stock KVM.  KSM while interrupts are counted, the balloon, a DIMM.

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/torture.sh

KSM=/sys/kernel/mm/ksm
BOOT=120

# ---- KSM: two guests of the same image, whose pages merge and part ----

pages_are_merged() { [ "$(cat $KSM/pages_sharing)" -gt 0 ]; }
pages_merge() {
	within 60 pages_are_merged &&
		echo "$(cat $KSM/pages_sharing) pages share one"
}

echo 20000 >$KSM/pages_to_scan
echo 10 >$KSM/sleep_millisecs
echo 1 >$KSM/run
SEED=1 torture_begin left hpkvm,cpus=2-3 2 irqs=20000 until_told=1
SEED=2 torture_begin right hpkvm,cpus=4-5 2 irqs=20000 until_told=1
ok "KSM merges their pages" pages_merge
torture_tell left
torture_tell right
torture_end left
torture_end right
echo "full scans: $(cat $KSM/full_scans)" | notes
echo 2 >$KSM/run

# ---- A Linux guest, under each accelerator ----

VM_KERNEL=$GUEST_KERNEL

# The memory that the guest says it has, in MB.
memory() {	# name
	vm_console "$1" | grep -a 'guest: alive' | tail -n 1 |
		sed 's/.* memory //'
}

memory_is() { test "$(memory "$1")" "$2" "$3"; }	# name, test of test(1), MB
memory_becomes() {	# the same
	within 60 memory_is "$@"
	_status=$?
	echo "$(memory "$1") MB"
	return $_status
}

balloon() {	# name, MB
	vm_ask "$1" '{"execute":"balloon","arguments":
		{"value":'$(($2 * 1048576))'}}' | grep return
}

plug_dimm() {	# name
	vm_ask "$1" '{"execute":"object-add","arguments":
		{"qom-type":"memory-backend-ram","id":"more",
		 "size":134217728}}' | grep return &&
	vm_ask "$1" '{"execute":"device_add","arguments":
		{"driver":"pc-dimm","id":"dimm","memdev":"more"}}' | grep return
}

for accel in kvm hpkvm,cpus=2-3; do
	name=${accel%%,*}
	VM_ARGS='-m slots=1,maxmem=1G -device virtio-balloon'
	vm_start "$name" "$accel" forever
	ok "$name: the guest boots" vm_wait_for "$name" $BOOT 'guest: alive'
	[ "$name" = kvm ] || ok "$name: its vCPUs are in passthrough" \
		vm_dedicated "$name" 2
	had=$(memory "$name")
	ok "$name: QEMU asks for 64 MB back" balloon "$name" 128
	ok "$name: the guest gives them" \
		memory_becomes "$name" -le $((had - 60))
	ok "$name: QEMU returns them" balloon "$name" 192
	ok "$name: the guest has all again" memory_becomes "$name" -ge "$had"
	ok "$name: a DIMM is plugged" plug_dimm "$name"
	ok "$name: the guest has 128 MB more" \
		memory_becomes "$name" -ge $((had + 120))
	[ "$name" = kvm ] || ok "$name: its vCPUs are still in passthrough" \
		vm_dedicated "$name" 2
	vm_kill "$name"
done
for core in 2 3 4 5; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
