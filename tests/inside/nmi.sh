# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host with --pmu: the host's own NMIs (backtraces,
# profiling, watchdogs) on leased cores, beside those that reach them for us.
# They do their work, and the guest goes on in passthrough afterwards.  NMIs of
# nobody and a panic, after which a host is no use, are in nmi-panic.

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/interrupts.sh

ACCEL=hpkvm,cpus=2-3
BACKTRACES=8
PERF_SECONDS=4
# The soft-lockup timer comes every 2 s then, and complains after 10.
WATCHDOG_THRESH=5

guest_unharmed() {	# by what
	ok "the guest makes progress after $1" vm_moves_on nmi
	ok "its vCPUs are in passthrough after $1" vm_dedicated nmi 2
}

# SysRq-l, BACKTRACES times: a core that is idle is named, but has no stack.
backtraces() {
	_round=0
	while [ $_round -lt $BACKTRACES ]; do
		_round=$((_round + 1))
		dmesg -c >/dev/null
		echo l >/proc/sysrq-trigger
		sleep 0.5
		dmesg >>/tmp/backtraces
	done
}

# The lines between the heading of CPU $1 and the next one.
stack_of() {
	sed -n "/NMI backtrace for cpu $1\$/,/NMI backtrace for cpu [^$1]/p" \
		/tmp/backtraces
}

names_cpu() { grep -q "NMI backtrace for cpu $1\b" /tmp/backtraces; }

stack_shows() {	# CPU, function
	stack_of "$1" >/tmp/stack
	grep -q "$2" /tmp/stack && return
	head -n 40 /tmp/stack
	return 1
}

# perf-nmi prints "NAME samples=N guest=N", or "NAME unavailable: why".
perf_on() {	# CPU, event
	"$FILES/perf-nmi" "$1" "$2" $PERF_SECONDS
}

sampled() {	# CPU, event, least number of samples
	perf_on "$1" "$2" | tee /tmp/perf
	_samples=$(sed -n 's/.*samples=\([0-9]*\).*/\1/p' /tmp/perf)
	[ "${_samples:-0}" -ge "$3" ]
}

cpu_mhz() { sed -n "s/^cpu MHz.*: \([0-9]*\).*/\1/p; T; q" /proc/cpuinfo; }

# The counter's NMI comes after $WATCHDOG_THRESH s of the clock that Linux took
# the CPU for; the emulator has one cycle a nanosecond.  Time for one and some
# timers of the soft-lockup watchdog.
WATCHDOG_SECONDS=$((WATCHDOG_THRESH * $(cpu_mhz) / 800 + 4))

watched() {	# CPU
	_due=$((WATCHDOG_SECONDS * 1000 / (WATCHDOG_THRESH * $(cpu_mhz))))
	_pmis=$(($(interrupts PMI "$1") - $(cat /tmp/pmi.$1)))
	echo "$_pmis interrupts of its counter, $_due due"
	[ $_due -ge 1 ] && [ $_pmis -ge $_due ] && [ $_pmis -le $((_due + 2)) ]
}

watch() {
	for cpu in 1 2 3; do
		interrupts PMI $cpu >/tmp/pmi.$cpu
	done
	sleep $WATCHDOG_SECONDS
}

vm_start nmi "$ACCEL" forever
ok "the guest boots" vm_wait_for nmi 90 'guest: start'
ok "its vCPUs are in passthrough" vm_dedicated nmi 2

backtraces
for cpu in 2 3; do
	ok "SysRq-l reaches leased core $cpu" names_cpu $cpu
	ok "SysRq-l shows the host's stack of core $cpu" \
		stack_shows $cpu kvm_vcpu_ioctl
done
guest_unharmed "$BACKTRACES backtraces"

# 100 a second are asked for; a busy emulator skips some.
for cpu in 2 3; do
	for event in cycles cpu-clock; do
		ok "perf samples core $cpu by $event" \
			sampled $cpu $event $((PERF_SECONDS * 5))
		ok "perf finds core $cpu in its guest by $event" \
			grep -q 'guest=[1-9]' /tmp/perf
	done
done
guest_unharmed "sampling"

ok "the hard-lockup watchdog counts cycles" \
	[ "$(cat /proc/sys/kernel/nmi_watchdog)" -eq 1 ]
echo $WATCHDOG_THRESH >/proc/sys/kernel/watchdog_thresh
echo 0-3 >/proc/sys/kernel/watchdog_cpumask
watch
for cpu in 2 3; do
	ok "the hard-lockup watchdog leaves leased core $cpu alone" \
		[ "$(interrupts PMI $cpu)" -eq "$(cat /tmp/pmi.$cpu)" ]
done
ok "it looks after CPU 1" watched 1
guest_unharmed "$WATCHDOG_SECONDS s of watchdogs"

vm_kill nmi
watch
for cpu in 2 3; do
	ok "the hard-lockup watchdog looks after core $cpu again" watched $cpu
done
ok "no lockup is reported" not sh -c "dmesg | grep -i lockup"
for cpu in 2 3; do
	ok "core $cpu serves the host afterwards" "$FILES/core-check" $cpu
done
