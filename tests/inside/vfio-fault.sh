# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host with the debug kernel and two edu devices at
# 0000:00:10.0 and 0000:00:11.0: the IOMMU does not confirm that it takes an
# entry, one that directs an interrupt to a core, then one that ends it; and KVM
# fails to connect one.  The guest that counts its interrupts must notice
# nothing, and whoever asks where they go must be told.

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/torture.sh
. /host/tests/inside/lib/vfio.sh

SWITCHES=/sys/kernel/debug/kvm_hpkvm
FIRST=0000:00:10.0
SECOND=0000:00:11.0
TORTURE_MSI_DEVICES="-device vfio-hp-pci,host=$FIRST,addr=0x10
	-device vfio-hp-pci,host=$SECOND,addr=0x11"

# The next entry of that kind is not confirmed; there is one within a minute.
fails() {	# switch
	echo 1 >$SWITCHES/"$1"
	within 60 grep -qx 0 $SWITCHES/"$1"
}

# It was in the kernel's log once, and for this interrupt only.
logged() {	# whose entry
	dmesg | grep 'interrupt remapping: irq .* not confirmed'
	[ "$(dmesg | grep -c "irq [0-9]*: entry for $1 not confirmed")" = 1 ]
}

# Looking at the local APICs takes all vCPUs out of passthrough.
demote() {	# name
	vm_ask "$1" '{"execute":"human-monitor-command",
		"arguments":{"command-line":"info registers -a"}}' >/dev/null
}

ok "the kernel has the switches" [ -e $SWITCHES/fail_direct ]
ok "VFIO takes the first device" vfio_take $FIRST
ok "VFIO takes the second device" vfio_take $SECOND

torture_begin fault hpkvm,cpus=2-3 2 msis="${MSIS:-3000}"
ok "both interrupts are direct" vm_irqs fault 2 direct
# The guest moves them all the time.
ok "an entry that directs one is not confirmed" fails fail_direct
ok "the kernel says so" logged "a guest's CPU"
ok "one interrupt is with the host, for that reason" vm_irqs fault 1 iommu
ok "the other is direct" vm_irqs fault 1 direct
demote fault
ok "it stays there when its vCPU has been demoted" vm_irqs fault 1 iommu

echo 1 >$SWITCHES/fail_undirect
demote fault
ok "an entry that ends it is not confirmed" [ "$(cat $SWITCHES/fail_undirect)" = 0 ]
ok "the kernel says so" logged Linux
ok "both interrupts are with the host, for that reason" vm_irqs fault 2 iommu
torture_end fault

# VFIO frees that one when it likes, and KVM would not hear of it.
echo 1 >$SWITCHES/fail_producer
torture_begin alone hpkvm,cpus=2-3 2 msis=300 until_told=1
ok "alone: an interrupt is not connected" \
	[ "$(cat $SWITCHES/fail_producer)" = 0 ]
ok "alone: the other is direct" vm_irqs alone 1 direct
demote alone
# Whatever its vCPU does: it is demoted and promoted meanwhile.
ok "alone: it does not become so" not vm_irqs alone 2 direct 5
torture_tell alone >/dev/null
torture_end alone

# Each VM begins anew.
torture_begin next hpkvm,cpus=2-3 2 msis=300
ok "next: both interrupts are direct" vm_irqs next 2 direct
torture_end next
for core in 2 3; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
