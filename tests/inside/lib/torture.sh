# SPDX-License-Identifier: GPL-2.0-or-later
#
# Shell functions, for use inside the emulated host, that run the guest which
# counts its interrupts (tests/guest/torture.c) and disturb it (host-storm.c in
# tests/inside/tools). Sourced after tap.sh and vm.sh, never run.
#
# Variables that may be set before:
#   SEED  of the guests and of the storm                      (1)
#   TORTURE_MSI_DEVICES  words for QEMU: an edu for each vCPU, in slots above 12,
#         that take the place of the emulated ones which send MSIs
#   TORTURE_INTX_DEVICES  the same, in slots 2 and 3, for those that interrupt by
#         their pins

SEED=${SEED:-1}
# Seconds without a word from a guest that runs.
TORTURE_SILENCE=600
VM_KERNEL=$FILES/torture.elf
# All three modes of the timer, also where arming one then exits.
VM_CPU=host,+tsc-deadline
# With timers for four vCPUs.
TORTURE_HPET='-global hpet.msi=on -global hpet.timers=8'

# The HPET, an edu for each vCPU that interrupts by its pin, and one that sends
# MSIs.
_torture_devices() {
	_devices="$TORTURE_HPET $TORTURE_MSI_DEVICES $TORTURE_INTX_DEVICES"
	_edus=$((${VM_SMP:-2} * 2))
	[ -z "$TORTURE_MSI_DEVICES$TORTURE_INTX_DEVICES" ] ||
		_edus=${VM_SMP:-2}
	for _slot in $(seq 4 $((_edus + 3))); do
		_devices="$_devices -device edu,addr=$(printf 0x%x "$_slot")"
	done
	echo "$_devices"
}

# torture_begin NAME ACCEL DEDICATED ARGUMENT...: start the guest, and see that
# DEDICATED of its vCPUs are in passthrough.
torture_begin() {
	_title=$1 _dedicated=$3
	VM_ARGS="$(_torture_devices) -qmp unix:/tmp/$1.qmp,server=on,wait=off"
	_accel=$2
	shift 3
	vm_start "$_title" "$_accel" seed="$SEED" "$@"
	ok "$_title: the guest starts" vm_wait_for "$_title" 90 '^# CPU 0'
	[ "$_dedicated" = 0 ] || ok "$_title: its vCPUs are in passthrough" \
		vm_dedicated "$_title" "$_dedicated"
}

# torture_pin NAME CORE CORE: the threads of its two vCPUs. Without cpus= a vCPU
# takes the core that its thread is pinned to.
torture_pin() {
	_cpu=$2
	for _task in /proc/$(vm_pid "$1")/task/*; do
		grep -q '^CPU [0-9]*/KVM' "$_task/comm" || continue
		taskset -p $(printf %x $((1 << _cpu))) "${_task##*/}" >/dev/null
		_cpu=$3
	done
}

# torture_tell NAME: a guest with until_told=1 may end now.
torture_tell() { vm_qmp "$1" '{"execute":"system_powerdown"}'; }

# torture_verdict NAME: wait for it as long as the guest goes on; prints what
# guest and QEMU said last when it does not.
torture_verdict() {
	while :; do
		_lines=$(vm_count "$1" .)
		vm_wait_for "$1" $TORTURE_SILENCE . $((_lines + 1))
		vm_wait_for "$1" 0 '^torture: .* disorder=' && return
		[ "$(vm_count "$1" .)" -gt "$_lines" ] || break
	done
	vm_last_words "$1"
	return 1
}

# torture_results NAME: the guest's own, as this test's.
torture_results() {
	vm_console "$1" | results_of "$1"
	vm_console "$1" | grep -a '^torture' | notes
}

# torture_end NAME: the guest comes to its verdict, and QEMU ends.
torture_end() {
	ok "$1: the guest comes to its verdict" torture_verdict "$1"
	torture_results "$1"
	ok "$1: QEMU ends by itself" vm_wait_end "$1" 30
	vm_kill "$1"
}

# torture_disturb NAME CORES [KIND...]: the host does this to CORES (2,3) until
# QEMU ends; the kinds are host-storm's, all of them without one.
torture_disturb() {
	_title=$1 _cores=$2
	shift 2
	: >/tmp/storm
	"$FILES/host-storm" "$(vm_pid "$_title")" "$_cores" 1 "$SEED" \
		"/tmp/$_title.qmp" "$@" >/tmp/storm 2>&1 &
	_storm=$!
}

# torture_disturb_well NAME ACCEL DEDICATED ARGUMENTS CORES [KIND...]: all of a
# guest's life, with torture_end_disturbed at its end.
torture_disturb_well() {
	_well=$1 _cores=$5
	torture_begin "$1" "$2" "$3" "$4" until_told=1
	shift 5
	torture_disturb "$_well" "$_cores" "$@"
	torture_end_disturbed "$_well"
}

# torture_end_disturbed NAME: a guest with until_told=1 goes on until the host
# has done each kind once, or all that it can, and then comes to its verdict.
torture_end_disturbed() {
	ok "$1: the host has done all that it can" \
		within 600 grep -qsx each /tmp/storm
	torture_tell "$1"
	torture_end "$1"
}

# torture_disturbed NAME KIND...: the host did all of these, and sent none of
# its own interrupts to a leased core.
torture_disturbed() {
	_title=$1
	shift
	wait $_storm
	sed 's/^/host: /' /tmp/storm | notes
	for _kind in "$@"; do
		ok "$_title: the host did $_kind" \
			grep -q "^$_kind [0-9]" /tmp/storm
	done
	ok "$_title: no interrupt of the host's went to a leased core" \
		not grep -q misrouted /tmp/storm
}

# torture_host_spec_ctrl VALUE: what the host reads from IA32_SPEC_CTRL of cores 2
# and 3, again and again, while a guest uses them.
torture_host_spec_ctrl() {
	for _core in 2 3; do
		for _n in $(seq 50); do
			dd if=/dev/cpu/$_core/msr bs=8 skip=$((0x48 / 8)) count=1 |
				od -An -tx8
		done
	done 2>/dev/null | sort | uniq -c >/tmp/spec-ctrl
	cat /tmp/spec-ctrl
	[ "$(awk -v value="^0*$1\$" '$2 ~ value { print $1 }' \
		/tmp/spec-ctrl)" = 100 ]
}
