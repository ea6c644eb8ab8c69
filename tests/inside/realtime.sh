# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the emulated host: threads of vCPUs as real-time tasks, as
# libvirt's <vcpusched> makes them, whose guest spins or sleeps.  The host's own
# work on their cores, for which others wait, goes on: while the cores are
# leased, whether the policy was set before or after, and when they are given
# back.  Stock Linux takes up to a second: its fair server runs at the end of
# its period.

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/torture.sh

# Seconds that a work item on every CPU may take, on a slow host, and that
# something takes which hangs.
SOON=5
NEVER=60

vcpu_threads() { vm_vcpu_tid "$1" 0; vm_vcpu_tid "$1" 1; }	# name

has_threads() { [ "$(vcpu_threads "$1" | wc -l)" -eq 2 ]; }	# name

set_policy() {	# name, chrt's option for it, priority
	within 60 has_threads "$1" || return 1
	for _tid in $(vcpu_threads "$1"); do
		"$FILES/chrt" "$2" -p "$3" "$_tid" || return 1
	done
}

# Half of each CPU: the kernel does not give all of them away.  -R, because KVM
# makes a thread for the VM at a vCPU's first run, which else EAGAIN ends.
set_deadline() {	# name
	within 60 has_threads "$1" || return 1
	for _tid in $(vcpu_threads "$1"); do
		"$FILES/chrt" -R -d -T 5000000 -D 10000000 -P 10000000 -p 0 "$_tid" ||
			return 1
	done
}

has_policy() {	# name, policy as /proc shows it
	for _tid in $(vcpu_threads "$1"); do
		[ "$(sed 's/.*) //' "/proc/$_tid/stat" | cut -d' ' -f39)" = "$2" ] ||
			return 1
	done
}

# Queues a work item on each CPU, and waits for all of them.
host_works() {
	_begin=$(date +%s)
	timeout $NEVER sh -c 'echo 1 >/proc/sys/vm/stat_refresh' || return 1
	_took=$(($(date +%s) - _begin))
	echo "it took $_took s"
	[ $_took -le $SOON ]
}

# Each time a new work item may be there before or after what the thread does.
host_works_repeatedly() {
	for _n in 1 2 3; do
		host_works || return 1
	done
}

policies() {	# name
	for _policy in 'f 1 FIFO' 'r 2 RR'; do
		# shellcheck disable=SC2086  # a list of words
		set -- "$1" $_policy
		ok "$1: its threads are $4" set_policy "$1" "-$2" 1
		ok "$1: they are $4" has_policy "$1" "$3"
		ok "$1, $4: the host's work goes on" host_works_repeatedly
		ok "$1, $4: its vCPUs are in passthrough" vm_dedicated "$1" 2
	done
}

ok "the host works without a guest" host_works_repeatedly

# Linux in its idle loop: HLT does not exit.
VM_KERNEL= vm_start asleep hpkvm,cpus=2-3 forever
ok "asleep: the guest boots" vm_wait_for asleep 90 'guest: start'
ok "asleep: its vCPUs are in passthrough" vm_dedicated asleep 2
policies asleep
vm_kill asleep
ok "asleep: the host's work goes on when it is gone" host_works_repeatedly

# One that never sleeps, with real-time threads before they have a core.
VM_ARGS="$(_torture_devices) -S"
vm_start awake hpkvm,cpus=2-3 irqs=10000000
ok "awake: its threads are FIFO" set_policy awake -f 1
vm_ask awake '{"execute":"cont"}' >/dev/null
ok "awake: its vCPUs are in passthrough" vm_dedicated awake 2
ok "awake: they are FIFO" has_policy awake 1
ok "awake, bound as FIFO: the host's work goes on" host_works_repeatedly
ok "awake: QEMU says that it is of no use" \
	grep -q 'real-time' $VM_DIR/awake/log
policies awake

# An ordinary thread again, with a work item that came when it was one, and once
# more real-time: nothing that waits is forgotten.
ok "awake: its threads are ordinary ones" set_policy awake -o 0
ok "awake, ordinary: the host's work goes on" host_works_repeatedly
ok "awake: its threads are FIFO again" set_policy awake -f 1
ok "awake, FIFO again: the host's work goes on" host_works_repeatedly
vm_kill awake
ok "awake: the host's work goes on when it is gone" host_works_repeatedly

# SCHED_DEADLINE is for tasks that may run on any CPU, when it is set.
vm_start deadline hpkvm,cpus=2-3 irqs=10000000
ok "deadline: its threads are deadline tasks" set_deadline deadline
vm_ask deadline '{"execute":"cont"}' >/dev/null
ok "deadline: its vCPUs are in passthrough" vm_dedicated deadline 2
ok "deadline: they are deadline tasks" has_policy deadline 6
ok "deadline: the host's work goes on" host_works_repeatedly
ok "deadline: its threads are ordinary ones" set_policy deadline -o 0
ok "deadline: they can't be deadline tasks while they have a core" \
	not set_deadline deadline
ok "deadline: the host's work goes on then" host_works_repeatedly
vm_kill deadline
ok "deadline: the host's work goes on when it is gone" host_works_repeatedly
for core in 2 3; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
