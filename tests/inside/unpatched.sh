# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host that cannot dedicate cores, because its kernel is
# not ours, or because it has no x2APIC: it remaps no interrupts, or by an IOMMU
# whose entries have no room for x2APIC's destinations, or no nested paging.
# -accel hpkvm is stock KVM and says so once; with fallback=off, and with a device
# that insists, it is an error before the guest runs.
#
#   WHY   what each message must contain
#   SLOW  why no guest boots in time there    (one does)

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh

fallback() {
	VM_ARGS=-no-shutdown
	vm_start fallback hpkvm,cpus=2-3 steady 1 500
	ok "the guest boots" \
		vm_wait_for fallback 120 'guest: start'
	ok "no vCPU is in passthrough" vm_dedicated fallback 0
	ok "the guest does its work" vm_wait_for fallback 60 'guest: done'
	ok "QEMU says why, in one line" \
		[ "$(grep -c "hpkvm: .*$WHY" $VM_DIR/fallback/log)" -eq 1 ]
	vm_qmp fallback '{"execute":"quit"}'
	ok "QEMU ends" vm_wait_end fallback 30
}

if [ -n "$SLOW" ]; then
	skip "the guest boots" "$SLOW"
else
	fallback
fi

VM_ARGS=
vm_start refused hpkvm,cpus=2-3,fallback=off poweroff 1
ok "with fallback=off QEMU ends" vm_wait_end refused 60
ok "the guest did not run" [ "$(vm_count refused 'guest:')" -eq 0 ]
ok "QEMU says why" grep -q "hpkvm: .*$WHY" $VM_DIR/refused/log

VM_ARGS='-device vfio-hp-pci,irte=on,host=0000:00:1f.0'
vm_start insists hpkvm,cpus=2-3 poweroff 1
ok "with irte=on QEMU ends" vm_wait_end insists 60
ok "QEMU says why irte=on cannot be" grep -q "irte=on: .*$WHY" $VM_DIR/insists/log
cat $VM_DIR/*/log | notes
