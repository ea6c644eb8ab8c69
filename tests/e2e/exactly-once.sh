# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the emulated host: the guest that counts its interrupts, under
# stock KVM and on dedicated cores, with the host in a storm.
#
#   IRQS          interrupts that a dedicated guest causes at least   (100000)
#   VM_DEDICATED  vCPUs that must be in passthrough                   (2)

. /host/tests/host/lib/tap.sh
. /host/tests/host/lib/vm.sh

IRQS=${IRQS:-100000}
LIMIT=900
VM_KERNEL=$FILES/exactly-once.elf
VM_DEDICATED=${VM_DEDICATED:-2}

# What the host must have done to the cores, or the storm was none.
STORM='read-msr unmap signal-vcpu patch-kernel-text compete
	zap-guest-mappings ask-for-lapic'

# The guest's own results, as this test's.
results() {	# name
	tr -d '\r' <$VM_DIR/$1/serial |
		sed -En "s/^((not )?ok) [0-9]+ - (.*)/\1 - $1: \3/p; s/^exactly/# &/p"
}

# Says what the guest and QEMU said last when there is none.
verdict() {	# name
	vm_wait_for "$1" $LIMIT '^exactly-once: .* early=' && return
	tail -n 5 $VM_DIR/$1/serial | tr -d '\r'
	cat $VM_DIR/$1/log
	return 1
}

count() {	# name, accelerator, seed, "storm" or "quiet", vCPUs in passthrough,
	#        interrupts
	rm -f /tmp/storm
	VM_ARGS="-qmp unix:/tmp/$1.qmp,server=on,wait=off"
	vm_start "$1" "$2" irqs="$6" seed="$3"
	ok "$1: the guest starts" vm_wait_for "$1" 90 '^# CPU 0'
	if [ "$4" = storm ]; then
		"$FILES/host-storm" "$(vm_pid "$1")" 2,3 "/tmp/$1.qmp" \
			>/tmp/storm 2>&1 &
		_storm=$!
	fi
	if [ "$5" != 0 ]; then
		ok "$1: its vCPUs are in passthrough" vm_dedicated "$1" "$5"
	fi
	ok "$1: the guest comes to its verdict" verdict "$1"
	results "$1"
	ok "$1: QEMU ends by itself" vm_wait_end "$1" 30
	vm_kill "$1"
	[ "$4" = storm ] || return
	wait $_storm
	sed 's/^/# storm: /' /tmp/storm
	for _kind in $STORM; do
		ok "$1: the host did $_kind" grep -q "^$_kind [0-9]" /tmp/storm
	done
}

# Does the guest notice at all?
VM_ARGS=
vm_start broken kvm irqs=2000 drop=1 twice=1 patience_ms=2000
ok "a lost and a doubled interrupt are noticed" \
	vm_wait_for broken 120 '^exactly-once: .* lost=1 doubled=1 '
vm_kill broken

# Stock KVM, which is slow, only has to show that the guest is right.
count kvm-quiet kvm 1 quiet 0 $((IRQS / 10))
count hpkvm-quiet hpkvm,cpus=2-3 2 quiet "$VM_DEDICATED" "$IRQS"
count hpkvm-storm hpkvm,cpus=2-3 3 storm "$VM_DEDICATED" "$IRQS"
for core in 2 3; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
