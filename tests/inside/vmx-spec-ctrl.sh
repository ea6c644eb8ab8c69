# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host with VMX that has enhanced IBRS on: bit 0 of
# IA32_SPEC_CTRL.  A CPU that sends IPIs for its guest without C still has the
# guest's, and so would the handler of an NMI.  It may do so only for a guest that
# has on whatever the host has on; with any guest, both must find their own.
#
#   IPIS   that each guest sends                              (6000)
#   SEED   of the guests                                      (1)

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh
. /host/tests/inside/lib/torture.sh

IPIS=${IPIS:-6000}
ACCEL=hpkvm,cpus=2-3

sent_fast_ipis() {	# a comparison of test's, a number
	kvm_counter hpkvm_fast_ipis
	[ "$(kvm_counter hpkvm_fast_ipis)" "$1" "$2" ]
}

# speculation NAME WHAT COMPARISON NUMBER ARGUMENT...: a guest with these
# arguments, and how many IPIs were sent without C, which WHAT says in words.
speculation() {
	_guest=$1 _what=$2 _comparison=$3 _number=$4
	shift 4
	torture_begin "$_guest" $ACCEL 2 ipis="$IPIS" until_told=1 "$@"
	ok "$_guest: the host finds its own IA32_SPEC_CTRL" \
		torture_host_spec_ctrl 1
	ok "$_guest: it sends its IPIs" \
		vm_wait_for "$_guest" $TORTURE_SILENCE '^# CPU 0 at 100%'
	ok "$_guest: $_what" sent_fast_ipis "$_comparison" "$_number"
	torture_tell "$_guest"
	torture_end "$_guest"
}

ok "the host has enhanced IBRS on" \
	grep 'Mitigation: Enhanced' /sys/devices/system/cpu/vulnerabilities/spectre_v2

# IBRS and STIBP, when the host has IBRS.
speculation more "IPIs were sent without C" -ge 1000 spec_ctrl=3
# It never writes the MSR, which KVM intercepts until then.
speculation nothing "no IPI was sent without C" -eq 0
# It writes the MSR without an exit, and KVM knows what was in it at the last one:
# IBRS, but STIBP alone while it sends.
speculation less "no IPI was sent without C" -eq 0 \
	spec_ctrl=2 spec_ctrl_between=1
