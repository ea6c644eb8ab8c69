# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host: an NVMe controller, in an unmodified Linux guest
# on dedicated cores, whose interrupts go away and come back: its driver is
# unbound and bound, its function is reset, the VM is paused, and reset as a
# whole.  All data is verified; each time the interrupts go to the cores again.
#
#   DISK   PCI address of the NVMe controller

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/vfio.sh

BOOT=180
# Of 2 vCPUs, 32 blocks each, a write and a read; guest/linux/reset.c.
BLOCKS=64
IRQS=128

# At each use of the disk since line FROM of the console, all blocks were right
# and each transfer had an interrupt of a number that is an MSI's.
used_right() {	# name, first line, times
	vm_console "$1" | tail -n +"$2" |
		awk -v blocks=$BLOCKS -v irqs=$IRQS -v times="$3" '
		function check() { bad += n && sum < irqs }
		/^reset: .* blocks=/ {
			check(); n++; sum = 0; print
			bad += $3 != "blocks=" blocks || $4 != "bad=0"
		}
		/^irq: [0-9]+ / && $2 >= 24 {
			for (i = 3; i <= NF; i++) sum += $i
		}
		/^reset: done/ { check(); exit }
		END { print n + 0 " times, " bad + 0 " bad"
		      exit bad || n != times }'
}

round() {	# title, first line of the console, times "reset: done" was said
	ok "$1: the guest comes to its end" vm_done guest $BOOT '^reset: done' "$3"
	ok "$1: all data was right, and interrupts came" used_right guest "$2" 5
	# A queue of the disk's for each vCPU.
	ok "$1: interrupts go to cores" vm_some_direct guest 2
}

ok "the disk can be reset by FLR" \
	grep flr "/sys/bus/pci/devices/$DISK/reset_method"
ok "VFIO takes the disk" vfio_take "$DISK"

VM_ARGS="-device vfio-hp-pci,host=$DISK,irte=on"
vm_start guest hpkvm,cpus=2-3 reset
round "driver and FLR" 1 1

vm_qmp guest '{"execute":"stop"}'
ok "paused" vm_status guest paused 60
vm_qmp guest '{"execute":"cont"}'
ok "continued: the guest moves on" vm_moves_on guest
ok "continued: interrupts go to cores" vm_some_direct guest 2

line=$(($(wc -l <$VM_DIR/guest/serial) + 1))
vm_ask guest '{"execute":"system_reset"}' >/dev/null
round "system reset" $line 2
vm_kill guest
for core in 2 3; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
