# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host with VMX, which has 4 CPUs and little time: the
# guest that counts its interrupts, on dedicated cores. What is VMX's own is the
# entry window, in which nothing holds an NMI off, and the IDT that a VM exit
# loads, on whatever core the vCPU runs.
#
#   IRQS   interrupts that each guest causes at least         (1500)
#   IPIS   that one sends which the host leaves in peace      (20000)
#   SEED   of the guests and of what the host does            (1)

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/torture.sh

IRQS=${IRQS:-1500}
IPIS=${IPIS:-20000}
ACCEL=hpkvm,cpus=2-3
COUNTERS='hpkvm_kicks hpkvm_entry_stops hpkvm_entry_aborts hpkvm_captured
	hpkvm_fast_ipis'
# How many NMIs, and how many of them in the window: less than half of what was
# seen.
NMIS=4000
HITS=1000

# Keep the VM's counters in /tmp/counters until it is gone, and they with it.
watch_counters() {	# name
	while vm_alive "$1"; do
		for _counter in $COUNTERS; do
			echo "$_counter" \
				"$(cat /sys/kernel/debug/kvm/*/"$_counter")"
		done >/tmp/counters.new 2>/dev/null &&
			! grep -q ' $' /tmp/counters.new &&
			mv /tmp/counters.new /tmp/counters
		sleep 1
	done
}

counted() {	# counter, how many at least
	grep "^$1 " /tmp/counters
	[ "$(sed -n "s/^$1 //p" /tmp/counters)" -ge "$2" ]
}

# The host calls functions on the cores, from another CPU, as fast as it can: an
# NMI each. If one that came in the window were lost, its call would not return;
# if the host vector got into the guest, the guest would say so and end.
torture_begin window $ACCEL 2 irqs="$IRQS"
torture_disturb window 2,3 read-msr signal-vcpu
watch_counters window
torture_end window
torture_disturbed window read-msr signal-vcpu
ok "window: the host sent $NMIS NMIs, and more" counted hpkvm_kicks $NMIS
ok "window: $HITS of them, and more, came while a VM entry was under way" \
	counted hpkvm_entry_stops $HITS
ok "window: it sent IPIs without C" counted hpkvm_fast_ipis 20

# The guest speculates with IBRS. A CPU that sends IPIs for it without C still has
# the guest's IA32_SPEC_CTRL; the host must find its own, which is 0, when it takes
# over, and the guest its own afterwards.
sends_fast_ipis() {	# how many before
	kvm_counter hpkvm_fast_ipis
	[ "$(kvm_counter hpkvm_fast_ipis)" -ge $(($1 + 20)) ]
}

torture_begin speculation $ACCEL 2 ipis="$IPIS" spec_ctrl=1
before=$(kvm_counter hpkvm_fast_ipis)
ok "speculation: the host finds its own IA32_SPEC_CTRL" \
	torture_host_spec_ctrl 0
ok "speculation: IPIs were sent without C meanwhile" sends_fast_ipis "$before"
torture_end speculation

# Interrupts of the one guest's come to the cores while the other runs there.
torture_begin owner $ACCEL 2 irqs="$IRQS"
torture_begin tenant kvm 0 irqs=$((IRQS / 2))
torture_pin tenant 2 3
torture_end tenant
torture_end owner

# All that host-storm does but the slowest: a CPU that comes and goes, backtraces
# on a serial line.
STORM="read-msr signal-vcpu unmap membarrier patch-kernel-text compete
	zap-guest-mappings ask-for-lapic write-state pause"
# shellcheck disable=SC2086  # a list of words
torture_disturb_well storm $ACCEL 2 irqs="$IRQS" 2,3 $STORM
# shellcheck disable=SC2086
torture_disturbed storm $STORM

for core in 2 3; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
