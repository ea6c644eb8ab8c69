# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the emulated host: the guest that counts its interrupts, under
# stock KVM and on dedicated cores, left alone, with the host calling functions
# on the cores all the time, and with the host in a storm.
#
#   IRQS          interrupts that the dedicated guests cause at least, in all
#   STORM_TOO     0 leaves out the runs in which the host does something (1)
#   SEED          of the guests and of the storm                      (1)
#   VM_DEDICATED  vCPUs of two that must be in passthrough            (2)

. /host/tests/host/lib/tap.sh
. /host/tests/host/lib/vm.sh

IRQS=${IRQS:-30000}
SEED=${SEED:-1}
# Seconds without a word from a guest that runs.
SILENCE=600
VM_KERNEL=$FILES/torture.elf
VM_DEDICATED=${VM_DEDICATED:-2}
DEVICES='-global hpet.msi=on -global hpet.timers=8'
for _slot in 4 5 6 7; do
	DEVICES="$DEVICES -device edu,addr=0x$_slot"
done

# What the host must have done to the cores, or it did not disturb them: IPIs
# only, some hundred a second, or more.
CALLS=membarrier
STORM='read-msr unmap membarrier signal-vcpu patch-kernel-text compete
	zap-guest-mappings ask-for-lapic write-state pause move-irqs
	unplug-cpu nmi'

# The guest's own results, as this test's.
results() {	# name
	tr -d '\r' <$VM_DIR/$1/serial |
		sed -En "s/^((not )?ok) [0-9]+ - (.*)/\1 - $1: \3/p; s/^torture/# &/p"
}

# As long as it goes on; says what the guest and QEMU said last when it fails.
verdict() {	# name
	while :; do
		_lines=$(vm_count "$1" .)
		vm_wait_for "$1" $SILENCE . $((_lines + 1))
		vm_wait_for "$1" 0 '^torture: .* disorder=' && return
		[ "$(vm_count "$1" .)" -gt "$_lines" ] || break
	done
	vm_last_words "$1"
	return 1
}

# All that host-storm can do, or the calls only.
disturb() {	# name, "storm" or "calls"
	_kinds=
	[ "$2" = storm ] || _kinds=$CALLS
	# shellcheck disable=SC2086  # a list of words
	"$FILES/host-storm" "$(vm_pid "$1")" 2,3 1 "$SEED" "/tmp/$1.qmp" $_kinds \
		>/tmp/storm 2>&1 &
	_storm=$!
}

disturbed() {	# name, "storm" or "calls"
	wait $_storm
	sed 's/^/# host: /' /tmp/storm
	_kinds=$STORM
	[ "$2" = storm ] || _kinds=$CALLS
	for _kind in $_kinds; do
		ok "$1: the host did $_kind" grep -q "^$_kind [0-9]" /tmp/storm
	done
	ok "$1: no interrupt of the host's went to a leased core" \
		not grep -q misrouted /tmp/storm
}

torture() {	# name, accelerator, "quiet", "calls" or "storm", vCPUs in
	#          passthrough, interrupts
	VM_ARGS="$DEVICES -qmp unix:/tmp/$1.qmp,server=on,wait=off"
	vm_start "$1" "$2" irqs="$5" seed="$SEED"
	ok "$1: the guest starts" vm_wait_for "$1" 90 '^# CPU 0'
	if [ "$4" != 0 ]; then
		ok "$1: its vCPUs are in passthrough" vm_dedicated "$1" "$4"
	fi
	[ "$3" = quiet ] || disturb "$1" "$3"
	ok "$1: the guest comes to its verdict" verdict "$1"
	results "$1"
	ok "$1: QEMU ends by itself" vm_wait_end "$1" 30
	vm_kill "$1"
	[ "$3" = quiet ] || disturbed "$1" "$3"
}

# Does the guest notice at all? All 18 sources lose one and double one; two
# timers can only show that as too early, and one IPI has two targets.
VM_ARGS=$DEVICES
vm_start broken kvm irqs=4000 drop=1 twice=1 patience_ms=2000
ok "lost and doubled interrupts are noticed" \
	vm_wait_for broken 120 '^torture: .* lost=19 doubled=17 early=2 '
sed -n 's/^torture/# &/p' $VM_DIR/broken/serial
vm_kill broken

# Stock KVM, which is slow, only has to show that the guest is right.
torture kvm-quiet kvm quiet 0 $((IRQS / 20))
torture hpkvm-quiet hpkvm,cpus=2-3 quiet "$VM_DEDICATED" $((IRQS * 3 / 4))
if [ "${STORM_TOO:-1}" -ne 0 ]; then
	torture hpkvm-calls hpkvm,cpus=2-3 calls "$VM_DEDICATED" $((IRQS / 8))
	torture hpkvm-storm hpkvm,cpus=2-3 storm "$VM_DEDICATED" $((IRQS / 8))
fi
for core in 2 3; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
