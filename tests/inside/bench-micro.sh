# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host that counts instructions: the guest that measures
# itself, in each way that the host has.  Prints "way: NAME", then what the guest
# said; judges nothing.  For outside/bench-micro.
#
#   VM_SMP  vCPUs, and CPUs from 2 on that can be leased
#   TIMES   how often the guest does each operation

. /host/tests/inside/lib/vm.sh

FAST_IPI=/sys/module/kvm/parameters/hpkvm_fast_ipi
VM_KERNEL=$FILES/micro.elf

measure() {	# way, accelerator, the assembly's switch
	echo "$3" >$FAST_IPI || return 1
	vm_start guest "$2" stay=1 times="$TIMES"
	vm_done guest 900 '^micro: halt-wake' || return 1
	case $2 in
	hpkvm*) vm_dedicated guest "$VM_SMP" || return 1 ;;
	esac
	echo "way: $1"
	vm_console guest | grep -a '^micro: '
	vm_kill guest
}

ACCEL=hpkvm,cpus=2-$((VM_SMP + 1)),fallback=off
measure generic kvm N && measure hpkvm_c "$ACCEL" N &&
	measure hpkvm_asm "$ACCEL" Y
