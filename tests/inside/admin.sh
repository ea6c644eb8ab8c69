# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host of 6 CPUs with Debian's kernel configuration: what
# administrators do to a running kernel, while two guests on dedicated cores
# count their interrupts.  Function tracer, kprobes, a live patch, huge pages and
# compaction, NUMA balancing.  Each must do what it does without leased cores,
# and the guests lose nothing.
#
#   SEED  of the guests                                     (1)

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/torture.sh

TRACING=/sys/kernel/tracing
VM_SYS=/proc/sys/vm
THP=/sys/kernel/mm/transparent_hugepage

mountpoint -q $TRACING || mount -t tracefs tracefs $TRACING

# A guest's life goes on as long as the host has something to try.
SEED=$SEED torture_begin left hpkvm,cpus=2-3 2 irqs=20000 until_told=1
SEED=$((SEED + 1)) torture_begin right hpkvm,cpus=4-5 2 irqs=20000 until_told=1

# ---- The function tracer: it patches the entry of every function ----

trace_has() { grep -q "$1" $TRACING/trace; }

set_tracer() {	# name, pattern of functions, or nothing for all
	echo "$2" >$TRACING/set_ftrace_filter && echo "$1" >$TRACING/current_tracer
}

# With a vCPU's own functions; on all functions, for a moment, three times.
ok "trace: the function tracer starts" \
	set_tracer function 'dedicated_* kvm_* svm_* vmx_* hpkvm_*'
ok "trace: it sees the host's work on leased cores" \
	within 60 trace_has '\[00[2-5]\].*dedicated_nmi'
ok "trace: it stops" set_tracer nop ''
trace_all() {
	for _n in 1 2 3; do
		set_tracer "$1" '' && sleep 0.5 && set_tracer nop '' || return 1
	done
}
ok "trace: all functions are traced, and are not, three times" \
	trace_all function
ok "trace: the same with the graph of calls" trace_all function_graph

# ---- kprobes: a breakpoint in KVM, and in an NMI ----

# An exit that reaches C, the host's work on a leased core, and its NMI.
PROBED='svm_handle_exit dedicated_shut_gate dedicated_nmi'
probe() {
	: >$TRACING/kprobe_events
	for _function in $PROBED; do
		echo "p:in_$_function $_function" >>$TRACING/kprobe_events &&
			echo "r:of_$_function $_function" \
				>>$TRACING/kprobe_events || return 1
	done
	echo 1 >$TRACING/events/kprobes/enable
}

unprobe() {
	echo 0 >$TRACING/events/kprobes/enable && : >$TRACING/kprobe_events
}

are_hit() {
	cat $TRACING/kprobe_profile
	awk '{ n++ } $2 < 10 { few++ } END { exit n != 6 || few }' \
		$TRACING/kprobe_profile
}

ok "kprobes: they are set in a vCPU's way" probe
ok "kprobes: they are hit" within 60 are_hit
ok "kprobes: they are taken out" unprobe

# ---- A live patch: each task changes over, a vCPU's that never exits, too ----

PATCH=/sys/kernel/livepatch/livepatch_sample

changed_over() { [ "$(cat $PATCH/transition)" = 0 ]; }
says_patched() { grep -q 'this has been live patched' /proc/cmdline; }
is_gone() { [ ! -e $PATCH ]; }

ok "live patch: it is loaded" insmod "$FILES/livepatch-sample.ko"
ok "live patch: all tasks change over" within 120 changed_over
ok "live patch: it is in use" says_patched
ok "live patch: it is turned off" sh -c "echo 0 >$PATCH/enabled"
ok "live patch: all tasks change back" within 120 is_gone
ok "live patch: it is unloaded" rmmod livepatch_sample

# ---- Memory: huge pages come and go, and pages move ----

huge_kb() {	# VM
	awk '/^AnonHugePages/ { n += $2 } END { print n + 0 }' \
		"/proc/$(vm_pid "$1")/smaps"
}

has_huge() { [ "$(huge_kb "$1")" -gt 0 ] && echo "$(huge_kb "$1") kB"; }
event() { sed -n "s/^$1 //p" /proc/vmstat; }

echo always >$THP/enabled
echo 100 >$THP/khugepaged/scan_sleep_millisecs
echo 100000 >$THP/khugepaged/pages_to_scan
ok "memory: the guests' becomes huge pages" within 120 has_huge left
moved=$(event pgmigrate_success)
compact() {
	for _n in 1 2 3; do
		echo 1 >$VM_SYS/compact_memory || return 1
	done
	echo "$(($(event pgmigrate_success) - moved)) pages have moved"
	[ "$(event pgmigrate_success)" -gt "$moved" ]
}
ok "memory: it is compacted" compact

# ---- NUMA balancing: it takes pages away to see who uses them ----

balances() { [ "$(event numa_pte_updates)" -gt "$before" ]; }
if [ -d /sys/devices/system/node/node1 ]; then
	before=$(event numa_pte_updates)
	echo never >$THP/enabled
	echo 1 >/proc/sys/kernel/numa_balancing
	ok "NUMA: pages of QEMU's are looked at" within 120 balances
	sleep 5
	echo 0 >/proc/sys/kernel/numa_balancing
else
	skip "NUMA: pages of QEMU's are looked at" "the host has one node"
fi

ok "left: its vCPUs are still in passthrough" vm_dedicated left 2
ok "right: its vCPUs are still in passthrough" vm_dedicated right 2
torture_tell left
torture_tell right
torture_end left
torture_end right
for core in 2 3 4 5; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
