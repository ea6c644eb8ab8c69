# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the emulated host: a dedicated guest runs, pauses, resumes,
# reboots, sleeps, powers off and panics, its QEMU ends in an orderly way and by
# SIGKILL, and after each end the cores serve the host as any other.

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh

ACCEL=${ACCEL:-hpkvm,cpus=2-3}
PASSTHROUGH=${PASSTHROUGH:-2}
BOOT=90

clock_events() {
	cat /sys/devices/system/clockevents/clockevent*/current_device
}

same_clock_events() {
	clock_events >/tmp/clock-events.now
	diff /tmp/clock-events /tmp/clock-events.now
}

# The cores came back: timer, IPIs and scheduling work on both.
cores_work() {	# after what
	ok "core 2 serves the host after $1" "$FILES/core-check" 2
	ok "core 3 serves the host after $1" "$FILES/core-check" 3
	ok "every CPU has its own timer again after $1" same_clock_events
}

begin() {	# name, scenario
	vm_start "$1" "$ACCEL" $2
	ok "$1: the guest boots" vm_wait_for "$1" $BOOT 'guest: start'
	ok "$1: its vCPUs are in passthrough" vm_dedicated "$1" "$PASSTHROUGH"
}

stands_still() {
	_before=$(vm_count "$1" 'guest: alive')
	sleep 3
	[ "$(vm_count "$1" 'guest: alive')" -eq "$_before" ]
}

# It would lose what leased cores hold.
host_may_not_sleep() {
	{ ! echo mem >/sys/power/state; } 2>&1 | grep busy
}

# Who sends early waits at the next entry, and there may be none.
no_advance() {
	for _vcpu in /sys/kernel/debug/kvm/*/vcpu*; do
		[ "$(cat "$_vcpu/lapic_timer_advance_ns")" -eq 0 ] || return 1
	done
}

clock_events >/tmp/clock-events
ok "there is a timer for every CPU" [ "$(wc -l </tmp/clock-events)" -ge 4 ]

begin quit forever
ok "quit: the leased cores have another timer" not same_clock_events
ok "quit: KVM's timers for it do not fire early" no_advance
ok "quit: the guest makes progress" vm_moves_on quit
vm_ask quit '{"execute":"stop"}' >/dev/null
ok "quit: a paused guest stands still" stands_still quit
vm_ask quit '{"execute":"cont"}' >/dev/null
ok "quit: a resumed guest makes progress" vm_moves_on quit
ok "quit: its vCPUs are in passthrough again" vm_dedicated quit "$PASSTHROUGH"
vm_qmp quit '{"execute":"quit"}'
ok "quit: QEMU ends" vm_wait_end quit 20
cores_work "QEMU's quit"

begin killed forever
ok "killed: the guest makes progress" vm_moves_on killed
vm_kill killed KILL
ok "killed: QEMU is gone" vm_wait_end killed 20
cores_work "SIGKILL"

begin reboot "reboot 2"
ok "reboot: the guest boots three times" \
	vm_wait_for reboot $((3 * BOOT)) 'guest: start' 3
ok "reboot: its vCPUs are in passthrough" vm_dedicated reboot "$PASSTHROUGH"
vm_kill reboot TERM
ok "reboot: QEMU is gone" vm_wait_end reboot 20
cores_work "guest reboots and SIGTERM"

begin suspend "suspend 2"
ok "suspend: the host may not sleep meanwhile" host_may_not_sleep
ok "suspend: the guest sleeps" vm_status suspend suspended 60
vm_ask suspend '{"execute":"system_wakeup"}' >/dev/null
ok "suspend: it wakes up" vm_wait_for suspend 60 'guest: awake'
ok "suspend: the guest makes progress" vm_moves_on suspend
ok "suspend: its vCPUs are in passthrough" vm_dedicated suspend "$PASSTHROUGH"
vm_kill suspend
cores_work "suspend to memory"

begin poweroff "poweroff 2"
ok "poweroff: QEMU ends by itself" vm_wait_end poweroff 60
cores_work "the guest's power-off"

VM_ARGS=-no-reboot
begin panic "panic 2"
ok "panic: QEMU ends by itself" vm_wait_end panic 60
ok "panic: it was a panic" grep -q 'Kernel panic' $VM_DIR/panic/serial
cores_work "the guest's panic"
