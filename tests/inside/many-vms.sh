# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host of 6 CPUs: two dedicated guests and a generic
# one at once, then more guests than there are cores.

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh

BOOT=240

VM_ARGS=-no-shutdown
vm_start first hpkvm,cpus=2-3 steady 3 3000
vm_start second hpkvm,cpus=4-5 steady 3 3000
vm_start generic kvm steady 3 3000
# At once, before the guest has done its work: generic may boot last.
for vm in first second; do
	ok "$vm: the guest boots" vm_wait_for $vm $BOOT 'guest: start'
	ok "$vm: both vCPUs are in passthrough" vm_dedicated $vm 2
done
ok "generic: the guest boots" vm_wait_for generic $BOOT 'guest: start'

# The cores are taken: this one runs as stock KVM does, and says so.
VM_SMP=1
vm_start late hpkvm,cpus=2-3 poweroff 1
VM_SMP=2
ok "late: a guest without a free core boots" \
	vm_wait_for late $BOOT 'guest: start'
ok "late: QEMU says that the core is taken" \
	grep -q 'hpkvm: .*core' $VM_DIR/late/log
VM_SMP=1
vm_start refused hpkvm,cpus=2-3,fallback=off poweroff 1
VM_SMP=2
ok "refused: with fallback=off QEMU ends" vm_wait_end refused 60
ok "refused: the guest did not run" [ "$(vm_count refused 'guest:')" -eq 0 ]

for vm in first second generic; do
	ok "$vm: the guest does its work" vm_done $vm $BOOT 'guest: done'
	ok "$vm: the guest had timer interrupts" \
		grep -q '^irq: LOC' $VM_DIR/$vm/serial
	vm_qmp $vm '{"execute":"quit"}'
	ok "$vm: QEMU ends" vm_wait_end $vm 30
done
for core in 2 3 4 5; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
