# SPDX-License-Identifier: GPL-2.0-or-later
#
# Shell functions, for use inside the emulated host, that give its PCI devices to
# VFIO and say where their interrupts go.  Sourced after vm.sh, never run.

# vfio_take ADDRESS: the device is VFIO's, whatever driver had it.
vfio_take() {
	_device=/sys/bus/pci/devices/$1
	echo vfio-pci >"$_device/driver_override"
	[ ! -e "$_device/driver" ] || echo "$1" >"$_device/driver/unbind"
	echo "$1" >/sys/bus/pci/drivers_probe
	[ "$(basename "$(readlink "$_device/driver")")" = vfio-pci ]
}

# vm_irqs NAME COUNT WORD [SECONDS]: COUNT interrupts of its VFIO devices have WORD
# for their mode or reason, or will within SECONDS (60); prints what QEMU says.
vm_irqs() {
	within "${4:-60}" _vm_has "$1" "\"\(mode\|reason\)\": \"$3\"" -eq "$2"
	_status=$?
	echo "$_answer"
	return $_status
}

# vm_some_direct NAME COUNT: COUNT interrupts or more go straight to cores, or will
# within 60 s; prints what QEMU says.
vm_some_direct() {
	within 60 _vm_has "$1" '"mode": "direct"' -ge "$2"
	_status=$?
	echo "$_answer"
	return $_status
}
