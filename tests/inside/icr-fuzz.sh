# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host of 6 CPUs: a guest writes random values to its
# ICR, under stock KVM, with IPIs sent by C and by assembly. What comes of each
# must be the same; and nothing may come to another guest.
#
#   WRITES  of the guest in assembly's way, and of stock KVM's    (100352)
#   SEED    of the values                                         (1)

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh

WRITES=${WRITES:-100352}
SEED=${SEED:-1}
LIMIT=600
FAST_IPI=/sys/module/kvm/parameters/hpkvm_fast_ipi
VM_KERNEL=$FILES/icr-fuzz.elf

traces() { vm_console "$1" | grep -a '^icr: '; }

# As far as the one went.
same_traces() {	# name
	traces "$1" >/tmp/traces
	traces kvm | head -n "$(wc -l </tmp/traces)" >/tmp/traces-kvm
	tail -n 1 /tmp/traces
	[ -s /tmp/traces ] && diff /tmp/traces-kvm /tmp/traces
}

fuzz() {	# name, accelerator, writes
	VM_SMP=3
	vm_start "$1" "$2" writes="$3" seed="$SEED"
	ok "$1: the guest starts" vm_wait_for "$1" 90 '^icr: 1024 writes'
}

comes_to_its_end() {	# name
	vm_done "$1" $LIMIT '^icr-fuzz: done' && vm_wait_end "$1" 30
}

# Of a guest that goes on.
fast_ipis() {	# test of their number
	_sent=$(kvm_counter hpkvm_fast_ipis)
	echo "$_sent"
	# shellcheck disable=SC2086  # an operator and a number
	test "$_sent" $1
}

VM_SMP=1
vm_start watcher hpkvm,cpus=5 watch=1
ok "another guest watches" vm_wait_for watcher 90 '^icr-fuzz: watching'
ok "it is in passthrough" vm_dedicated watcher 1

fuzz kvm kvm "$WRITES"
ok "kvm: the guest comes to its end" comes_to_its_end kvm

dedicated() {	# name, the assembly's switch, test of its IPIs, writes
	echo "$2" >$FAST_IPI
	fuzz "$1" hpkvm,cpus=2-4 "$4"
	ok "$1: its vCPUs are in passthrough" vm_dedicated "$1" 3
	ok "$1: so many IPIs without C: $3" fast_ipis "$3"
	ok "$1: the guest comes to its end" comes_to_its_end "$1"
	ok "$1: every write had the consequences it has under stock KVM" \
		same_traces "$1"
}

dedicated assembly Y '-ge 100' "$WRITES"
dedicated C N '-eq 0' $((WRITES / 5))
echo Y >$FAST_IPI

ok "the other guest is still there" vm_alive watcher
ok "it got nothing" not grep -a 'Bail out' $VM_DIR/watcher/serial
vm_kill watcher
for core in 2 3 4 5; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
