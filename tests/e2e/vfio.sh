# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host of 6 CPUs with two edu devices at 0000:00:10.0 and
# 0000:00:11.0: VFIO devices whose interrupts go straight to a dedicated core.
# What an interrupt costs, that none is lost or doubled while everything that
# directs them changes all the time, and what irte= does.

. /host/tests/host/lib/tap.sh
. /host/tests/host/lib/vm.sh
. /host/tests/host/lib/torture.sh
. /host/tests/host/lib/exits.sh
. /host/tests/host/lib/vfio.sh

IRQS=${IRQS:-50000}
FIRST=0000:00:10.0
SECOND=0000:00:11.0

# Each interrupt of its VFIO devices that is not masked goes there.
vm_irqs() {	# name, how many, mode
	_deadline=$(($(date +%s) + 10))
	while :; do
		_answer=$(vm_ask "$1" '{"execute":"query-hpkvm"}')
		_count=$(echo "$_answer" | grep -o "\"mode\": \"$3\"" | wc -l)
		[ "$_count" -eq "$2" ] && break
		[ "$(date +%s)" -lt $_deadline ] || break
		sleep 0.5
	done
	echo "$_answer"
	[ "$_count" -eq "$2" ]
}

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
	echo "# $_exits"
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

# What the kernel has counted, summed over both devices.
counted() {	# name, counter
	vm_ask "$1" '{"execute":"query-hpkvm"}' |
		grep -o "\"$2\": [0-9]*" |
		awk '{ sum += $2 } END { print sum + 0 }'
}

SOURCES="read-msr signal-vcpu membarrier ask-for-lapic"
TORTURE_MSI_DEVICES=$(devices_of vfio-hp-pci,irte=on)
torture_begin demoted hpkvm,cpus=2-3 2 irqs="$IRQS" msi_only=1
# shellcheck disable=SC2086  # a list of words
torture_disturb demoted 2,3 $SOURCES
ok "demoted: its interrupts are shown where the guest has them" \
	moves_in_view demoted 2 3
for _counter in directed ended forwarded; do
	echo "# $_counter: $(counted demoted $_counter)"
done
ok "demoted: interrupts were pending when a vCPU was demoted" \
	[ "$(counted demoted forwarded)" -gt 0 ]
torture_end demoted
# shellcheck disable=SC2086
torture_disturbed demoted $SOURCES

# Without cpus= a vCPU goes where its thread is pinned.
TORTURE_MSI_DEVICES=$(devices_of vfio-pci)
torture_begin moving hpkvm 0 irqs=$((IRQS / 10))
torture_pin moving 2 3
ok "moving: its vCPUs are in passthrough" vm_dedicated moving 2
torture_disturb moving 2,3,4,5 read-msr ask-for-lapic repin
torture_end moving
torture_disturbed moving read-msr ask-for-lapic repin

# ---- Policy, and the end ----

torture_running() {	# device, interrupts
	TORTURE_MSI_DEVICES=$(devices_of "$1")
	torture_begin policy hpkvm,cpus=2-3 2 irqs="$2"
}

torture_running vfio-hp-pci,irte=off 50000
ok "irte=off: both interrupts stay in the host" vm_irqs policy 2 remapped
ok "irte=off: for that reason" vm_says policy '"reason": "policy"'
torture_end policy

# By the device's own file, and by iommufd, in place of VFIO's group.
VM_IOMMUFD='-object iommufd,id=dma'
torture_running vfio-hp-pci,iommufd=dma 50000
ok "iommufd: both interrupts are direct" vm_irqs policy 2 direct
torture_end policy
VM_IOMMUFD=

torture_running vfio-hp-pci 5000000
ok "killed: both interrupts are direct" vm_irqs policy 2 direct
vm_kill policy
for core in 2 3; do
	ok "killed: core $core serves the host" "$FILES/core-check" $core
done
torture_running vfio-hp-pci 50000
ok "after that: both interrupts are direct" vm_irqs policy 2 direct
torture_end policy
