# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host that was booted without nohz_full= and
# rcu_nocbs=: a core is as quiet as those would make it while a guest has it, and
# an ordinary one before and afterwards.  RCU, timekeeping, accounting and timers
# of CPU time are right meanwhile.
#
#   SECONDS_QUIET  that a guest is watched                   (10)
#   CYCLES         times that guests take cores and give them back  (5)
#   LEASES         the same without a guest, fast            (50)
#   KICKS          see below                                  (6)
#   CLOCK          seconds to wait for KVM's clock work: it comes after 300, or 0
#                  for not at all                             (0)
#   PARTS          words: spin, limit, exits, maps, noise     (all); also
#                  faults (debug kernel) and table: figures, of which stock KVM's
#                  are to be taken on a host that was booted isolated

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/interrupts.sh

SECONDS_QUIET=${SECONDS_QUIET:-10}
CYCLES=${CYCLES:-5}
LEASES=${LEASES:-50}
CLOCK=${CLOCK:-0}
PARTS=${PARTS:-spin limit exits maps noise}
# NMIs per vCPU and minute.  The emulated host boots with the tick of every CPU,
# 15,000 a minute; with the boot parameters there is none.
KICKS=${KICKS:-6}
# A grace period and all callbacks, in ms, on a slow machine.
SOON=5000
VM_KERNEL=$FILES/quiet.elf
VM_CPU=host
TRACING=/sys/kernel/tracing
CORES='2 3'

isolation() { "$FILES/isolation" "$@"; }

kicks() {	# name
	vm_ask "$1" '{"execute":"query-hpkvm"}' | grep -o '"kicks": [0-9]*' |
		awk '{ sum += $2 } END { print sum + 0 }'
}

trace_start() { # event
	echo c >$TRACING/tracing_cpumask
	echo >$TRACING/trace
	echo 1 >"$TRACING/events/$1/enable"
}

# What came to the cores meanwhile, into /tmp/trace.
trace_stop() { # event
	echo 0 >"$TRACING/events/$1/enable"
	grep -v '^#' $TRACING/trace >/tmp/trace
}

# Not more than KICKS for each vCPU and minute, and one more for the start.
is_quiet() {	# name, instead of KICKS
	echo "$ALL_CPUS" >$TRACING/tracing_cpumask
	echo >$TRACING/trace
	_kicks=$(kicks "$1")
	sleep "$SECONDS_QUIET"
	_kicks=$(($(kicks "$1") - _kicks))
	grep dedicated_cpu_work $TRACING/trace >/tmp/trace
	_bound=$((2 * (${2:-$KICKS} * SECONDS_QUIET / 60 + 1)))
	echo "$_kicks NMIs to 2 cores in $SECONDS_QUIET s, bound $_bound"
	[ $_kicks = 0 ] && return
	sed -n '1,5p' /tmp/trace
	tail -n 5 /tmp/trace
	sed 's/.*vector=//' /tmp/trace | sort | uniq -c
	# Who asked for it.
	grep -E '(csd_queue_cpu|ipi_send_cpu).* cpu=[23] ' $TRACING/trace |
		tail -n 8
	[ $_kicks -le $_bound ]
}

on_core() { grep " \[00$1\] " /tmp/trace; }	# core

# The same, with the vCPU's thread there; the trace may not know its name.
on_core_as_vcpu() {	# name, core
	on_core "$2" | grep -- "-$(vm_vcpu_tid "$1" $(($2 - 2))) "
}

# The tick of the core ended.
tick_stopped() {	# name, core
	on_core_as_vcpu "$1" "$2" | grep -m 1 'success=1' && return
	on_core "$2" | tail -n 5
	return 1
}

callbacks_kept_tick() {	# name, core
	on_core_as_vcpu "$1" "$2" | grep -m 1 'success=0 dependency=RCU$'
}

begin() {	# name, argument of the guest...
	_name=$1
	shift
	vm_start "$_name" hpkvm,cpus=2-3 "$@"
	ok "$_name: the guest starts" vm_wait_for "$_name" 90 'quiet: start'
	ok "$_name: its vCPUs are in passthrough" vm_dedicated "$_name" 2
}

soon() {	# command...
	_took=$("$@") || return 1
	echo "the slowest took $_took ms"
	[ "$_took" -le $SOON ]
}

# No NMI comes of it, but for one or two that would have come anyway.
cost_nothing() {	# what isolation does, how often
	_kicks=$(kicks spin)
	isolation "$1" "$2" >/dev/null || return 1
	_kicks=$(($(kicks spin) - _kicks))
	echo "$_kicks NMIs to 2 cores"
	[ $_kicks -le 4 ]
}

serves() {	# core
	for _try in 1 2 3; do
		"$FILES/core-check" "$1" && return
	done
	return 1
}

# Without any guest there is nothing of it.
is_ordinary() {	# core
	_loc=$(interrupts LOC "$1")
	taskset "$(printf %x $((1 << $1)))" "$FILES/isolation" spin 2 >/dev/null
	_loc=$(($(interrupts LOC "$1") - _loc))
	echo "$_loc timer interrupts in 2 s of work"
	[ $_loc -ge 100 ]
}

# ---- What QEMU says of it

# Of each vCPU; in ns if it is a time.
field() {	# name, field
	vm_ask "$1" '{"execute":"query-hpkvm"}' | grep -o "\"$2\": [0-9]*" |
		cut -d' ' -f2
}

both() {	# field, operator, number
	_values=$(field spin "$1")
	# shellcheck disable=SC2086  # two numbers
	set -- "$@" $_values
	echo "$1: $4 $5"
	[ $# = 5 ] && [ "$4" "$2" "$3" ] && [ "$5" "$2" "$3" ]
}

# This has a worker of every CPU do something.
disturbed() {
	echo 1 >/proc/sys/vm/stat_refresh
	both age -lt 5000000000 && both last-minute -ge 1
	_status=$?
	vm_ask spin '{"execute":"human-monitor-command",
		"arguments":{"command-line":"info hpkvm"}}' |
		grep -o 'no tick for[^\\]*'
	return $_status
}

# The user guide's advice, with somebody to be found.
somebody_traced() {
	grep -m 1 'next_comm=kworker/2' /tmp/pipe &&
		grep -m 1 'dedicated_cpu_work: vector=0xf[bcd] [cr]' /tmp/pipe
}

traced() {
	cd $TRACING || return 1
	echo 4 >tracing_cpumask
	echo 1 >events/dedicated_cpu/enable
	echo 1 >events/sched/sched_switch/enable
	cat trace_pipe >/tmp/pipe &
	_pipe=$!
	echo 1 >/proc/sys/vm/stat_refresh
	within 20 somebody_traced
	_status=$?
	kill $_pipe
	echo 0 >events/sched/sched_switch/enable
	cd / || return 1
	[ $_status = 0 ] || tail -n 5 /tmp/pipe
	return $_status
}

found() {
	taskset 4 "$FILES/isolation" spin 4 >/dev/null &
	_pid=$!
	grep -l '^Cpus_allowed_list:.2$' /proc/[0-9]*/task/*/status >/tmp/bound
	wait $_pid
	grep "/$_pid/" /tmp/bound
}

# That the guide's switches are there.
switches() {
	grep -H . /sys/module/kvm/parameters/kvmclock_periodic_sync \
		/sys/module/kvm/parameters/nx_huge_pages
}

# ---- Somebody has to run on a core

shares_core() {	# core
	_got=$(taskset "$(printf %x $((1 << $1)))" "$FILES/isolation" spin 4)
	echo "$_got ms of 4000"
	[ "$_got" -ge 1000 ] && [ "$_got" -le 3000 ]
}

# ---- Time

# Fields of a thread's /proc/.../stat, behind its name: user, system and guest
# time, in ticks of USER_HZ.
thread_times() {	# name, vCPU
	sed 's/.*) //' "/proc/$(vm_pid "$1")/task/$(vm_vcpu_tid "$1" "$2")/stat" |
		cut -d' ' -f12,13,41
}

cpu_times() { sed -n "s/^cpu$1 //p" /proc/stat; }	# core

uptime_ms() { awk '{ print int($1 * 1000) }' /proc/uptime; }

# What both say has passed since, in hundredths of a second, beside the wall.
account() {	# name, vCPU, core
	_t0=$(thread_times "$1" "$2") _c0=$(cpu_times "$3") _w0=$(uptime_ms)
	sleep "$SECONDS_QUIET"
	_t1=$(thread_times "$1" "$2") _c1=$(cpu_times "$3") _w1=$(uptime_ms)
	echo "$_t0 $_t1 $(((_w1 - _w0) / 10)) $_c0 $_c1" >/tmp/account
}

# Within 2 %, and two ticks for when they are read.
near() {	# what, its time, wall clock
	echo "$1: $2 of $3 hundredths"
	_d=$(($2 - $3))
	[ ${_d#-} -le $(($3 / 50 + 4)) ]
}

thread_account() {
	read -r _u0 _s0 _g0 _u1 _s1 _g1 _wall _rest </tmp/account
	echo "user $((_u1 - _u0)), system $((_s1 - _s0)), guest $((_g1 - _g0))"
	near "user and system time" $((_u1 + _s1 - _u0 - _s0)) "$_wall"
}

# User (and so guest) time is all of it; guest time alone says the same.
guest_account() {
	thread_account &&
		near "guest time" $((_g1 - _g0)) "$_wall" &&
		near "user time" $((_u1 - _u0)) "$_wall"
}

# user nice system idle iowait irq softirq steal guest guest_nice
core_account() {
	_sum=$(cut -d' ' -f8- /tmp/account | awk '{
		for (i = 1; i <= 10; i++) d[i] = $(i + 10) - $i
		print d[1] + d[2] + d[3] + d[6] + d[7], d[9], d[4] + d[5] }')
	read -r _u0 _s0 _g0 _u1 _s1 _g1 _wall _rest </tmp/account
	# shellcheck disable=SC2086  # three numbers
	set -- $_sum
	echo "busy $1, of it guest $2, idle $3"
	near "busy time" "$1" "$_wall" && near "idle time" "$3" 0
}

# RLIMIT_CPU is looked at by the tick.  Two vCPUs use it up twice as fast.
limited() {	# name
	isolation limit "$(vm_pid "$1")" 6
	vm_wait_end "$1" 15
}

# Who ran on a core beside its vCPU, and could have run elsewhere.
intruders() {	# core
	on_core "$1" | sed -n 's/.*next_comm=\(.*\) next_pid.*/\1/p' |
		grep -v 'CPU [0-9]*\/KVM\|swapper\|/'"$1"'\|^migration' |
		sort | uniq -c
}

undisturbed() {	# core
	intruders "$1" >/tmp/intruders
	cat /tmp/intruders
	[ ! -s /tmp/intruders ]
}

# Not by the function, whose subshell is what would be killed.
in_a_storm() {	# command...
	"$FILES/isolation" storm 3600 &
	_storm=$!
	"$@"
	_status=$?
	kill $_storm
	wait $_storm 2>/dev/null
	return $_status
}

guests_come_and_go() {
	for _n in $(seq "$CYCLES"); do
		vm_kill noise
		vm_start noise hpkvm,cpus=2-3
		vm_wait_for noise 90 'quiet: start' &&
			vm_dedicated noise 2 || return
	done
}

# A second after a guest has enabled its local APIC KVM changes its own code
# (apic_sw_disabled), which each CPU has to know.
cycle() { in_a_storm guests_come_and_go && sleep 3; }

# It goes round six CPUs in three seconds.
watchdog_visits() {
	trace_start timer/timer_expire_entry
	sleep 6
	trace_stop timer/timer_expire_entry
	grep -m 1 clocksource_watchdog /tmp/trace
}

# What a lease changes, and its end puts back.  Workers come and go.
host_state() {
	for _irq in /proc/irq/[0-9]*; do
		echo "irq ${_irq##*/} $(cat "$_irq/smp_affinity_list") on" \
			"$(cat "$_irq/effective_affinity_list")"
	done
	grep -E '^(Per CPU device|Clock Event Device)| event_handler' \
		/proc/timer_list
	grep -H . /proc/sys/kernel/watchdog_cpumask 2>/dev/null
	# One after the other: a task may end meanwhile.
	cat /proc/[0-9]*/status 2>/dev/null | awk '/^Name:/ { name = $2 }
		/^Cpus_allowed_list:/ { print name, $2 }' |
		grep -Ev '^(kworker|awk|cat|grep|sort)' | sort -u
}

same_as_before() {
	host_state >/tmp/after
	diff /tmp/before /tmp/after
}

cores_are_ordinary() {	# when
	for core in $CORES; do
		ok "core $core has a tick $1" is_ordinary $core
		ok "core $core serves the host $1" serves $core
	done
}

# ---- The parts

part_spin() {
	trace_start timer/tick_stop
	begin spin
	sleep 2
	trace_stop timer/tick_stop
	for core in $CORES; do
		ok "spin: the tick of core $core stops" tick_stopped spin $core
	done
	ok "spin: its cores are quiet" is_quiet spin
	ok "spin: QEMU says that they have no tick" \
		both tick-stopped -ge 1000000000
	ok "spin: QEMU says that nobody disturbs them" both age -ge 5000000000
	ok "spin: QEMU says when somebody does" disturbed
	ok "spin: the tracepoints say who" traced
	ok "spin: who is bound to a core is found" found
	ok "spin: the switches that the guide names are there" switches
	ok "spin: grace periods end" soon isolation grace-periods 20
	ok "spin: they ask nothing of its cores" cost_nothing grace-periods 50
	ok "spin: callbacks of RCU are run" soon isolation barriers 5
	account spin 0 2
	ok "spin: the time of its thread is right" guest_account
	ok "spin: the time of its core is right" core_account
	for core in $CORES; do
		ok "spin: a task that is bound to core $core gets its share" \
			shares_core $core
		ok "spin: core $core serves the host" serves $core
	done
	ok "spin: its vCPUs are in passthrough still" vm_dedicated spin 2
	ok "spin: its cores are quiet again" is_quiet spin
	[ "$CLOCK" = 0 ] ||
		ok "spin: KVM's clock work leaves them alone" clock_is_quiet
	ok "spin: a limit of processor time ends it" limited spin
	vm_kill spin
}

# It is there before the guest, as a fork passes it on.
part_limit() {
	ulimit -S -t 25
	begin limit
	ulimit -S -t unlimited
	ok "limit: one that was there before ends it" vm_wait_end limit 40
	vm_kill limit
}

# The guest's clock is the host's TSC: nothing about it is to be told.
clock_is_quiet() {
	trace_start workqueue/workqueue_execute_start
	echo "$ALL_CPUS" >$TRACING/tracing_cpumask
	sleep "$CLOCK"
	trace_stop workqueue/workqueue_execute_start
	grep -m 1 'function kvmclock_sync_fn' /tmp/trace &&
		! grep -m 1 'function kvmclock_update_fn' /tmp/trace
}

# A guest that comes back to QEMU 50 times a second.  What is left comes of QEMU's
# lock, for which a vCPU sleeps now and then; then one that does so all the time.
part_exits() {
	begin exits exits=20000000
	sleep 2
	ok "exits: its cores are quiet" is_quiet exits 60
	account exits 0 2
	ok "exits: the time of its thread is right" thread_account
	ok "exits: the time of its core is right" core_account
	vm_kill exits
	begin more-exits exits=100000
	account more-exits 0 2
	ok "more-exits: the time of its thread is right" thread_account
	ok "more-exits: the time of its core is right" core_account
	vm_kill more-exits
}

# One whose exits leave callbacks behind.
part_maps() {
	begin maps maps=3000000000
	sleep 2
	trace_start timer/tick_stop
	sleep 10
	trace_stop timer/tick_stop
	for core in $CORES; do
		ok "maps: callbacks bring the tick of core $core back" \
			callbacks_kept_tick maps $core
		ok "maps: then it stops again" tick_stopped maps $core
	done
	vm_kill maps
}

# A host that does everything at once, and wants the cores.
part_noise() {
	begin noise
	trace_start sched/sched_switch
	isolation storm "$SECONDS_QUIET"
	trace_stop sched/sched_switch
	for core in $CORES; do
		ok "noise: nobody but the guest runs on core $core" \
			undisturbed $core
	done
	ok "noise: grace periods end" soon isolation grace-periods 20
	ok "noise: its cores are quiet" is_quiet noise
	ok "$CYCLES times: the cores are taken and given back" cycle
	ok "noise: its cores are quiet after that" is_quiet noise
	vm_kill noise
	# shellcheck disable=SC2086  # words
	ok "noise: $LEASES times: they are leased and released" \
		in_a_storm "$FILES/lease" cycles "$LEASES" $CORES
}

# The debug kernel can have a lease fail in each of its steps.
FAIL=/sys/kernel/debug/kvm_hpkvm/fail_lease

fails_in_step() {	# step, what is said of it
	echo "$1" >$FAIL
	"$FILES/lease" cycles 1 2 >/tmp/lease
	cat /tmp/lease
	grep -q "^cpu=2 $2 " /tmp/lease && [ "$(cat $FAIL)" = 0 ]
}

part_faults() {
	ok "faults: no memory for the remote tick" fails_in_step 1 errno=12
	ok "faults: the thread can't move to the core" fails_in_step 2 errno=22
	ok "faults: no vectors elsewhere" fails_in_step 3 'errno=28 reason=28'
	ok "faults: the local APIC is not cleared" fails_in_step 4 errno=5
	ok "faults: nothing is left of that" same_as_before
	ok "faults: the core is leased" "$FILES/lease" cycles 1 2
}

# ---- The table of README.md

exits() {	# name
	vm_ask "$1" '{"execute":"query-stats","arguments":{"target":"vcpu",
		"providers":[{"provider":"kvm","names":["exits"]}]}}' |
		grep -o '"value": [0-9]*' | awk '{ sum += $2 } END { print sum }'
}

# Of two vCPUs, in SECONDS_QUIET: NMIs per core-minute, exits per vCPU-second.
row() {	# name
	_kicks=$(kicks "$1") _exits=$(exits "$1")
	sleep "$SECONDS_QUIET"
	_kicks=$(($(kicks "$1") - _kicks)) _exits=$(($(exits "$1") - _exits))
	echo "$1: $_kicks NMIs, $_exits exits" | awk -v s="$SECONDS_QUIET" \
		'{ print $0 ": " $2 * 30 / s ", " $4 / 2 / s }'
}

part_table() {
	for accel in kvm hpkvm,cpus=2-3; do
		vm_start "${accel%,*}-spins" $accel
		vm_wait_for "${accel%,*}-spins" 90 'quiet: start'
		for vcpu in 0 1; do
			taskset -p $((4 << vcpu)) \
				"$(vm_vcpu_tid "${accel%,*}-spins" $vcpu)"
		done
		sleep 5
		row "${accel%,*}-spins" | notes
		vm_kill "${accel%,*}-spins"
	done
}

ok "no boot parameter isolates CPUs" \
	not grep -E 'nohz_full=[0-9]|rcu_nocbs=[0-9]|isolcpus=' /proc/cmdline
ALL_CPUS=$(cat $TRACING/tracing_cpumask)
# For good: to turn one on or off disturbs every core.
for event in dedicated_cpu csd/csd_queue_cpu ipi/ipi_send_cpu; do
	echo 1 >$TRACING/events/$event/enable
done
if grep -q tsc=watchdog /proc/cmdline; then
	ok "the clocksource watchdog visits the cores" watchdog_visits
fi
cores_are_ordinary "at first"
host_state >/tmp/before
for part in $PARTS; do
	"part_$part"
	cores_are_ordinary "after $part"
done
ok "the host's interrupts, clocks and tasks are as before" same_as_before
notes </tmp/before
