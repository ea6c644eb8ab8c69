# SPDX-License-Identifier: GPL-2.0-or-later
#
# Shell functions, for use inside the emulated host, that count VM exits in a
# window which the guest itself marks.  Sourced, never run.
#
# The kernel counts: histogram triggers on KVM's tracepoints, switched on and
# off by the marks of tests/guest/linux/load.h.  So the count is exact, costs
# no exit, and works on an unpatched kernel too.  One event cannot both switch a
# histogram on and off: the begin is a CPUID leaf, the end a hypercall.

EVENTS=/sys/kernel/tracing/events/kvm
WINDOW_BEGIN=0x48504b01
WINDOW_END=0x48504b02

# Event and what to count it by.
_EXIT_COUNTS='kvm_exit:vcpu_id,exit_reason
kvm_msr:ecx,write
kvm_hypercall:nr'

# Of interrupts and of what waits for one to be taken, and HLT; SVM's and VMX's.
INTERRUPT_EXITS='96|100|1|7'
HALT_EXITS='120|12'
# The host's: NMIs, and VMX's preemption timer.
KICK_EXITS='97|0|52'

# exits_arm: start from zero, counting nothing until the next window.
exits_arm() {
	exits_disarm
	for _count in $_EXIT_COUNTS; do
		_event=${_count%%:*}
		echo "hist:keys=${_count#*:}:size=2048:pause" \
			>>$EVENTS/$_event/trigger || return 1
		echo "enable_hist:kvm:$_event if function==$WINDOW_BEGIN" \
			>>$EVENTS/kvm_cpuid/trigger || return 1
		echo "disable_hist:kvm:$_event if nr==$WINDOW_END" \
			>>$EVENTS/kvm_hypercall/trigger || return 1
	done
}

# exits_save DIRECTORY: write the counts there, one file an event.
exits_save() {
	mkdir -p "$1" || return 1
	for _count in $_EXIT_COUNTS; do
		_event=${_count%%:*}
		cat $EVENTS/$_event/hist >"$1/$_event" || return 1
	done
}

# exits_of CODES: how many exits_save found in /tmp/exits for these exit codes,
# which are a pattern such as 96|100.
exits_of() {
	sed -En "s/.*exit_reason: *($1) *[,}].*hitcount: *//p" \
		/tmp/exits/kvm_exit | awk '{ sum += $1 } END { print sum + 0 }'
}

exits_disarm() {
	for _count in $_EXIT_COUNTS; do
		_event=${_count%%:*}
		echo "!enable_hist:kvm:$_event" >>$EVENTS/kvm_cpuid/trigger
		echo "!disable_hist:kvm:$_event" >>$EVENTS/kvm_hypercall/trigger
		echo "!hist:keys=${_count#*:}" >>$EVENTS/$_event/trigger
	done 2>/dev/null
}
