# SPDX-License-Identifier: GPL-2.0-or-later
#
# Shell functions, for use inside the emulated host, that run the guest which
# counts its interrupts (tests/guest/torture.c) and disturb it (host-storm.c in
# tests/e2e). Sourced after tap.sh and vm.sh, never run.
#
# Variables that may be set before:
#   SEED  of the guests and of the storm                      (1)

SEED=${SEED:-1}
# Seconds without a word from a guest that runs.
TORTURE_SILENCE=600
VM_KERNEL=$FILES/torture.elf
# With timers for four vCPUs.
TORTURE_HPET='-global hpet.msi=on -global hpet.timers=8'

# The HPET, and two edus for each vCPU there is.
_torture_devices() {
	_devices=$TORTURE_HPET
	for _slot in 4 5 6 7 8 9 a b; do
		_devices="$_devices -device edu,addr=0x$_slot"
		[ "$_slot" != $((2 * ${VM_SMP:-2} + 3)) ] || break
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
	tr -d '\r' <$VM_DIR/$1/serial |
		sed -En "s/^((not )?ok) [0-9]+ - (.*)/\1 - $1: \3/p; s/^torture/# &/p"
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
	"$FILES/host-storm" "$(vm_pid "$_title")" "$_cores" 1 "$SEED" \
		"/tmp/$_title.qmp" "$@" >/tmp/storm 2>&1 &
	_storm=$!
}

# torture_disturbed NAME KIND...: the host did all of these, and sent none of
# its own interrupts to a leased core.
torture_disturbed() {
	_title=$1
	shift
	wait $_storm
	sed 's/^/# host: /' /tmp/storm
	for _kind in "$@"; do
		ok "$_title: the host did $_kind" \
			grep -q "^$_kind [0-9]" /tmp/storm
	done
	ok "$_title: no interrupt of the host's went to a leased core" \
		not grep -q misrouted /tmp/storm
}
