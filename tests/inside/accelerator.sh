# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the emulated host: what the accelerator does that a fake KVM
# cannot show.  Cores by pinning, refusals by the kernel, a vCPU that is
# plugged, statistics, a guest that migrates between hpkvm and kvm, and pins that
# a cpuset takes away.

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh

BOOT=120

# libvirt: "-accel kvm", paused; pin the threads; continue.
export QEMU_HPKVM=fallback=off
VM_ARGS=-S
vm_start pinned kvm forever
ok "pinned: nothing is bound before the start" vm_dedicated pinned 0
ok "pinned: vCPU 0 gets a mask" taskset -p 8 "$(vm_vcpu_tid pinned 0)"
ok "pinned: vCPU 1 gets a mask" taskset -p 4 "$(vm_vcpu_tid pinned 1)"
vm_ask pinned '{"execute":"cont"}' >/dev/null
unset QEMU_HPKVM
ok "pinned: the guest boots" vm_wait_for pinned $BOOT 'guest: start'
ok "pinned: both vCPUs are in passthrough" vm_dedicated pinned 2
ok "pinned: vCPU 0 owns CPU 3" vm_says pinned \
	'"host-cpu": 3[^}]*"cpu-index": 0\|"cpu-index": 0[^}]*"host-cpu": 3'

# In all of these words, for each vCPU of a VM.
timer_is() {	# name, how, why
	within 60 _vm_has "$1" "\"timer\": \"$2\"" -eq "${VM_SMP:-2}" &&
		_vm_has "$1" "\"timer-reason\": \"$3\"" -eq "${VM_SMP:-2}" &&
		return
	echo "$_answer"
	return 1
}

said_once() {	# name, words
	[ "$(grep -c "$2" "$VM_DIR/$1/log")" -eq 1 ]
}

ok "pinned: its timers are direct" timer_is pinned direct none
ok "pinned: nothing is said of timers" not grep -q timer $VM_DIR/pinned/log

# virsh vcpupin on a running VM, one vCPU after the other: they change places.
swapped() {
	vm_says pinned \
		'"host-cpu": 2[^}]*"cpu-index": 0\|"cpu-index": 0[^}]*"host-cpu": 2' &&
		vm_dedicated pinned 2
}

ok "pinned: vCPU 0 gets another mask" taskset -p 4 "$(vm_vcpu_tid pinned 0)"
sleep 2
ok "pinned: vCPU 1 gets another mask" taskset -p 8 "$(vm_vcpu_tid pinned 1)"
ok "pinned: they have changed places" within 60 swapped
ok "pinned: the guest moves on there" vm_moves_on pinned 60

# The cores are taken: another VM does without, or does not start.
VM_ARGS=
vm_start second hpkvm,cpus=2-3 forever
ok "second: the guest boots" vm_wait_for second $BOOT 'guest: start'
ok "second: as under KVM" vm_dedicated second 0
ok "second: query-hpkvm says why" vm_says second '"reason": "cpu-leased"'
ok "second: QEMU says why, in one line" \
	[ "$(grep -c 'another vCPU owns cpu 2' $VM_DIR/second/log)" -eq 1 ]
vm_kill second
vm_start strict hpkvm,cpus=2-3,fallback=off poweroff 1
ok "strict: QEMU ends" vm_wait_end strict 60
ok "strict: the guest did not run" [ "$(vm_count strict '.')" -eq 0 ]
ok "strict: QEMU says why" grep -q 'another vCPU owns cpu 2' $VM_DIR/strict/log
VM_SMP=1 vm_start last hpkvm,cpus=0,fallback=off poweroff 1
ok "last: QEMU ends" vm_wait_end last 60
ok "last: CPU 0 is refused by name" grep -q 'refused (.*cpu 0' $VM_DIR/last/log

# The views disturb nobody, and a look at the LAPIC is no end.
vm_ask pinned '{"execute":"query-stats","arguments":{"target":"vcpu"}}' \
	>/tmp/stats
ok "pinned: statistics have the counters" grep -q hpkvm_promotions /tmp/stats
vm_ask pinned '{"execute":"human-monitor-command","arguments":
	{"command-line":"info lapic"}}' >/dev/null
ok "pinned: the guest moves on after info lapic" vm_moves_on pinned 60
ok "pinned: and is in passthrough again" vm_dedicated pinned 2

# From dedicated cores to a file, to ordinary KVM, and back.
vm_migrate() {
	vm_ask "$1" '{"execute":"migrate","arguments":
		{"uri":"file:'"$2"'"}}' >/dev/null
}

vm_migrate pinned /tmp/to-kvm
ok "migrate: saved from hpkvm" vm_status pinned postmigrate 60
vm_kill pinned
VM_ARGS="-incoming file:/tmp/to-kvm"
vm_start away "$VM_STOCK" forever
ok "migrate: runs under kvm" vm_status away running 60
ok "migrate: the guest moves on" vm_moves_on away 60
vm_migrate away /tmp/to-hpkvm
ok "migrate: saved from kvm" vm_status away postmigrate 60
vm_kill away
VM_ARGS="-incoming file:/tmp/to-hpkvm"
vm_start home hpkvm,cpus=2-3 forever
ok "migrate: runs under hpkvm" vm_status home running 60
ok "migrate: the guest moves on" vm_moves_on home 60
ok "migrate: its vCPUs are in passthrough" vm_dedicated home 2
vm_kill home
rm -f /tmp/to-kvm /tmp/to-hpkvm

# Whatever changes the cpuset of a cgroup, its threads get all CPUs of it.
pinned_again() {	# name
	for _cpu in 0 1; do
		sed -n 's/^Cpus_allowed_list:\t//p' \
			"/proc/$(vm_vcpu_tid "$1" $_cpu)/status"
	done | sort | tr '\n' ' ' >/tmp/pins
	cat /tmp/pins
	[ "$(cat /tmp/pins)" = '2 3 ' ]
}

offline_and_online() {	# CPU
	echo 0 >"/sys/devices/system/cpu/cpu$1/online" &&
		echo 1 >"/sys/devices/system/cpu/cpu$1/online"
}

pins_are_lost_by() {	# what, command
	_what=$1
	shift
	ok "cpuset: $_what" "$@"
	ok "cpuset: both threads are pinned again" within 30 pinned_again set
	ok "cpuset: both vCPUs are in passthrough" vm_dedicated set 2
	ok "cpuset: the guest moves on" vm_moves_on set 60
}

set_cpus() { echo "$1" >$SET/cpuset.cpus; }	# list

VM_ARGS=
SET=/sys/fs/cgroup/machine
echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control
mkdir $SET
vm_start set hpkvm,cpus=2-3 forever
ok "cpuset: the guest boots" vm_wait_for set $BOOT 'guest: start'
vm_pid set >$SET/cgroup.procs
pins_are_lost_by "another CPU goes off line and comes back" \
	offline_and_online 1
pins_are_lost_by "the set gets smaller" set_cpus 0,2-3
pins_are_lost_by "the set gets larger" set_cpus 0-3
vm_kill set

# A control group that limits CPU time, which the guests' HLT uses up.
LIMITED=/sys/fs/cgroup/limited
echo +cpu >/sys/fs/cgroup/cgroup.subtree_control
mkdir $LIMITED
start_limited() {	# name, cpu.max
	echo "$2" >$LIMITED/cpu.max
	VM_ARGS=-S
	vm_start "$1" hpkvm,cpus=2-3 forever
	vm_pid "$1" >$LIMITED/cgroup.procs
	vm_ask "$1" '{"execute":"cont"}' >/dev/null
	ok "quota: $1: the guest boots" vm_wait_for "$1" $BOOT 'guest: start'
	ok "quota: $1: both vCPUs are in passthrough" vm_dedicated "$1" 2
}
start_limited starved '160000 100000'
ok "quota: QEMU says once that it is less than a CPU for each vCPU" \
	said_once starved 'limited may use 160 % of a CPU, and vCPUs in it'
# What QEMU says is to be done.
echo max >$LIMITED/cpu.max
_before=$(sed -n 's/^nr_throttled //p' $LIMITED/cpu.stat)
sleep 3
ok "quota: without a limit it is stopped no more" \
	[ "$(sed -n 's/^nr_throttled //p' $LIMITED/cpu.stat)" -eq "$_before" ]
ok "quota: before it was" [ "$_before" -gt 0 ]
vm_kill starved
start_limited fed '300000 100000'
ok "quota: nothing is said of one that is enough" \
	not grep -q 'control group' $VM_DIR/fed/log
vm_kill fed
VM_ARGS=

# What a timer costs where the host cannot do for nothing what the guest wants.
VM_ARGS=
VM_SMP=1
if grep -q tsc_deadline_timer /proc/cpuinfo; then
	skip "timer: a guest in TSC-deadline mode" "the host has that, too"
else
	VM_CPU=host,+tsc-deadline vm_start deadline hpkvm,cpus=2 forever
	ok "timer: the guest boots" vm_wait_for deadline $BOOT 'guest: start'
	ok "timer: in TSC-deadline mode it is intercepted" \
		timer_is deadline intercepted no-deadline
	ok "timer: QEMU says once what that costs" said_once deadline \
		'a timer in TSC-deadline mode exits when it is armed'
	vm_kill deadline
fi
VM_CPU=host,-tsc-deadline vm_start rate \
	hpkvm,cpus=2,apic-bus-frequency=500000000 forever
ok "timer: the guest boots at another rate" \
	vm_wait_for rate $BOOT 'guest: start'
ok "timer: at another rate it is emulated" timer_is rate emulated rate
ok "timer: QEMU says once that it is" said_once rate \
	'timers that count are emulated'
vm_kill rate
VM_SMP=

# A core that is taken is asked for until it is free.
VM_ARGS=
VM_SMP=1 vm_start holder hpkvm,cpus=2,fallback=off forever
ok "wait: the holder's vCPU is in passthrough" vm_dedicated holder 1
VM_SMP=1 vm_start waiter hpkvm,cpus=2 forever
ok "wait: the guest boots without" vm_wait_for waiter $BOOT 'guest: start'
ok "wait: query-hpkvm says for what" vm_says waiter '"reason": "cpu-leased"'
vm_kill holder
ok "wait: it gets the core when that is free" vm_dedicated waiter 1
ok "wait: QEMU says so once" \
	[ "$(grep -c '1 of 1 vCPUs own a core' $VM_DIR/waiter/log)" -eq 1 ]
ok "wait: the guest moves on" vm_moves_on waiter 60

# The same VM by another QEMU, live, where a third one has the core: without it
# the guest has to wait.
VM_SMP=1 vm_start holder hpkvm,cpus=3,fallback=off forever
ok "moved: the holder's vCPU is in passthrough" vm_dedicated holder 1
VM_ARGS='-incoming unix:/tmp/moved'
VM_SMP=1 vm_start heir hpkvm,cpus=3,fallback=off forever
VM_ARGS=
# It listens when it answers.
vm_ask heir '{"execute":"query-status"}' | notes
ok "moved: the migration starts" vm_ask waiter '{"execute":"migrate",
	"arguments":{"uri":"unix:/tmp/moved"}}'
ok "moved: it ends" vm_status waiter postmigrate 120
ok "moved: the new QEMU lives, and waits" vm_says heir \
	'"reason": "cpu-leased"'
ok "moved: and says so" grep 'those without wait for it' $VM_DIR/heir/log
vm_kill waiter
vm_kill holder
ok "moved: it has the core when that is free" vm_dedicated heir 1
ok "moved: the guest moves on" vm_moves_on heir 60
vm_kill heir

# A vCPU that is plugged takes the core that is left, and gives it back.
VM_ARGS=
VM_SMP=1,maxcpus=2 vm_start plug hpkvm,cpus=2-3 forever
ok "plug: the guest boots" vm_wait_for plug $BOOT 'guest: start'
vm_plug_vcpu plug 1 | notes
ok "plug: it owns CPU 3" vm_says plug '"host-cpu": 3'
ok "plug: the guest moves on" vm_moves_on plug 60
vm_ask plug '{"execute":"device_del","arguments":{"id":"new"}}' | notes
sleep 5
ok "plug: it left" not vm_says plug '"cpu-index": 1'
ok "plug: CPU 3 serves the host again" "$FILES/core-check" 3
vm_kill plug

for _log in "$VM_DIR"/*/log; do
	sed "s|^|# ${_log%/log}: |" "$_log"
done
