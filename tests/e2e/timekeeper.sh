# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host of 5 CPUs whose CPU 1 keeps the time for those in
# nohz_full=: it can't be leased, as long as that is so.

. /host/tests/host/lib/tap.sh
. /host/tests/host/lib/vm.sh

vm_start refused hpkvm,cpus=1-2,fallback=off poweroff 1
ok "QEMU ends" vm_wait_end refused 60
sed 's/^/# /' $VM_DIR/refused/log
ok "QEMU says why" grep -q "vCPU 0 refused (cpu 1 keeps the host's time)" \
	$VM_DIR/refused/log
ok "the core that was leased serves the host" "$FILES/core-check" 2

vm_start others hpkvm,cpus=2-3 forever
ok "the guest boots" vm_wait_for others 90 'guest: start'
ok "others can be leased" vm_dedicated others 2
ok "the guest moves on" vm_moves_on others
vm_kill others
