# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the emulated host with the debug kernel, whose switches drop or
# double one interrupt at a point where it changes hands (hpkvm_fault.c): the
# guest that counts its interrupts must notice every time. Without this nobody
# knows whether "0 lost, 0 doubled" means anything.

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/torture.sh

SWITCHES=/sys/kernel/debug/kvm_hpkvm
# What makes interrupts change hands at every point.
KINDS='read-msr signal-vcpu membarrier ask-for-lapic'
# Interrupts at that point before the one that is hit.
SPARED=10
# A second interrupt that comes when the next one of its vector waits already
# merges with it, and nobody is told twice: then there is another one.
MOST_DOUBLES=5

# The host is quiet again when it has happened: a guest that is disturbed takes
# long to say what it saw.
happens() {	# switch
	# shellcheck disable=SC2086  # a list of words
	torture_disturb "$1" 2,3 $KINDS
	echo $SPARED >$SWITCHES/$1
	within 120 grep -qx 0 $SWITCHES/$1
	_happened=$?
	kill $_storm
	wait $_storm
	[ $_happened -ne 0 ] || return 0
	echo 0 >$SWITCHES/$1
	echo "it does not happen"
	return 1
}

ends() { vm_wait_for "$1" "$2" '^torture: .* disorder='; }	# name, seconds

# A level-triggered interrupt that is dropped may come again when the guest has
# given it up.
notices() {	# switch
	_tries=1
	case $1 in
	drop_*)
		_seen='lost=1 doubled=[01] early=0'
		happens "$1" && ends "$1" 120
		;;
	*)
		# A periodic timer's second one may come so late that the next
		# true one is early after it.
		_seen='lost=0 \(doubled=1 early=0\|doubled=0 early=[12]\)'
		while happens "$1" && ! ends "$1" 30; do
			[ $_tries -lt $MOST_DOUBLES ] || break
			_tries=$((_tries + 1))
		done
		;;
	esac
	grep -a '^torture' $VM_DIR/$1/serial
	echo "at attempt $_tries"
	grep -a '^# .* \(lost\|doubled\|early\) [1-9]' $VM_DIR/$1/serial
	grep -aq "^torture: .* $_seen " $VM_DIR/$1/serial
}

mutate() {	# switch
	torture_begin "$1" hpkvm,cpus=2-3 2 irqs=10000000 until_wrong=1 \
		patience_ms=4000
	ok "$1: the guest notices" notices "$1"
	vm_kill "$1"
}

ok "the kernel has the switches" [ -d $SWITCHES ]
for point in send inject capture promote demote; do
	mutate drop_$point
	mutate double_$point
done
