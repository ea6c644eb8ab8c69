# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the emulated host, which does not survive it, driven by
# nmi-panic: NMIs that nobody has sent, and those of the chipset's, are reported on
# leased cores as on any other, and a panic ends it all.
#
# A line "outside: ..." asks nmi-panic to do something.

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh

ACCEL=hpkvm,cpus=2-3

# NMIs that the kernel has reported as nobody's on CPU $1.
reported() { dmesg | grep "NMI received for unknown reason .* on CPU $1"; }

# Mask CPU $1's LINT1, with 0x10400.  The offset in the file is the MSR, and dd
# writes what it gets of the block.
mask_lint1() {
	printf '\000\004\001\000\000\000\000\000' |
		dd of=/dev/cpu/"$1"/msr bs=$((0x836)) seek=1 2>/dev/null
}

# The host calls a function on CPU $1 as fast as it can: there is always an NMI of
# its own that may still be on its way.
keep_calling() {
	while :; do
		dd if=/dev/cpu/"$1"/msr bs=8 skip=$((0x10 / 8)) count=1
	done >/dev/null 2>&1
}

reported_serr() { dmesg | grep "PCI system error (SERR) .* on CPU $1"; }

vm_start nmi "$ACCEL" forever
ok "the guest boots" vm_wait_for nmi 90 'guest: start'
ok "its vCPUs are in passthrough" vm_dedicated nmi 2
ok "the guest makes progress" vm_moves_on nmi

# Further apart than dedicated_nmi() claims NMIs after the host's last own one:
# for that second, one of nobody's may pass for ours.
for round in 1 2 3 4 5; do
	echo "outside: inject an NMI"
	sleep 2
done
for cpu in 0 1 2 3; do
	ok "an unknown NMI is reported on CPU $cpu" within 60 reported $cpu
done
ok "the guest makes progress after unknown NMIs" vm_moves_on nmi
ok "its vCPUs are in passthrough after unknown NMIs" vm_dedicated nmi 2

# What the chipset signals comes to the CPU whose LINT1 is open, and to no other.
# It must not be taken for one of the host's own.
for cpu in 0 1 3; do
	mask_lint1 $cpu
done
keep_calling 2 &
caller=$!
sleep 1
echo "outside: signal SERR#"
ok "SERR# is reported by the leased CPU that gets its NMI" \
	within 30 reported_serr 2
kill $caller
ok "the guest makes progress after SERR#" vm_moves_on nmi

echo "outside: watch the panic"
echo c >/proc/sysrq-trigger
