# SPDX-License-Identifier: GPL-2.0-or-later
#
# Shell functions, for use inside the emulated host, that start and steer test
# VMs.  Sourced, never run.  A VM called NAME keeps its files in /tmp/vm/NAME:
# serial (the guest's console), log (QEMU's own output), qmp (its answers).
#
# Variables that may be set before vm_start:
#   VM_CPU    CPU model                      (host)
#   VM_SMP    number of vCPUs                (2)
#   VM_MEM    memory in MB                   (192)
#   VM_KERNEL guest kernel                   ($GUEST_KERNEL)
#   VM_INITRD guest initramfs                ($FILES/linux.cpio.zst)
#   VM_ARGS   further arguments for QEMU     (none)

. /host/tests/inside/lib/within.sh

VM_DIR=/tmp/vm
# Stock KVM whose VMs can move to dedicated cores of this host, and back: their
# timers count as fast as the host's, if it has no TSC-deadline mode.
VM_STOCK=kvm
grep -q tsc_deadline_timer /proc/cpuinfo ||
	VM_STOCK=hpkvm,direct-interrupts=off,apic-bus-frequency=100000000
# A DIMM is the guest's as soon as it is plugged; the option that says so in a
# configuration has another name in later releases of 6.12.
_MEMHP=memhp_default_state=online

# vm_start NAME ACCEL SCENARIO [ARGUMENT...]
vm_start() {
	_name=$1 _accel=$2
	shift 2
	_dir=$VM_DIR/$_name
	rm -rf "$_dir"
	mkdir -p "$_dir"
	mkfifo "$_dir/qmp.in" "$_dir/qmp.out"
	: >"$_dir/serial"
	# shellcheck disable=SC2086  # VM_ARGS is a list of words
	qemu-system-x86_64 -name "$_name,debug-threads=on" \
		-nodefaults -display none -machine q35 \
		-accel "$_accel" -cpu "${VM_CPU:-host}" \
		-smp "${VM_SMP:-2}" -m "${VM_MEM:-192}" \
		-serial "file:$_dir/serial" -qmp "pipe:$_dir/qmp" \
		-kernel "${VM_KERNEL:-$GUEST_KERNEL}" \
		-initrd "${VM_INITRD:-$FILES/linux.cpio.zst}" \
		-append "console=ttyS0 quiet panic=-1 mitigations=off isolcpus=1-N $_MEMHP -- $*" \
		$VM_ARGS >"$_dir/log" 2>&1 &
	echo $! >"$_dir/pid"
	cat "$_dir/qmp.out" >"$_dir/qmp" &
	# Held open by this shell, for reading too: a QEMU that has ended must
	# neither block the opening nor raise SIGPIPE.
	eval "exec $(_vm_fd "$_name")<>\"$_dir/qmp.in\""
	vm_qmp "$_name" '{"execute":"qmp_capabilities"}'
}

# One descriptor for each of up to five names: 5 to 9, by the line where the
# name stands; "-" is a line that is free.
_vm_fd() {
	if ! grep -qsx "$1" /tmp/vm-names; then
		_free=$(grep -snxm1 - /tmp/vm-names | cut -d: -f1)
		if [ -n "$_free" ]; then
			sed -i "${_free}s/.*/$1/" /tmp/vm-names
		else
			echo "$1" >>/tmp/vm-names
		fi
	fi
	echo $((4 + $(grep -nx "$1" /tmp/vm-names | cut -d: -f1)))
}

vm_pid() { cat "$VM_DIR/$1/pid"; }

# vm_vcpu_tid NAME N: the thread of vCPU N.
vm_vcpu_tid() {
	for _task in /proc/"$(vm_pid "$1")"/task/*; do
		[ "$(cat "$_task/comm" 2>/dev/null)" = "CPU $2/KVM" ] &&
			echo "${_task##*/}"
	done
}

vm_alive() {
	grep -qs '^State:.[^Z]' "/proc/$(vm_pid "$1")/status"
}

# vm_qmp NAME JSON: send a command; the answer appears in the file qmp.
vm_qmp() { eval "echo '$2' >&$(_vm_fd "$1")"; }

# vm_ask NAME JSON: send a command and print its answer, waiting at most 10 s.
vm_ask() {
	_before=$(grep -c '"return"\|"error"' "$VM_DIR/$1/qmp")
	vm_qmp "$1" "$2"
	_tries=0
	while [ "$(grep -c '"return"\|"error"' "$VM_DIR/$1/qmp")" -le \
		"$_before" ]; do
		_tries=$((_tries + 1))
		[ $_tries -lt 100 ] && vm_alive "$1" || return 1
		sleep 0.1
	done
	grep '"return"\|"error"' "$VM_DIR/$1/qmp" | tail -n 1
}

# vm_says NAME PATTERN: what query-hpkvm answers matches; a vCPU has no braces
# within.
vm_says() {
	vm_ask "$1" '{"execute":"query-hpkvm"}' |
		sed 's/"work": {[^}]*}, //g; s/, "work": {[^}]*}//g' |
		grep -e "$2"
}

# vm_wait_for NAME SECONDS PATTERN [COUNT]: until the console has COUNT (1)
# lines that match; fails at the time limit or when QEMU ends before.
vm_wait_for() {
	_deadline=$(($(date +%s) + $2))
	while :; do
		_found=$(grep -ac "$3" "$VM_DIR/$1/serial")
		[ "$_found" -ge "${4:-1}" ] && return 0
		vm_alive "$1" && [ "$(date +%s)" -lt $_deadline ] || break
		sleep 0.2
	done
	[ "$(grep -ac "$3" "$VM_DIR/$1/serial")" -ge "${4:-1}" ]
}

# vm_last_words NAME: what guest and QEMU said last.
vm_last_words() {
	tail -n 5 "$VM_DIR/$1/serial" | tr -d '\r'
	tail -n 40 "$VM_DIR/$1/log"
}

# vm_done NAME SECONDS PATTERN: as vm_wait_for, with the last words if it fails.
vm_done() {
	vm_wait_for "$@" && return
	vm_last_words "$1"
	return 1
}

# vm_wait_end NAME SECONDS: until QEMU ends by itself.
vm_wait_end() { within "$2" not vm_alive "$1"; }

# vm_kill NAME [SIGNAL]: end QEMU by a signal (KILL) and reap it.
vm_kill() {
	kill -s "${2:-KILL}" "$(vm_pid "$1")" 2>/dev/null
	wait "$(vm_pid "$1")" 2>/dev/null
	sed -i "s/^$1\$/-/" /tmp/vm-names
	return 0
}

# _vm_has NAME PATTERN TEST COUNT: so many of query-hpkvm's words match, by a test
# of test(1); leaves the whole in _answer.
_vm_has() {
	_answer=$(vm_ask "$1" '{"execute":"query-hpkvm"}')
	test "$(echo "$_answer" | grep -o "$2" | wc -l)" "$3" "$4"
}

# vm_dedicated NAME COUNT: COUNT vCPUs are in passthrough mode, or will be
# within 60 s; prints what QEMU says when they are not.
vm_dedicated() {
	within 60 _vm_has "$1" '"mode": "passthrough"' -eq "$2" && return
	echo "$_answer"
	cat "$VM_DIR/$1/log"
	return 1
}

# vm_moves_on NAME [SECONDS]: a guest that runs "forever" does so for three
# seconds, within SECONDS (30).
vm_moves_on() {
	_now=$(vm_count "$1" 'guest: alive')
	vm_wait_for "$1" "${2:-30}" 'guest: alive' $((_now + 3))
}

# vm_answers NAME SECONDS QUERY PATTERN: ask until the answer, which is printed,
# matches.
vm_answers() {
	within "$2" _vm_answers "$1" "$3" "$4"
}

_vm_answers() { vm_ask "$1" '{"execute":"'"$2"'"}' | grep "$3"; }

# vm_status NAME STATUS SECONDS: what query-status says is, or becomes, STATUS.
vm_status() { vm_answers "$1" "$3" query-status "\"status\": \"$2\""; }

# vm_plug_vcpu NAME CORE: the vCPU with that core ID, as device "new".
vm_plug_vcpu() {
	vm_ask "$1" '{"execute":"device_add","arguments":
		{"driver":"host-x86_64-cpu","id":"new","svm":false,
		 "socket-id":0,"core-id":'"$2"',"thread-id":0}}' | grep return
}

# kvm_counter NAME: one of KVM's counters in debugfs, of all VMs that there are.
kvm_counter() {
	cat /sys/kernel/debug/kvm/*/"$1" |
		awk '{ sum += $1 } END { print sum + 0 }'
}

# vm_console NAME: what the guest has said, and an end to its last line, which
# it may be writing just now.
vm_console() {
	tr -d '\r' <"$VM_DIR/$1/serial"
	echo
}

# vm_count NAME PATTERN: lines of the guest's console that match.
vm_count() { grep -ac "$2" "$VM_DIR/$1/serial"; }
