# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host of 6 CPUs: real devices of the host's, given to an
# unmodified Linux guest that uses its stock drivers.  The guest moves data over
# the network and to a disk and verifies all of it, as a generic KVM VM with
# vfio-pci and as an hpkvm VM with vfio-hp-pci; exits are counted meanwhile.
#
#   NICS   PCI addresses, words DRIVER=ADDRESS; each is tried alone, with DISK.
#          Of igbvf it is the physical function's, which stays with the host
#   DISK   PCI address of an NVMe controller
#   VM_SMP vCPUs of the guest                              (2)

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/exits.sh
. /host/tests/inside/lib/vfio.sh

VM_SMP=${VM_SMP:-2}
CORES=$(seq 2 $((VM_SMP + 1)))
ACCEL=hpkvm,cpus=2-$((VM_SMP + 1))
SECONDS_OF_TRAFFIC=8
BOOT=180

# The address of a virtual function of @1.
make_vf() {	# PCI address
	_pf=/sys/bus/pci/devices/$1
	ip link set "$(basename "$_pf"/net/*)" up &&
		echo 1 >"$_pf/sriov_numvfs" &&
		basename "$(readlink "$_pf/virtfn0")"
}

# The interface of the virtio NIC, the other end.
peer_interface() {
	for _net in /sys/class/net/*; do
		case $(readlink "$_net/device/driver") in
		*virtio_net) basename "$_net" ;;
		esac
	done
}

# The growth that the guest saw, of all interrupts with a number that is an
# MSI's.
device_interrupts() {	# name
	vm_console "$1" | awk '
		/^irq: [0-9]+ / && $2 >= 24 {
			for (i = 3; i <= NF; i++) sum += $i
		}
		END { print sum + 0 }'
}

moved() {	# name, kind, unit
	grep -a "^traffic: $2 $3=" $VM_DIR/"$1"/serial
	grep -aq "^traffic: $2 $3=[1-9][0-9]* bad=0" $VM_DIR/"$1"/serial
}

has_device() { vm_says "$1" '"qom-path"'; }	# name

traffic() {	# title, accelerator, device, NIC
	_title=$1
	exits_arm
	VM_ARGS="-device $3,host=$4,id=net -device $3,host=$DISK,id=disk"
	vm_start guest "$2" traffic $SECONDS_OF_TRAFFIC
	ok "$_title: the guest has a network" \
		vm_done guest $BOOT '^traffic: net connected'
	if [ "$3" = vfio-hp-pci ]; then
		# A queue pair of the disk's for each vCPU, and the NIC's.
		ok "$_title: interrupts go to cores" \
			vm_some_direct guest $((VM_SMP + 1))
	fi
	ok "$_title: the guest does its work" \
		vm_done guest 60 '^traffic: disk'
	exits_save /tmp/exits
	exits_disarm
	ok "$_title: what came back from the network was right" \
		moved guest net bytes
	ok "$_title: what came back from the disk was right" \
		moved guest disk blocks
	ok "$_title: QEMU ends" vm_wait_end guest 60
	irqs=$(device_interrupts guest)
	exits=$(exits_of "$INTERRUPT_EXITS|$HALT_EXITS")
	echo "$_title: $irqs device interrupts, $exits exits for interrupts" |
		notes
	vm_kill guest
}

ok "VFIO takes the disk" vfio_take "$DISK"
given=
for nic in $NICS; do
	driver=${nic%%=*} address=${nic#*=}
	[ "$driver" != igbvf ] || address=$(make_vf "$address")
	ok "VFIO takes the $driver" vfio_take "$address"
	given="$given $driver=$address"
done
"$FILES/net-peer" "$(peer_interface)" 10.9.0.1 &
for nic in $given; do
	driver=${nic%%=*} address=${nic#*=}
	traffic "$driver, generic" kvm vfio-pci "$address"
	ok "$driver, generic: an exit at least for each interrupt" \
		[ "$exits" -ge "$irqs" ]
	traffic "$driver, hpkvm" "$ACCEL" vfio-hp-pci "$address"
	ok "$driver, hpkvm: there were interrupts" [ "$irqs" -ge 1000 ]
	# Not one in a hundred, whatever else interrupted.
	ok "$driver, hpkvm: no exits for interrupts" \
		[ $((exits * 100)) -lt "$irqs" ]
done
# The disk comes and goes while the guest runs, by PCIe's own hot-plug.
VM_ARGS="-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off
	-device pcie-root-port,id=rp0,chassis=1"
vm_start guest "$ACCEL" forever
ok "plug: the guest boots" vm_wait_for guest $BOOT 'guest: alive'
for round in 1 2; do
	vm_ask guest '{"execute":"device_add","arguments":
		{"driver":"vfio-hp-pci","host":"'"$DISK"'","bus":"rp0",
		 "id":"disk","irte":"on"}}' | notes
	ok "plug $round: its interrupts go to cores" \
		vm_some_direct guest $((VM_SMP + 1))
	vm_ask guest '{"execute":"device_del","arguments":{"id":"disk"}}' |
		notes
	ok "plug $round: it goes" \
		within 60 not has_device guest
done
ok "plug: the guest moves on" vm_moves_on guest
vm_kill guest
for core in $CORES; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
