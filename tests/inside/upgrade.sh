# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host: QEMU is replaced by another one on the same two
# cores, live with memory first or last, and by cpr-transfer, again and again,
# while the host sends IPIs to these cores, and once while the guest is paused.
# The old QEMU gives the cores up before the new one runs the guest, which counts
# its interrupts and must not notice.
#
#   UPGRADES  one after the other, of each kind      (2)

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/torture.sh
. /host/tests/inside/lib/migrate.sh

UPGRADES=${UPGRADES:-2}
CPR_SOCKET=/tmp/cpr
unix() { echo '{"transport":"socket","type":"unix","path":"'"$1"'"}'; }

# start KIND NAME ACCELERATOR ARGUMENTS [WORDS FOR QEMU]
start() {
	VM_ARGS="$TORTURE_HPET $5"
	# What the new QEMU finds by the descriptors of the old one.
	[ "$1" != cpr ] || VM_ARGS="$VM_ARGS
		-object memory-backend-memfd,id=ram,size=192M,share=on
		-machine memory-backend=ram,aux-ram-share=on"
	vm_start "$2" "$3" "$4"
}

# Its vCPUs have threads when it answers, also if it waits for the guest, and
# libvirt pins them then.
started() {	# name, accelerator
	vm_ask "$1" '{"execute":"query-status"}' >/dev/null
	case $2 in
	*cpus=*) ;;
	*) torture_pin "$1" 2 3 ;;
	esac
}

await_live() {
	rm -f $SOCKET
	start live "$1" "$2" irqs=0 "-incoming unix:$SOCKET"
	started "$1" "$2"
}

# Without it the old one does not hear that the new one refuses.
send_live() {
	allow "$1" return-path && migrate "$1" unix:$SOCKET
}

await_postcopy() {
	rm -f $SOCKET
	start postcopy "$1" "$2" irqs=0 '-incoming defer'
	started "$1" "$2"
	allow "$1" postcopy-ram
	vm_ask "$1" '{"execute":"migrate-incoming","arguments":
		{"uri":"unix:'$SOCKET'"}}' >/dev/null
}

# The guest goes before the most of its memory.
send_postcopy() {
	allow "$1" postcopy-ram && set_bandwidth "$1" 1000000 &&
		migrate "$1" unix:$SOCKET && migration_is "$1" active 20 &&
		vm_ask "$1" '{"execute":"migrate-start-postcopy"}' &&
		set_bandwidth "$1" 1000000000
}

# It does not answer until it has what the other one sends.
await_cpr() {
	rm -f $SOCKET $CPR_SOCKET
	start cpr "$1" "$2" irqs=0 "-incoming unix:$SOCKET -incoming \
		{\"channel-type\":\"cpr\",\"addr\":$(unix $CPR_SOCKET)}"
	within 30 [ -S $CPR_SOCKET ]
}

send_cpr() {
	allow "$1" return-path &&
	vm_ask "$1" '{"execute":"migrate-set-parameters",
		"arguments":{"mode":"cpr-transfer"}}' | grep return &&
	vm_ask "$1" '{"execute":"migrate","arguments":{"channels":[
		{"channel-type":"main","addr":'"$(unix $SOCKET)"'},
		{"channel-type":"cpr","addr":'"$(unix $CPR_SOCKET)"'}]}}' |
		grep return
}

# Passthrough ends when the guest stands still: what it owns counts.
owns_no_core() {	# name
	vm_ask "$1" '{"execute":"query-hpkvm"}' >/tmp/owns
	grep -q '"reason": "not-bound"' /tmp/owns &&
		! grep '"host-cpu"' /tmp/owns
}

# The new one has both cores while the old one is still there.
replace() {	# kind, old, new, accelerator
	"await_$1" "$3" "$4"
	ok "$_what: the old QEMU sends it" "send_$1" "$2"
	ok "$_what: it has sent all" migration_is "$2" completed 120
	ok "$_what: the new one's vCPUs are in passthrough" vm_dedicated "$3" 2
	ok "$_what: it never had to wait" not grep -q 'as under KVM\|refused' \
		"$VM_DIR/$3/log"
	ok "$_what: the old one owns no core" owns_no_core "$2"
	ok "$_what: and ends" quits "$2"
	vm_kill "$2"
}

# upgrade KIND ACCELERATOR: as often as asked for.
upgrade() {
	_old=even _new=odd
	_what="$1, $2"
	start "$1" $_old "$2" "irqs=2000 moves=$UPGRADES until_told=1"
	started $_old "$2"
	ok "$_what: the guest starts" vm_wait_for $_old 90 '^# CPU 0 at [1-9]'
	ok "$_what: its vCPUs are in passthrough" vm_dedicated $_old 2
	for _n in $(seq "$UPGRADES"); do
		_what="$1, $2, $_n"
		torture_disturb $_old 2,3 read-msr signal-vcpu
		replace "$1" $_old $_new "$2"
		wait $_storm
		_kept=$_old _old=$_new _new=$_kept
	done
	ok "$_what: nothing lost, doubled or early" verdict $_old
	vm_kill $_old
}

# Nobody runs it, here or there, until somebody says so.  QEMU saves the guest's
# clock as it was when the guest was stopped, but timers as they are later: what
# fired meanwhile may come early by that clock, and then the next one, too.
paused() {	# accelerator
	_what="paused, $1"
	start live even "$1" 'irqs=2000 moves=2 until_told=1'
	started even "$1"
	ok "$_what: the guest starts" vm_wait_for even 90 '^# CPU 0 at [1-9]'
	vm_ask even '{"execute":"stop"}' >/dev/null
	ok "$_what: it keeps its cores" not owns_no_core even
	await_live odd "$1"
	ok "$_what: the old QEMU sends it" send_live even
	ok "$_what: it has sent all" migration_is even completed 120
	ok "$_what: nobody owns a core" within 10 owns_no_core even
	ok "$_what: neither here nor there" owns_no_core odd
	ok "$_what: the new one goes on" vm_ask odd '{"execute":"cont"}'
	ok "$_what: its vCPUs are in passthrough" vm_dedicated odd 2
	ok "$_what: nothing lost, doubled or early" verdict odd
	vm_kill even
	vm_kill odd
}

upgrade live hpkvm,cpus=2-3,fallback=off
upgrade live hpkvm
upgrade postcopy hpkvm,cpus=2-3,fallback=off
upgrade cpr hpkvm,cpus=2-3,fallback=off
paused hpkvm,cpus=2-3
for core in 2 3; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
