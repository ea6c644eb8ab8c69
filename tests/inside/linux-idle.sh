# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host that counts instructions: what a guest of stock
# KVM costs.  Prints the guest's "micro:" lines, and "exits: REASON COUNT" for
# its window; judges nothing.  For outside/linux-idle.

. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/exits.sh

exits_arm || exit 1
VM_SMP=1 VM_KERNEL=$FILES/micro.elf
vm_start generic kvm
if ! vm_done generic 900 '^micro: halt-wake'; then
	exit 1
fi
exits_save /tmp/exits || exit 1
sed -En 's/.*exit_reason: *([0-9]+) .*hitcount: *([0-9]+).*/exits: \1 \2/p' \
	/tmp/exits/kvm_exit
vm_console generic | grep -a '^micro: '
