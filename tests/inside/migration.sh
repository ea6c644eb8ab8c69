# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host of 6 CPUs, or 4: a guest that counts its interrupts
# moves, live with its memory first or last, and as a snapshot in a file, between
# dedicated cores and between stock KVM and dedicated cores, is taken back to a
# snapshot of its own, is reset, and gets a third vCPU; it must not notice. And
# what others see of a local APIC is the same whoever drives it.
#
#   IRQS          interrupts that a guest causes at least, of those that need
#                 not be amid something when they move        (10000)
#   VM_DEDICATED  vCPUs of two that must be in passthrough    (2)
#   FEW_CPUS      why there are only 4 CPUs                   (there are 6)

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/torture.sh
. /host/tests/inside/lib/exits.sh
. /host/tests/inside/lib/migrate.sh

VM_DEDICATED=${VM_DEDICATED:-2}
IRQS=${IRQS:-10000}
# Unlike edu it takes its state along.
DEVICES=$TORTURE_HPET

# How many vCPUs of a VM with this accelerator must be in passthrough.
dedicated() {	# accelerator
	case $1 in
	*direct-interrupts=off* | kvm) echo 0 ;;
	*) echo "$VM_DEDICATED" ;;
	esac
}

in_its_mode() {	# name, accelerator
	_mode=$(dedicated "$2")
	[ "$_mode" = 0 ] || ok "$1: its vCPUs are in passthrough" \
		vm_dedicated "$1" "$_mode"
}

# Stock KVM does not save a periodic timer's interrupt that came after the guest
# was stopped; a dedicated core's owner does.
start_torture() {	# name, accelerator, interrupts, moves, pages
	_kept=0
	[ "$(dedicated "$2")" != 0 ] || _kept=1
	VM_ARGS=$DEVICES
	vm_start "$1" "$2" irqs="$3" moves="${4:-1}" kept=$_kept \
		ledger="${5:-256}" until_told=1
	ok "$1: the guest starts" vm_wait_for "$1" 90 '^# CPU 0 at [1-9]'
	in_its_mode "$1" "$2"
}

start_incoming() {	# name, accelerator, from where
	rm -f $SOCKET
	VM_ARGS="$DEVICES -incoming $3"
	vm_start "$1" "$2" irqs=0
	# It has read a file, or listens, when it answers.
	vm_ask "$1" '{"execute":"query-status"}' >/dev/null
}

# Every vCPU of the only VM; stock KVM may leave it at 0.
has_tsc_offset() {
	cat /sys/kernel/debug/kvm/*/vcpu*/tsc-offset
	! grep -qx 0 /sys/kernel/debug/kvm/*/vcpu*/tsc-offset
}

live() {	# accelerator, accelerator, interrupts
	_title="$1 to $2"
	start_torture src "$1" "$3"
	start_incoming dst "$2" unix:$SOCKET
	# Slow enough to see dirty logging at work.
	set_bandwidth src 1000000 >/dev/null
	ok "$_title: the migration starts" migrate src unix:$SOCKET
	ok "$_title: it sends memory" migration_is src active 20
	in_its_mode src "$1"
	sleep 2
	set_bandwidth src 1000000000 >/dev/null
	ok "$_title: the migration ends" migration_is src completed 120
	ok "$_title: the old QEMU ends" quits src
	in_its_mode dst "$2"
	# From a dedicated core on this host it brings the host's own TSC.
	if [ "$(dedicated "$1") $(dedicated "$2")" = "0 $VM_DEDICATED" ]; then
		ok "$_title: the new VM has a TSC offset" has_tsc_offset
	fi
	ok "$_title: nothing lost, doubled or early" verdict dst
	vm_kill dst
}

allow_postcopy() { allow src postcopy-ram && allow dst postcopy-ram; }

# The guest runs on while most of its memory is still where it was: so much of
# it that no machine is too slow to see the guest ask for some.
postcopy() {	# accelerator, accelerator, interrupts
	_title="postcopy, $1 to $2"
	start_torture src "$1" "$3" 1 8192
	start_incoming dst "$2" defer
	ok "$_title: both can do it" allow_postcopy
	vm_ask dst '{"execute":"migrate-incoming","arguments":
		{"uri":"unix:'$SOCKET'"}}' >/dev/null
	set_bandwidth src 1000000 >/dev/null
	ok "$_title: the migration starts" migrate src unix:$SOCKET
	ok "$_title: it sends memory" migration_is src active 20
	ok "$_title: the guest goes first" \
		vm_ask src '{"execute":"migrate-start-postcopy"}'
	ok "$_title: the guest waits for some of it" vm_answers src 60 \
		query-migrate '"postcopy-requests": [1-9]'
	set_bandwidth src 1000000000 >/dev/null
	ok "$_title: the memory follows" migration_is src completed 120
	ok "$_title: the old QEMU ends" quits src
	in_its_mode dst "$2"
	ok "$_title: nothing lost, doubled or early" verdict dst
	vm_kill dst
}

snapshot() {	# accelerator, accelerator, interrupts
	_title="snapshot, $1 to $2"
	start_torture src "$1" "$3"
	vm_ask src '{"execute":"stop"}' >/dev/null
	ok "$_title: is written" migrate src file:/tmp/snapshot
	ok "$_title: is complete" migration_is src completed 60
	ok "$_title: the old QEMU ends" quits src
	sleep 2
	start_incoming dst "$2" file:/tmp/snapshot
	sleep 1
	ok "$_title: the guest goes on" wait_and_continue dst
	in_its_mode dst "$2"
	ok "$_title: nothing lost, doubled or early" verdict dst
	vm_kill dst
	rm -f /tmp/snapshot
}

wait_and_continue() {	# name
	migration_is "$1" completed 30 &&
		vm_ask "$1" '{"execute":"cont"}' | grep return
}

# job NAME JOB COMMAND ARGUMENTS: start a QMP job and wait for it.
job() {
	vm_ask "$1" '{"execute":"'"$3"'","arguments":{"job-id":"'"$2"'",'"$4"'}}' |
		grep return || return 1
	_jobs=$(vm_answers "$1" 60 query-jobs '"status": "concluded"') || return 1
	vm_ask "$1" '{"execute":"job-dismiss","arguments":{"id":"'"$2"'"}}'
	! echo "$_jobs" | grep '"error"'
}

add_node() {	# name, arguments
	vm_ask "$1" '{"execute":"blockdev-add","arguments":{'"$2"'}}' |
		grep return
}

# An empty disk that no device uses, for snapshots: node "disk".
add_disk() {	# name
	_file='"driver":"file","filename":"/tmp/disk"'
	job "$1" create-file blockdev-create \
		'"options":{'"$_file"',"size":0}' &&
	add_node "$1" "$_file"',"node-name":"file"' &&
	job "$1" create-disk blockdev-create \
		'"options":{"driver":"qcow2","file":"file","size":1048576}' &&
	add_node "$1" '"driver":"qcow2","node-name":"disk","file":"file"'
}

internal_snapshot() {	# accelerator, interrupts
	_title="savevm and loadvm, $1"
	_what='"tag":"here","vmstate":"disk","devices":["disk"]'
	# Both pause the guest.
	start_torture src "$1" "$2" 2
	ok "$_title: there is a disk" add_disk src
	ok "$_title: the snapshot is taken" job src save snapshot-save "$_what"
	_seen=$(vm_count src '^# CPU')
	in_its_mode src "$1"
	ok "$_title: the guest goes on" \
		vm_wait_for src 60 '^# CPU' $((_seen + 2))
	ok "$_title: the snapshot is loaded" job src load snapshot-load "$_what"
	in_its_mode src "$1"
	ok "$_title: nothing lost, doubled or early" verdict src
	vm_kill src
	rm -f /tmp/disk
}

reset() {	# accelerator, interrupts
	start_torture src "$1" "$2"
	vm_ask src '{"execute":"system_reset"}' >/dev/null
	ok "reset: the guest starts again" \
		vm_wait_for src 90 '^# CPU 0 at 0%' 2
	in_its_mode src "$1"
	ok "reset: its TSC is the host's again" not has_tsc_offset
	ok "reset: nothing lost, doubled or early" verdict src
	vm_kill src
}

# A vCPU that the guest does not know is sent what "all others" are sent, and
# ignores it: it waits for its INIT.
plug() {	# accelerator, interrupts
	VM_SMP=2,maxcpus=3
	start_torture src "$1" "$2"
	VM_SMP=2
	ok "plug: a vCPU comes" vm_plug_vcpu src 2
	ok "plug: it owns a core" vm_says src '"host-cpu": 4'
	ok "plug: nothing lost, doubled or early" verdict src
	vm_kill src
}

# A guest has found out how fast its timer counts: where it counts otherwise the
# guest must not go, and it goes on where it is.
refused() {	# accelerator, accelerator
	_title="$1 to $2"
	start_torture src "$1" "$IRQS"
	start_incoming dst "$2" unix:$SOCKET
	# As libvirt does: the source waits for what the other side says.
	ok "$_title: there is a way back" allow src return-path
	ok "$_title: the migration starts" migrate src unix:$SOCKET
	ok "$_title: QEMU refuses it" vm_wait_end dst 60
	ok "$_title: and says why" grep 'timers .* count at .* Hz, and here at' \
		$VM_DIR/dst/log
	ok "$_title: the migration has failed" migration_is src failed 20
	in_its_mode src "$1"
	ok "$_title: nothing lost, doubled or early" verdict src
	vm_kill src
}

# What QEMU shows of a local APIC whose owner holds still.
lapic_of() {	# accelerator, state
	VM_SMP=1 VM_ARGS='-device edu'
	VM_KERNEL=$FILES/lapic-state.elf
	vm_start parked "$1" state="$2"
	VM_SMP=2 VM_KERNEL=$FILES/torture.elf
	ok "state $2, $1: the guest holds still" \
		vm_wait_for parked 60 'guest: parked'
	if [ "$(dedicated "$1")" != 0 ]; then
		ok "state $2, $1: in passthrough" vm_dedicated parked 1
	fi
	vm_ask parked '{"execute":"stop"}' >/dev/null
	vm_ask parked '{"execute":"human-monitor-command",
		"arguments":{"command-line":"info lapic"}}' |
		sed 's/\\r\\n/\n/g' >/tmp/lapic
	vm_kill parked
}

same_lapic() {
	grep -q 'ISR' /tmp/lapic-kvm && diff /tmp/lapic-kvm /tmp/lapic-hpkvm
}

# How often the guest does each operation in a pass.
TIMES=200

# After some passes of the guest, in the second that follows one.
count_exits() {	# name
	exits_arm || return 1
	_seen=$(vm_count "$1" '^micro: halt-wake')
	vm_wait_for "$1" 120 '^micro: halt-wake' $((_seen + 2)) || return 1
	exits_save /tmp/exits && exits_disarm
	cat /tmp/exits/kvm_exit
	[ "$(exits_of '[0-9]+')" -gt 0 ]
}

# A guest that comes from elsewhere has a TSC of its own. Setting its timer
# exits then, to be translated; its firing must not.
timer_after_arrival() {	# accelerator, accelerator, interrupt exits
	_title="timer, $1 to $2"
	VM_SMP=1 VM_ARGS=
	VM_KERNEL=$FILES/micro.elf
	vm_start src "$1" passes=1000 times=$TIMES
	ok "$_title: the guest starts" vm_wait_for src 90 '^micro: halt-wake'
	vm_ask src '{"execute":"stop"}' >/dev/null
	ok "$_title: is written" migrate src file:/tmp/snapshot
	ok "$_title: is complete" migration_is src completed 60
	ok "$_title: the old QEMU ends" quits src
	rm -f $SOCKET
	VM_ARGS='-incoming file:/tmp/snapshot'
	vm_start dst "$2" passes=1000 times=$TIMES
	VM_SMP=2 VM_KERNEL=$FILES/torture.elf
	ok "$_title: the guest goes on" wait_and_continue dst
	ok "$_title: the new VM has a TSC offset" has_tsc_offset
	ok "$_title: exits are counted" count_exits dst
	# shellcheck disable=SC2086  # an operator and a number
	ok "$_title: exits of interrupts and HLT: $3" \
		test "$(exits_of "$INTERRUPT_EXITS|$HALT_EXITS")" $3
	vm_kill dst
	rm -f /tmp/snapshot
}

# A guest from a host whose TSC has another rate, or who thinks so. Setting its
# timer exits, to be translated; it must not fire early, nor exit when it fires.
another_rate() {	# accelerator, interrupts
	_title="timer, another TSC rate"
	if ! grep -q tsc_scal /proc/cpuinfo; then
		skip "$_title" "this CPU has no TSC scaling"
		return
	fi
	VM_CPU=$VM_CPU,tsc-frequency=61234567
	start_torture src "$1" "$2"
	ok "$_title: nothing lost, doubled or early" verdict src
	vm_kill src
	VM_SMP=1 VM_ARGS=
	VM_KERNEL=$FILES/micro.elf
	vm_start src "$1" passes=1000 times=$TIMES
	VM_SMP=2 VM_KERNEL=$FILES/torture.elf VM_CPU=${VM_CPU%,*}
	ok "$_title: the guest starts" vm_wait_for src 90 '^micro: halt-wake'
	ok "$_title: its vCPU is in passthrough" vm_dedicated src 1
	ok "$_title: exits are counted" count_exits src
	# Of twice that many that fired; the host may have had something to do,
	# too, for as long as the window is open.
	ok "$_title: firing does not exit" test "$(exits_of \
		"$INTERRUPT_EXITS|$HALT_EXITS|$KICK_EXITS")" -lt $((TIMES / 4))
	vm_kill src
}

local_apics() {	# accelerator
	for _state in 0 1; do
		lapic_of "$VM_STOCK" $_state
		mv /tmp/lapic /tmp/lapic-kvm
		lapic_of "$1" $_state
		mv /tmp/lapic /tmp/lapic-hpkvm
		ok "state $_state: the local APIC looks the same" same_lapic
		notes </tmp/lapic-kvm
	done
}

# Two VMs at once that own cores, or three vCPUs.
with_four_cores() {
	if [ -n "$FEW_CPUS" ]; then
		skip "$*" "$FEW_CPUS"
	else
		"$@"
	fi
}

with_four_cores live hpkvm,cpus=2-3 hpkvm,cpus=4-5 "$IRQS"
live "$VM_STOCK" hpkvm,cpus=2-3 "$IRQS"
# Soon in its periodic mode, in which it moves.
live hpkvm,cpus=2-3 "$VM_STOCK" 4000
live "$VM_STOCK" hpkvm,cpus=2-3 4000
with_four_cores postcopy hpkvm,cpus=2-3 hpkvm,cpus=4-5 "$IRQS"
with_four_cores snapshot hpkvm,cpus=2-3 hpkvm,cpus=4-5 "$IRQS"
internal_snapshot hpkvm,cpus=2-3 "$IRQS"
reset hpkvm,cpus=2-3 "$IRQS"
with_four_cores plug hpkvm,cpus=2-4 "$IRQS"
timer_after_arrival hpkvm,cpus=2 "$VM_STOCK" "-ge $TIMES"
timer_after_arrival "$VM_STOCK" hpkvm,cpus=2 '-eq 0'
another_rate hpkvm,cpus=2-3 "$IRQS"
if [ "$VM_STOCK" = kvm ]; then
	refused kvm hpkvm,cpus=2-3,apic-bus-frequency=100000000
else
	refused hpkvm,cpus=2-3 kvm
	refused kvm hpkvm,cpus=2-3
fi
local_apics hpkvm,cpus=2
cores='2 3 4 5'
[ -z "$FEW_CPUS" ] || cores='2 3'
for core in $cores; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
