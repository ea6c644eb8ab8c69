// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM dedicated cores: the timer of a vCPU's local APIC, on its way between
 * KVM's hrtimer and the core's hardware.
 *
 * This file owns when the core's timer can be the guest's, what of the guest's
 * values is written to it, and the two moves.  It must never lose an expiry, nor
 * let a timer fire early, and nothing but the guest's vector, mask and mode may
 * reach the core's LVTT.
 *
 * It neither promotes nor demotes, nor opens a register to the guest: hpkvm.c
 * does, and calls this.
 */
#include <linux/kvm_host.h>
#include <linux/smp.h>

#include <asm/apic.h>
#include <asm/dedicated_cpu.h>
#include <asm/tsc.h>

#include "hpkvm_fault.h"
#include "hpkvm_int.h"
#include "irq.h"
#include "lapic.h"
#include "x86.h"

/* A timer this close to expiry is waited for: it fires before it is stopped. */
#define HPKVM_TIMER_NEAR_US	20
/* A periodic timer that is moved to the core may come so much late. */
#define HPKVM_PERIOD_LATE_NS	NSEC_PER_MSEC

static bool hpkvm_timer_is_periodic(struct kvm_vcpu *vcpu)
{
	return hpkvm_lvtt_mode(kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT)) ==
	       APIC_LVT_TIMER_PERIODIC;
}

/* Only a vector that nobody else needs may come from the core's timer. */
static bool hpkvm_timer_vector_ok(u32 lvtt)
{
	u8 vector = lvtt & APIC_VECTOR_MASK;

	return (lvtt & APIC_LVT_MASKED) ||
	       (vector >= 16 && vector != DEDICATED_HOST_VECTOR);
}

/*
 * A periodic timer moves to the core at the start of a period, because hardware
 * begins the period anew.  It stays an hrtimer until then: a vCPU that is
 * demoted in every period would never see it fire.
 */
static bool hpkvm_timer_amid_period(struct kvm_vcpu *vcpu)
{
	struct kvm_timer *timer = &vcpu->arch.apic->lapic_timer;
	s64 late_ns = max_t(s64, timer->period / 16, HPKVM_PERIOD_LATE_NS);

	return hpkvm_timer_is_periodic(vcpu) &&
	       !vcpu->arch.hpkvm.timer_direct &&
	       (hrtimer_active(&timer->timer) ||
		kvm_lapic_hv_timer_in_use(vcpu)) &&
	       ktime_to_ns(ktime_sub(timer->target_expiration, ktime_get())) <
	       timer->period - late_ns;
}

/**
 * hpkvm_timer_can_be_direct - can the core's timer be the guest's now?
 * @vcpu: a vCPU with a core
 *
 * Return: false if it has to stay KVM's hrtimer, for the time being at least.
 */
bool hpkvm_timer_can_be_direct(struct kvm_vcpu *vcpu)
{
	u32 lvtt = kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT);

	/* Both mode bits: reserved, but a guest may write them to KVM's. */
	if (!hpkvm_feature(vcpu, KVM_HPKVM_F_DIRECT_TIMER) ||
	    !hpkvm_timer_vector_ok(lvtt) || hpkvm_lvtt_mode(lvtt) == LVTT_MODES)
		return false;
	if (hpkvm_deadline_mode(vcpu))
		return boot_cpu_has(X86_FEATURE_TSC_DEADLINE_TIMER);
	return dedicated_cpu_timer_rate_ok(vcpu->arch.hpkvm.cpu,
					   vcpu->kvm->arch.apic_bus_cycle_ns) &&
	       !hpkvm_timer_amid_period(vcpu);
}

/*
 * A masked entry needs no valid vector, but hardware insists on one.  And
 * KVM_SET_LAPIC can leave anything in a register of KVM's, such as a delivery
 * mode, or reserved bits that would fault.
 */
static u32 hpkvm_timer_physical_lvtt(u32 lvtt)
{
	lvtt &= APIC_VECTOR_MASK | APIC_LVT_MASKED | LVTT_MODES;
	if (!hpkvm_timer_vector_ok(lvtt & ~APIC_LVT_MASKED))
		lvtt = (lvtt & ~APIC_VECTOR_MASK) | LOCAL_TIMER_VECTOR;
	return lvtt;
}

/**
 * hpkvm_timer_write_lvtt - program the core's LVTT for KVM's
 * @vcpu: the vCPU, on its core
 */
void hpkvm_timer_write_lvtt(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;

	h->lvtt = kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT);
	native_apic_msr_write(APIC_LVTT, h->timer_direct ?
			      hpkvm_timer_physical_lvtt(h->lvtt) :
			      APIC_LVT_MASKED | LOCAL_TIMER_VECTOR);
	/* Intel SDM 11.5.4.1: LVTT before TSC_DEADLINE. */
	asm volatile("mfence" : : : "memory");
}

/* How long the guest's TSC takes for @ticks, in ticks of the host's; never less. */
static u64 hpkvm_timer_unscale(struct kvm_vcpu *vcpu, u64 ticks)
{
	u64 ratio = vcpu->arch.l1_tsc_scaling_ratio;
	u8 bits = kvm_caps.tsc_scaling_ratio_frac_bits;
	u64 quotient;

	/* Division would overflow, which is an exception. */
	if (ticks >> (64 - bits) >= ratio)
		return U64_MAX;
	quotient = mul_u64_u64_div_u64(ticks, BIT_ULL(bits), ratio);
	return quotient == U64_MAX ? quotient : quotient + 1;
}

/*
 * What the host's TSC will be when the guest's is @deadline, or is now if that
 * has passed; never 0, which would disarm.  Reckoned from now on: the
 * difference between the two would wrap for a deadline from before the host's
 * TSC began, or after it ends.
 */
static u64 hpkvm_timer_physical_deadline(struct kvm_vcpu *vcpu, u64 deadline)
{
	u64 now = rdtsc(), guest_now = kvm_read_l1_tsc(vcpu, now);
	u64 left = deadline - guest_now, physical;

	if (deadline <= guest_now)
		return now;
	if (hpkvm_tsc_is_scaled(vcpu))
		left = hpkvm_timer_unscale(vcpu, left);
	return check_add_overflow(now, left, &physical) ? U64_MAX : physical;
}

/**
 * hpkvm_timer_guest_deadline - what the guest finds in TSC_DEADLINE
 * @vcpu: the vCPU
 * @physical: the host's TSC at expiry
 *
 * Return: the inverse of hpkvm_timer_physical_deadline(); later by some ticks at
 * most if the guest's TSC is scaled.
 */
u64 hpkvm_timer_guest_deadline(struct kvm_vcpu *vcpu, u64 physical)
{
	return physical == U64_MAX ? physical : kvm_read_l1_tsc(vcpu, physical);
}

/**
 * hpkvm_timer_write_deadline - arm the core's timer in TSC-deadline mode
 * @vcpu: the vCPU, on its core
 * @deadline: the guest's TSC at expiry, 0 to disarm
 */
void hpkvm_timer_write_deadline(struct kvm_vcpu *vcpu, u64 deadline)
{
	wrmsrl(MSR_IA32_TSC_DEADLINE,
	       deadline ? hpkvm_timer_physical_deadline(vcpu, deadline) : 0);
}

static u8 hpkvm_timer_vector(struct kvm_vcpu *vcpu)
{
	return kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT) & APIC_VECTOR_MASK;
}

/*
 * Take over a virtual timer.  Interrupts are on: the hrtimer's callback may
 * have to finish.  Return true if the timer was counting.
 */
static bool hpkvm_timer_stop_virtual(struct kvm_vcpu *vcpu)
{
	bool counting;

	/* It may be one of the vendor's. */
	kvm_lapic_switch_to_sw_timer(vcpu);
	counting = hrtimer_cancel(&vcpu->arch.apic->lapic_timer.timer);
	/* It may have expired before. */
	kvm_inject_apic_timer_irqs(vcpu);
	return counting;
}

struct hpkvm_timer_start_call {
	struct kvm_vcpu *vcpu;
	bool counting;
};

/* On the core, interrupts disabled. */
static void hpkvm_timer_start_physical(void *arg)
{
	struct hpkvm_timer_start_call *call = arg;
	struct kvm_vcpu *vcpu = call->vcpu;
	struct kvm_lapic *apic = vcpu->arch.apic;
	bool counting = call->counting;
	u64 count = 0;

	hpkvm_timer_write_lvtt(vcpu);
	if (!vcpu->arch.hpkvm.timer_direct)
		return;
	if (hpkvm_deadline_mode(vcpu)) {
		hpkvm_timer_write_deadline(vcpu, counting ?
					   apic->lapic_timer.tscdeadline : 0);
		return;
	}

	if (counting && hpkvm_timer_is_periodic(vcpu)) {
		/* Hardware restarts the period: this tick may come later. */
		count = kvm_lapic_get_reg(apic, APIC_TMICT);
	} else if (counting) {
		kvm_x2apic_msr_read(vcpu, X2APIC_MSR(APIC_TMCCT), &count);
		count = max(count, 1ull);
	}
	native_apic_msr_write(APIC_TDCR, kvm_lapic_get_reg(apic, APIC_TDCR) &
					 TDCR_BITS);
	native_apic_msr_write(APIC_TMICT, count);
}

/**
 * hpkvm_timer_stop - stop the core's timer, which was the guest's
 * @snap: out: what is left of it
 * @deadline: it is in TSC-deadline mode
 *
 * Called on the core with interrupts disabled.
 */
void hpkvm_timer_stop(struct hpkvm_snapshot *snap, bool deadline)
{
	u64 near = (u64)tsc_khz * HPKVM_TIMER_NEAR_US / 1000;
	u64 start = rdtsc();

	snap->tmict = native_apic_msr_read(APIC_TMICT);
	snap->tdcr = native_apic_msr_read(APIC_TDCR);
	if (deadline) {
		do {
			rdmsrl(MSR_IA32_TSC_DEADLINE, snap->deadline);
		} while (snap->deadline && snap->deadline < start + near &&
			 rdtsc() < start + 2 * near);
		wrmsrl(MSR_IA32_TSC_DEADLINE, 0);
	} else {
		/* At most 1 GHz: a count is no shorter than a nanosecond. */
		do {
			snap->tmcct = native_apic_msr_read(APIC_TMCCT);
		} while (snap->tmcct &&
			 snap->tmcct < HPKVM_TIMER_NEAR_US * NSEC_PER_USEC &&
			 rdtsc() < start + 2 * near);
		native_apic_msr_write(APIC_TMICT, 0);
	}
	native_apic_msr_write(APIC_LVTT, APIC_LVT_MASKED | LOCAL_TIMER_VECTOR);
}

/**
 * hpkvm_timer_restore - have KVM go on with what the core's timer did
 * @vcpu: a vCPU that was just demoted, in x2APIC mode
 * @snap: what hpkvm_timer_stop() found
 */
void hpkvm_timer_restore(struct kvm_vcpu *vcpu,
			 const struct hpkvm_snapshot *snap)
{
	struct kvm_timer *timer = &vcpu->arch.apic->lapic_timer;
	ktime_t left;
	u64 deadline;

	timer->tscdeadline = 0;
	timer->period = 0;
	if (hpkvm_deadline_mode(vcpu)) {
		deadline = hpkvm_timer_guest_deadline(vcpu, snap->deadline);
		if (snap->deadline)
			kvm_set_lapic_tscdeadline_msr(vcpu, deadline);
		return;
	}

	kvm_x2apic_msr_write(vcpu, X2APIC_MSR(APIC_TDCR), snap->tdcr);
	if (!snap->tmcct) {
		hpkvm_set_vreg(vcpu->arch.apic, APIC_TMICT, snap->tmict);
		return;
	}
	/* Start with the initial count, then put the expiry where it was. */
	kvm_x2apic_msr_write(vcpu, X2APIC_MSR(APIC_TMICT), snap->tmict);
	kvm_lapic_switch_to_sw_timer(vcpu);
	left = ns_to_ktime((u64)snap->tmcct * vcpu->arch.apic->divide_count *
			   vcpu->kvm->arch.apic_bus_cycle_ns);
	timer->target_expiration = ktime_add(ktime_get(), left);
	hrtimer_start(&timer->timer, timer->target_expiration,
		      HRTIMER_MODE_ABS_HARD);
}

/**
 * hpkvm_timer_start - give the core its LVTT, and the timer if that can be direct
 * @vcpu: a vCPU with a core, preemptible
 */
void hpkvm_timer_start(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	struct hpkvm_timer_start_call call = { .vcpu = vcpu };

	h->timer_direct = hpkvm_timer_can_be_direct(vcpu);
	if (h->timer_direct) {
		call.counting = hpkvm_timer_stop_virtual(vcpu) &&
				!hpkvm_fault_drop(vcpu, HPKVM_FAULT_PROMOTE,
						  hpkvm_timer_vector(vcpu));
	} else {
		/*
		 * The vendor's timer goes by the guest's TSC.  If that was set
		 * since the period began, as after migration, it is wrong until
		 * the next one.
		 */
		kvm_lapic_switch_to_sw_timer(vcpu);
	}

	/* Somebody may move the thread away meanwhile: the next entry demotes. */
	smp_call_function_single(h->cpu, hpkvm_timer_start_physical, &call, 1);
}

/**
 * hpkvm_timer_show_expired - have an expired timer's interrupt in KVM's IRR
 * @vcpu: a vCPU of any kind, in emulated mode
 *
 * A timer that expired since the vCPU ran last: stock KVM keeps that to itself
 * until the next entry, and a VM that is saved now never sees the interrupt.
 * Not in TSC-deadline mode: who saves TSC_DEADLINE saves it still armed.
 */
void hpkvm_timer_show_expired(struct kvm_vcpu *vcpu)
{
	if (!vcpu->kvm->arch.hpkvm_features || !lapic_in_kernel(vcpu) ||
	    hpkvm_deadline_mode(vcpu))
		return;
	/* The vendor's timer stands still while nobody is in KVM_RUN. */
	kvm_lapic_switch_to_sw_timer(vcpu);
	kvm_inject_pending_timer_irqs(vcpu);
}
