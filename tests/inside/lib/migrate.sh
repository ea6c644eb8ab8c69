# SPDX-License-Identifier: GPL-2.0-or-later
#
# Shell functions, for use inside the emulated host, that move the guest which
# counts its interrupts from one QEMU to another.  Sourced after torture.sh,
# never run.

SOCKET=/tmp/migration
# Seconds until the guest has said what it has counted.
LIMIT=240
RIGHT='lost=0 doubled=0 early=0 disorder=0'

set_bandwidth() {	# name, bytes per second
	vm_ask "$1" '{"execute":"migrate-set-parameters",
		"arguments":{"max-bandwidth":'"$2"',
			     "max-postcopy-bandwidth":'"$2"'}}' | grep return
}

allow() {	# name, capability
	vm_ask "$1" '{"execute":"migrate-set-capabilities","arguments":
		{"capabilities":[{"capability":"'"$2"'","state":true}]}}' |
		grep return
}

migrate() {	# name, to where
	vm_ask "$1" '{"execute":"migrate","arguments":{"uri":"'"$2"'"}}' |
		grep return
}

migration_is() {	# name, status, seconds
	vm_answers "$1" "$3" query-migrate "\"status\": \"$2\""
}

quits() {	# name
	vm_qmp "$1" '{"execute":"quit"}'
	vm_wait_end "$1" 30
}

# Only when the host has done all that it wants to do to the guest.
verdict() {	# name
	torture_tell "$1"
	vm_done "$1" $LIMIT '^torture: .*disorder='
	grep -a '^torture\|^not ok\|^# periodic' $VM_DIR/$1/serial
	grep -aq "^torture: .* $RIGHT" $VM_DIR/$1/serial &&
		! grep -aq '^not ok' $VM_DIR/$1/serial
}
