# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host of 6 CPUs with two edu devices at 0000:00:10.0 and
# 0000:00:11.0: VFIO devices whose interrupts go straight to a dedicated core.
# What an interrupt costs, that none is lost or doubled while everything that
# directs them changes all the time, and what irte= does.

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/torture.sh
. /host/tests/inside/lib/exits.sh
. /host/tests/inside/lib/vfio.sh

MSIS=${MSIS:-100000}
FIRST=0000:00:10.0
SECOND=0000:00:11.0

ok "VFIO takes the first device" vfio_take $FIRST
ok "VFIO takes the second device" vfio_take $SECOND

# ---- What an interrupt costs ----

costs() {	# accelerator, device, test of the exits of 1000 interrupts
	_title="cost, $2 under $1"
	exits_arm
	VM_SMP=1 VM_KERNEL=$FILES/micro.elf
	VM_ARGS="-device $2,host=$FIRST,addr=0x10"
	vm_start micro "$1" device_only=1
	VM_SMP=2 VM_KERNEL=$FILES/torture.elf
	ok "$_title: the guest does its work" \
		vm_done micro 120 '^micro: device-msi'
	exits_save /tmp/exits
	_exits=$(exits_of "$INTERRUPT_EXITS")
	# shellcheck disable=SC2086  # an operator and a number
	ok "$_title: exits for 1000 interrupts: $3" test "$_exits" $3
	echo "$_exits" | notes
	vm_kill micro
	exits_disarm
}

costs kvm vfio-pci '-ge 1000'
costs hpkvm,cpus=2 vfio-hp-pci '-eq 0'
costs hpkvm,cpus=2 vfio-pci '-eq 0'

# ---- Torture ----

devices_of() {	# device, with properties
	echo "$VM_IOMMUFD -device $1,host=$FIRST,addr=0x10,id=first" \
		"-device $1,host=$SECOND,addr=0x11,id=second"
}

# Its interrupt is shown on this core, then on that one: the guest moves it.
moves_in_view() {	# name, core, core
	for _core in "$2" "$3"; do
		_deadline=$(($(date +%s) + 30))
		until vm_says "$1" "\"index\": 0, \"host-cpu\": $_core"; do
			[ "$(date +%s)" -lt $_deadline ] || return 1
		done
	done
}

# What the kernel has counted, summed over both devices since the guest enabled
# their MSIs.
counted() {	# name, counter
	vm_ask "$1" '{"execute":"query-hpkvm"}' |
		grep -o "\"$2\": [0-9]*" |
		awk '{ sum += $2 } END { print sum + 0 }'
}

some_forwarded() { [ "$(counted "$1" forwarded)" -gt 0 ]; }	# name

# MSIs that came, of those that the devices sent to both vCPUs.
msis_arrived() {	# name, at least
	_msis=$(vm_console "$1" |
		sed -n 's/^# MSI from .* (edu): sent .* received \([0-9]*\) .*/\1/p')
	echo "$_msis MSIs"
	[ "${_msis:-0}" -ge "$2" ]
}

SOURCES="read-msr signal-vcpu membarrier ask-for-lapic pause"
TORTURE_MSI_DEVICES=$(devices_of vfio-hp-pci,irte=on)
torture_begin demoted hpkvm,cpus=2-3 2 msis="$MSIS"
# A fresh disturbance for every few MSIs, or the emulator would do little else.
export STORM_PACE=10
# shellcheck disable=SC2086  # a list of words
torture_disturb demoted 2,3 $SOURCES
unset STORM_PACE
ok "demoted: its interrupts are shown where the guest has them" \
	moves_in_view demoted 2 3
ok "demoted: interrupts were pending when a vCPU was demoted" \
	within 60 some_forwarded demoted
for _counter in directed ended forwarded; do
	echo "$_counter: $(counted demoted $_counter)" | notes
done
torture_end demoted
# shellcheck disable=SC2086
torture_disturbed demoted $SOURCES
ok "demoted: $MSIS MSIs were counted" msis_arrived demoted "$MSIS"

# Without cpus= a vCPU goes where its thread is pinned.
TORTURE_MSI_DEVICES=$(devices_of vfio-pci)
torture_begin moving hpkvm 0 msis=$((MSIS / 10)) msi_off=1 until_told=1
torture_pin moving 2 3
ok "moving: its vCPUs are in passthrough" vm_dedicated moving 2
torture_disturb moving 2,3,4,5 read-msr ask-for-lapic repin
torture_end_disturbed moving
torture_disturbed moving read-msr ask-for-lapic repin

# Those that interrupt by their pins take stock KVM's way, with all that a guest
# sees of it.
TORTURE_MSI_DEVICES=
TORTURE_INTX_DEVICES="-device vfio-hp-pci,host=$FIRST,addr=0x2
	-device vfio-hp-pci,host=$SECOND,addr=0x3"
torture_begin intx hpkvm,cpus=2-3 2 irqs=10000
ok "intx: both stay in the host, for that reason" vm_irqs intx 2 not-msi
torture_end intx
TORTURE_INTX_DEVICES=

# ---- Policy, reset, and the end ----

torture_running() {	# device, interrupts
	TORTURE_MSI_DEVICES=$(devices_of "$1")
	torture_begin policy hpkvm,cpus=2-3 2 irqs="$2"
}

torture_running vfio-hp-pci,irte=off 20000
ok "irte=off: both interrupts stay in the host" vm_irqs policy 2 remapped
ok "irte=off: for that reason" vm_says policy '"reason": "policy"'
torture_end policy

# By the device's own file, and by iommufd, in place of VFIO's group.
VM_IOMMUFD='-object iommufd,id=dma'
torture_running vfio-hp-pci,iommufd=dma 20000
ok "iommufd: both interrupts are direct" vm_irqs policy 2 direct
torture_end policy
VM_IOMMUFD=

torture_running vfio-hp-pci 2000000
ok "reset: both interrupts are direct" vm_irqs policy 2 direct
vm_ask policy '{"execute":"system_reset"}' >/dev/null
ok "reset: the guest starts again" vm_wait_for policy 90 '^# 2 CPUs' 2
ok "reset: both interrupts are direct again" vm_irqs policy 2 direct
vm_kill policy

torture_running vfio-hp-pci 2000000
ok "killed: both interrupts are direct" vm_irqs policy 2 direct
vm_kill policy
for core in 2 3; do
	ok "killed: core $core serves the host" "$FILES/core-check" $core
done
torture_running vfio-hp-pci 20000
ok "after that: both interrupts are direct" vm_irqs policy 2 direct
torture_end policy

# ---- What cannot be ----

refused() {	# title, accelerator, device, what QEMU says
	VM_ARGS="-device $3"
	vm_start refused "$2" none
	ok "$1: QEMU ends" vm_wait_end refused 30
	ok "$1: and says why" grep "$4" $VM_DIR/refused/log
	vm_kill refused
}

refused "a device of the host's driver" hpkvm,cpus=2-3 \
	vfio-hp-pci,host=0000:00:1f.2 'vfio 0000:00:1f.2: '
refused "irte=on without hpkvm" kvm "vfio-hp-pci,host=$FIRST,irte=on" \
	'irte=on: hpkvm is not the accelerator'
