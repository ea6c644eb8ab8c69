# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the emulated host: hostile guests on dedicated cores, one after
# the other, each with a generic guest beside it.  While one is at it the host
# and the neighbour must keep answering; then it must die of SIGKILL, and its
# cores serve the host, and the next guest, as if nothing had been.  Those with
# "device" in their names have an edu device of the host's, 0000:00:10.0.
#
#   SCENARIOS  words NAME[:vCPUs[:vector]]    (all)
#   WATCH      seconds that each is watched   (3)
#   GAP_US     see below                      (1000000)
#   NO_DEVICE  why there is no edu device     (there is one)

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/vfio.sh

WATCH=${WATCH:-3}
SCENARIOS=${SCENARIOS:-irq-off no-eoi tpr-15 timer-1 timer-1:1:32
	timer-1-taken self-ipis hlt-off vectors lvts msrs apic-modes tsc
	icrs:2 icr-storms:2 init-self triple-fault mwait svm vmx
	device-vectors device-storm:2:239 device-storm:2:254}
DEVICE=0000:00:10.0
VM_KERNEL=$FILES/abuse.elf
BOOT=60
END=180

# Bounds.  A gap may be this many times the longest one with a guest that only
# spins, plus so many microseconds for a machine that is busy itself.
GAP_FACTOR=10
GAP_US=${GAP_US:-1000000}
KILL_SECONDS=5
LOG_LINES=20

# The longest gap of a kind of watch (tick, call), in microseconds.
longest() {	# kind, file
	awk -v kind="$1" '$1 == kind && $4 > max { max = $4 } END { print max + 0 }' "$2"
}

# Watch the host, into a file; fails if a CPU does not answer.
watch_host() {	# cores, file
	"$FILES/host-ticker" "$WATCH" 0,1 "$1" >"$2"
}

# The gap was within the bound.
bounded() {	# kind, file
	_limit=$(($(longest "$1" /tmp/calm) * GAP_FACTOR + GAP_US))
	_got=$(longest "$1" "$2")
	echo "$1: longest gap $_got us, bound $_limit us"
	[ "$_got" -gt 0 ] && [ "$_got" -le $_limit ]
}

# Every CPU answers, in time.  The emulated host may itself be kept from running
# for longer than that: what the guest does to it, it does again.
answers() {	# cores
	for _try in 1 2; do
		watch_host "$1" /tmp/watched
		_status=$?
		cat /tmp/watched
		bounded tick /tmp/watched && bounded call /tmp/watched &&
			[ $_status -eq 0 ] && return
	done
	return 1
}

# Lines of the neighbour that came while the culprit was at it, and their
# longest gap in units of 2^20 cycles.
neighbour_alive() {	# lines before
	vm_wait_for neighbour "$BOOT" '^neighbour gap' $(($1 + 1)) || return
	vm_console neighbour |
		awk -v before="$1" '/^neighbour gap/ && ++n > before && $3 > max { max = $3 }
		     END { print n - before " times, longest gap " max + 0 }'
}

log_bounded() {
	dmesg -c >/tmp/log
	echo "$(wc -l </tmp/log) new lines in the kernel's log"
	[ "$(wc -l </tmp/log)" -le $LOG_LINES ] || ! head -n 40 /tmp/log
}

dies() {	# name
	kill -s KILL "$(vm_pid "$1")"
	vm_wait_end "$1" $KILL_SECONDS
}

# A busy machine takes time away from the emulated CPUs, and a check may miss
# it.  A core that has lost its timer or an IPI fails every time.
serves() {	# core
	for _try in 1 2 3; do
		"$FILES/core-check" "$1" && return
	done
	return 1
}

# What the guest printed about its MSRs.  Writes of those that the guest reaches
# without an exit are checked by the processor instead of KVM, and not at all
# by the emulated one: TPR, EOI, TMICT, TDCR, SELF_IPI.
results() {
	vm_console culprit |
		sed -En 's/^(msr 8(08|0b|38|3e|3f)) faults ../\1/; /^msr/p'
}

same_results() {
	results >/tmp/results
	[ -s /tmp/results ] && diff /tmp/kvm-results /tmp/results
}

# Each vector that means something to the host came to the guest, once.
vectors_arrived() {
	vm_console culprit | awk '
		/^vector .* arrived 1$/ { n++ }
		/^vector .* arrived/ && !/ 1$/
		END { print n + 0 " arrived once"; exit n != 27 }'
}

# So did that of the device's MSI; those below 16 are of no concern to the host.
device_vectors_arrived() {
	vm_console culprit | awk '
		/^vector / && $2 >= 16 { n++; bad += $4 != 1 }
		END { print n + 0 " vectors, " bad + 0 " not once"
		      exit bad || n != 230 }'
}

# The device interrupts as fast as it can, and the guest takes it; straight to
# its core if @how is direct.
storms() {	# how
	vm_wait_for culprit $BOOT '^storm [1-9]' 2 || return
	tail -n 1 $VM_DIR/culprit/serial
	vm_ask culprit '{"execute":"query-hpkvm"}' >/tmp/query
	cat /tmp/query
	grep -q "\"mode\": \"$1\"" /tmp/query
}

# Host mode has captured no more than its own doings explain.
captures_bounded() {
	_captured=$(grep -o '"captured": [0-9]*' /tmp/query |
		awk '{ sum += $2 } END { print sum + 0 }')
	echo "$_captured captured"
	[ "$_captured" -le "$1" ]
}

# It has not ended, nor come upon something that it did not mean to do.
at_it() {
	vm_alive culprit && ! grep -a 'Bail out' $VM_DIR/culprit/serial &&
		return
	tail -n 5 $VM_DIR/culprit/serial $VM_DIR/culprit/log
	return 1
}

# What only this scenario can tell.
verdict() {	# what, scenario
	case $1 in
	msrs|vectors|device-vectors)
		ok "$2: it comes to its end" \
			vm_wait_for culprit $END "^abuse: $1 done" ;;
	esac
	case $1 in
	msrs)
		ok "$2: every access ends as under stock KVM" same_results ;;
	vectors)
		ok "$2: every vector arrived once" vectors_arrived ;;
	device-vectors)
		ok "$2: every vector that there is arrived once" \
			device_vectors_arrived ;;
	svm|vmx)
		if grep -qw "$1" /proc/cpuinfo; then
			ok "$2: it is demoted for guests of its own" \
				vm_says culprit '"demotions": [1-9]'
		fi ;;
	device-storm)
		_how=direct _most=0
		[ "${2##*:}" -lt 240 ] || _how=remapped _most=10000
		ok "$2: it storms, and its interrupts are $_how" storms $_how
		ok "$2: at most $_most were captured" captures_bounded $_most ;;
	irq-off|no-eoi|tpr-15|timer-1*|self-ipis|hlt-off|icr-storms|spin)
		ok "$2: it is in passthrough" vm_dedicated culprit "$VM_SMP" ;;
	esac
}

abuse() {	# NAME[:vCPUs[:vector]]
	case ${NO_DEVICE:+$1} in
	device-*)
		skip "$1" "$NO_DEVICE"
		return ;;
	esac
	IFS=: read -r _what _cpus _vector <<-END
	$1
	END
	VM_SMP=${_cpus:-1}
	_cores=$(seq -s , 2 $((VM_SMP + 1)))
	VM_ARGS=
	case $_what in
	device-*) VM_ARGS="-device vfio-hp-pci,host=$DEVICE,addr=0x10" ;;
	esac
	dmesg -c >/dev/null
	vm_start culprit "hpkvm,cpus=2-$((VM_SMP + 1))" "do=$_what" \
		"vector=${_vector:-254}"
	ok "$1: the guest begins" \
		vm_wait_for culprit $BOOT "^abuse: $_what starts"
	_before=$(vm_count neighbour '^neighbour gap')
	ok "$1: every CPU of the host answers in time" answers $_cores
	ok "$1: the generic guest keeps running" neighbour_alive "$_before"
	verdict "$_what" "$1"
	ok "$1: the guest is still at it" at_it
	ok "$1: SIGKILL ends it" dies culprit
	wait "$(vm_pid culprit)" 2>/dev/null
	for _core in $(echo $_cores | tr , ' '); do
		ok "$1: core $_core serves the host afterwards" serves "$_core"
	done
	ok "$1: the kernel's log is bounded" log_bounded
}

[ -n "$NO_DEVICE" ] || ok "VFIO takes the device" vfio_take $DEVICE

# The answers of stock KVM.
VM_SMP=1
vm_start culprit kvm do=msrs
ok "the register accesses come to their end under stock KVM" \
	vm_wait_for culprit $BOOT '^abuse: msrs done'
results >/tmp/kvm-results
vm_kill culprit

vm_start neighbour kvm do=neighbour
ok "the generic guest runs" vm_wait_for neighbour $BOOT '^neighbour gap' 2

# What is normal: a guest on a dedicated core that only spins.
vm_start culprit hpkvm,cpus=2 do=spin
ok "a harmless guest runs" vm_wait_for culprit $BOOT '^abuse: spin starts'
ok "it is in passthrough" vm_dedicated culprit 1
ok "every CPU of the host answers it" watch_host 2 /tmp/calm
notes </tmp/calm
ok "SIGKILL ends it" dies culprit

for scenario in $SCENARIOS; do
	abuse "$scenario"
done

# Nothing of a guest's has stayed in a local APIC.
VM_SMP=2 VM_ARGS=
vm_start last hpkvm,cpus=2-3 do=icr-storms
ok "the cores can be leased as before" vm_dedicated last 2
vm_kill last

# What an MSI must look like to go straight to a core.
message() {	# title, reason, parameters
	_title=$1 _reason=$2
	shift 2
	if [ -n "$NO_DEVICE" ]; then
		skip "$_title" "$NO_DEVICE"
		return
	fi
	VM_SMP=2 VM_ARGS="-device vfio-hp-pci,host=$DEVICE,addr=0x10,id=edu"
	vm_start culprit hpkvm,cpus=2-3 do=device-message "$@"
	ok "$_title: the guest begins" \
		vm_wait_for culprit $BOOT '^abuse: device-message starts'
	ok "$_title: not direct, because: $_reason" reason culprit "$_reason"
	vm_kill culprit
}

remapped() {	# name, reason
	vm_says "$1" '"mode": "remapped"' | grep "\"reason\": \"$2\""
}

reason() { within 60 remapped "$@" || { vm_says "$1" .; return 1; }; }

message "vector 5" vector vector=5
message "vector 15" vector vector=15
message "the host's vector" vector vector=245
message "an SMI" delivery-mode mode=2
message "an NMI" delivery-mode mode=4
message "INIT" delivery-mode mode=5
message "everybody" targets vector=64 dest=255
message "nobody" targets vector=64 dest=77
