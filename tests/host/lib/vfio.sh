# SPDX-License-Identifier: GPL-2.0-or-later
#
# Shell functions, for use inside the emulated host, that give its PCI devices to
# VFIO.  Sourced, never run.

# vfio_take ADDRESS: the device is VFIO's, whatever driver had it.
vfio_take() {
	_device=/sys/bus/pci/devices/$1
	echo vfio-pci >"$_device/driver_override"
	[ ! -e "$_device/driver" ] || echo "$1" >"$_device/driver/unbind"
	echo "$1" >/sys/bus/pci/drivers_probe
	[ "$(basename "$(readlink "$_device/driver")")" = vfio-pci ]
}
