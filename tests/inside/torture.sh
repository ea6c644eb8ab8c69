# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host of 6 CPUs: the guest that counts its interrupts,
# under stock KVM and on dedicated cores, left alone, with the host sending IPIs
# to the cores all the time, while its vCPUs move from core to core, and with the
# host in a storm.
#
#   IRQS          interrupts that guests on dedicated cores cause at least:
#                 half of them left alone, two fifths with four vCPUs, a tenth
#                 with IPIs, and with the rest some on top          (1000000)
#   SENT          IPIs that they send as fast as they can, beside that (IRQS)
#   STORM_IRQS    interrupts in the host's storm, which goes on until it has done
#                 all that it can                   (IRQS/100, 500 at least)
#   SEED          of the guests and of what the host does             (1)
#   VM_DEDICATED  vCPUs of two that must be in passthrough            (2)

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh

. /host/tests/inside/lib/torture.sh

IRQS=${IRQS:-1000000}
SENT=${SENT:-$IRQS}
ACCEL=hpkvm,cpus=2-3
STORM_IRQS=${STORM_IRQS:-$((IRQS > 50000 ? IRQS / 100 : 500))}
VM_DEDICATED=${VM_DEDICATED:-2}

# What the host does to the cores: nothing but IPIs (function calls, kicks), or
# all that host-storm can. Either way it must have done what is listed, or it did
# not disturb them.
IPIS='read-msr signal-vcpu'
STORM="$IPIS unmap membarrier patch-kernel-text compete zap-guest-mappings
	ask-for-lapic write-state pause move-irqs unplug-cpu nmi"

# Does the guest notice at all? All 18 sources lose one and double one; two
# timers can only show that as too early, and one IPI has two targets.
torture_begin broken kvm 0 irqs=4000 drop=1 twice=1 patience_ms=2000
ok "lost and doubled interrupts are noticed" \
	vm_wait_for broken 120 '^torture: .* lost=19 doubled=17 early=2 '
vm_console broken | grep -a '^torture' | notes
vm_kill broken

# Stock KVM, which is slow, only has to show that the guest is right.
torture_begin kvm kvm 0 irqs=2000
torture_end kvm

# The one VM there is sends IPIs right behind the exit, as seen at later exits.
fast_ipis() { [ "$(kvm_counter hpkvm_fast_ipis)" -ge 500 ]; }

torture_begin quiet $ACCEL "$VM_DEDICATED" irqs=$((IRQS / 2))
[ "$VM_DEDICATED" = 0 ] || ok "quiet: it sends IPIs without C" \
	within 60 fast_ipis
torture_end quiet

torture_begin sender $ACCEL "$VM_DEDICATED" ipis="$SENT"
torture_end sender

VM_SMP=4 torture_begin four hpkvm,cpus=2-5 $((VM_DEDICATED * 2)) \
	irqs=$((IRQS * 2 / 5))
torture_end four

torture_begin ipis $ACCEL "$VM_DEDICATED" irqs=$((IRQS / 10))
# shellcheck disable=SC2086  # a list of words
torture_disturb ipis 2,3 $IPIS
torture_end ipis
# shellcheck disable=SC2086
torture_disturbed ipis $IPIS

# QEMU says where its vCPUs are so many times; not for each move of many.
moved() {	# name, times
	[ "$(grep -c 'vCPUs own a core' $VM_DIR/$1/log)" -ge "$2" ]
}

if [ "$VM_DEDICATED" -ne 0 ]; then
	torture_begin moving hpkvm 0 irqs=$((IRQS / 50 + 2000)) until_told=1
	torture_pin moving 2 3
	ok "moving: its vCPUs are in passthrough" vm_dedicated moving 2
	# shellcheck disable=SC2086
	torture_disturb moving 2,3,4,5 $IPIS ask-for-lapic repin
	ok "moving: its vCPUs go from core to core" \
		within 120 moved moving 4
	torture_tell moving >/dev/null
	torture_end moving
	# shellcheck disable=SC2086
	torture_disturbed moving $IPIS ask-for-lapic repin
	grep 'vCPUs own a core' $VM_DIR/moving/log | notes
fi

torture_disturb_well storm $ACCEL "$VM_DEDICATED" irqs="$STORM_IRQS" 2,3
# shellcheck disable=SC2086
torture_disturbed storm $STORM

# What was counted of all that guests on dedicated cores caused.
enough() {
	for _vm in quiet four ipis moving storm; do
		vm_console $_vm
	done |
		awk -v want="$IRQS" '/^torture: / {
			sub(/.* received=/, ""); sum += $1
		}
		END { print sum " interrupts"; exit sum < want }'
}

ok "$IRQS interrupts, and more, were counted" enough
for core in 2 3 4 5; do
	ok "core $core serves the host afterwards" "$FILES/core-check" $core
done
