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

#include "hpkvm.h"
#include "hpkvm_fault.h"
#include "hpkvm_int.h"
#include "irq.h"
#include "lapic.h"
#include "x86.h"

#define HPKVM_TIMER_NEAR_US	20
/* Counts with the divider at 1 that are possible with that at 128. */
#define HPKVM_TIMER_MAX		((U32_MAX - 2ull) << 7)
/*
 * So many are KVM's.  Well below what a count is cut to, or time that passes
 * could make one that was cut look whole.
 */
#define HPKVM_TIMER_FAR		(HPKVM_TIMER_MAX / 2)
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
 * demoted in every period would never see it fire.  Nor would one that is
 * demoted soon after each promotion, so a period that has been in the core once
 * is ended by the hrtimer.
 */
static bool hpkvm_timer_amid_period(struct kvm_vcpu *vcpu)
{
	struct kvm_timer *timer = &vcpu->arch.apic->lapic_timer;
	s64 late_ns = max_t(s64, timer->period / 16, HPKVM_PERIOD_LATE_NS);

	if (!hpkvm_timer_is_periodic(vcpu) || vcpu->arch.hpkvm.timer_direct)
		return false;
	if (!hrtimer_active(&timer->timer) && !kvm_lapic_hv_timer_in_use(vcpu))
		return false;
	return timer->target_expiration == vcpu->arch.hpkvm.period_end ||
	       ktime_to_ns(ktime_sub(timer->target_expiration, ktime_get())) <
	       timer->period - late_ns;
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
 * How long the guest's TSC takes to get to @deadline, in cycles of the host's,
 * of which the present one is @now; never less, 0 if it is there.  Reckoned from
 * now on: the difference between the two TSCs would wrap for a deadline from
 * before the host's began, or after it ends.
 */
static u64 hpkvm_timer_left(struct kvm_vcpu *vcpu, u64 deadline, u64 now)
{
	u64 guest_now = kvm_read_l1_tsc(vcpu, now);

	if (deadline <= guest_now)
		return 0;
	if (hpkvm_tsc_is_scaled(vcpu))
		return hpkvm_timer_unscale(vcpu, deadline - guest_now);
	return deadline - guest_now;
}

/**
 * hpkvm_timer_host_has_deadline - do this host's timers have TSC-deadline mode?
 *
 * AMD's have not: there the core's timer counts down to the guest's deadline.
 *
 * Return: true if they have.
 */
bool hpkvm_timer_host_has_deadline(void)
{
	return boot_cpu_has(X86_FEATURE_TSC_DEADLINE_TIMER);
}

/* Why the core's timer cannot count down to the guest's deadline, or NONE. */
static u32 hpkvm_timer_why_not_counted(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	u64 deadline = h->timer_direct ? h->deadline :
		       vcpu->arch.apic->lapic_timer.tscdeadline;
	u64 left = deadline ? hpkvm_timer_left(vcpu, deadline, rdtsc()) : 0;

	if (dedicated_cpu_timer_counts(h->cpu, 0) == U64_MAX)
		return KVM_HPKVM_TIMER_REASON_RATE;
	if (dedicated_cpu_timer_counts(h->cpu, left) > HPKVM_TIMER_FAR)
		return KVM_HPKVM_TIMER_REASON_FAR;
	return KVM_HPKVM_TIMER_REASON_NONE;
}

/**
 * hpkvm_timer_why_emulated - can the core's timer be the guest's now?
 * @vcpu: a vCPU with a core
 *
 * Return: enum kvm_hpkvm_timer_reason: why it has to stay KVM's hrtimer, for
 * the time being at least, or NONE.
 */
u32 hpkvm_timer_why_emulated(struct kvm_vcpu *vcpu)
{
	u32 lvtt = kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT);

	if (!hpkvm_feature(vcpu, KVM_HPKVM_F_DIRECT_TIMER))
		return KVM_HPKVM_TIMER_REASON_FEATURE_OFF;
	if (!hpkvm_timer_vector_ok(lvtt))
		return KVM_HPKVM_TIMER_REASON_VECTOR;
	/* Reserved, but a guest may write it to KVM's. */
	if (hpkvm_lvtt_mode(lvtt) == LVTT_MODES)
		return KVM_HPKVM_TIMER_REASON_MODE;
	if (hpkvm_deadline_mode(vcpu))
		return hpkvm_timer_host_has_deadline() ?
		       KVM_HPKVM_TIMER_REASON_NONE :
		       hpkvm_timer_why_not_counted(vcpu);
	if (!dedicated_cpu_timer_rate_ok(vcpu->arch.hpkvm.cpu,
					 vcpu->kvm->arch.apic_bus_cycle_ns))
		return KVM_HPKVM_TIMER_REASON_RATE;
	return hpkvm_timer_amid_period(vcpu) ?
	       KVM_HPKVM_TIMER_REASON_AMID_PERIOD : KVM_HPKVM_TIMER_REASON_NONE;
}

/**
 * hpkvm_timer_why_intercepted - can the guest have TSC_DEADLINE?
 * @vcpu: a vCPU whose timer is direct, in TSC-deadline mode
 *
 * Return: enum kvm_hpkvm_timer_reason: why its accesses exit, or NONE.
 */
u32 hpkvm_timer_why_intercepted(struct kvm_vcpu *vcpu)
{
	if (!hpkvm_timer_host_has_deadline())
		return KVM_HPKVM_TIMER_REASON_NO_DEADLINE;
	if (vcpu->arch.l1_tsc_offset || hpkvm_tsc_is_scaled(vcpu))
		return KVM_HPKVM_TIMER_REASON_TSC;
	/* User space may filter the MSR at any time, and then sees every access. */
	if (!kvm_msr_allowed(vcpu, MSR_IA32_TSC_DEADLINE, KVM_MSR_FILTER_READ) ||
	    !kvm_msr_allowed(vcpu, MSR_IA32_TSC_DEADLINE, KVM_MSR_FILTER_WRITE))
		return KVM_HPKVM_TIMER_REASON_FILTER;
	return KVM_HPKVM_TIMER_REASON_NONE;
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
	if (!hpkvm_timer_host_has_deadline())
		lvtt &= ~APIC_LVT_TIMER_TSCDEADLINE;
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

/*
 * What the host's TSC will be when the guest's is @deadline, or is now if that
 * has passed; never 0, which would disarm.
 */
static u64 hpkvm_timer_physical_deadline(struct kvm_vcpu *vcpu, u64 deadline)
{
	u64 now = rdtsc(), physical;

	return check_add_overflow(now, hpkvm_timer_left(vcpu, deadline, now),
				  &physical) ? U64_MAX : physical;
}

/* The guest's TSC by what it was when the core's timer was armed. */
static u64 hpkvm_timer_guest_tsc(struct kvm_vcpu *vcpu, u64 tsc)
{
	return kvm_read_l1_tsc(vcpu, tsc) - vcpu->arch.l1_tsc_offset +
	       vcpu->arch.hpkvm.tsc_offset;
}

/*
 * The inverse of hpkvm_timer_physical_deadline(); later by some ticks at most if
 * the guest's TSC is scaled.
 */
static u64 hpkvm_timer_guest_deadline(struct kvm_vcpu *vcpu, u64 physical)
{
	if (!physical || physical == U64_MAX)
		return physical;
	return hpkvm_timer_guest_tsc(vcpu, physical);
}

/* TDCR's encoding of a divider of 1 << @shift, and back. */
static u32 hpkvm_timer_tdcr(unsigned int shift)
{
	unsigned int code = (shift - 1) & 7;

	return (code & 3) | (code & 4) << 1;
}

static unsigned int hpkvm_timer_shift(u32 tdcr)
{
	return (((tdcr & 3) | (tdcr & 8) >> 1) + 1) & 7;
}

/*
 * Have a one-shot count expire at @deadline of the guest's TSC, 0 to disarm.  One
 * that is too far is taken to KVM's hrtimer before the guest runs again.
 */
static void hpkvm_timer_count_down(struct kvm_vcpu *vcpu, u64 deadline)
{
	u64 left = hpkvm_timer_left(vcpu, deadline, rdtsc());
	u64 counts = dedicated_cpu_timer_counts(vcpu->arch.hpkvm.cpu, left);
	unsigned int shift = 0;

	vcpu->arch.hpkvm.deadline = deadline;
	/* What is left of the last count must not go on with another divider. */
	native_apic_msr_write(APIC_TMICT, 0);
	if (!deadline)
		return;
	/* No way back into the guest but by hpkvm_refresh_timer(). */
	if (counts > HPKVM_TIMER_FAR)
		kvm_make_request(KVM_REQ_EVENT, vcpu);
	counts = min(counts, HPKVM_TIMER_MAX);
	/* Rounded up, and one more: the divider does not begin anew. */
	while ((counts >> shift) + 2 > U32_MAX)
		shift++;
	native_apic_msr_write(APIC_TDCR, hpkvm_timer_tdcr(shift));
	native_apic_msr_write(APIC_TMICT, (counts >> shift) + 2);
}

/*
 * The deadline that the count stands for, 0 if it has expired.  Never early, so
 * that a 0 before the deadline is of a count that has not begun.
 */
static u64 hpkvm_timer_counted(struct kvm_vcpu *vcpu, u32 tmcct)
{
	u64 deadline = vcpu->arch.hpkvm.deadline;

	return tmcct || hpkvm_timer_guest_tsc(vcpu, rdtsc()) < deadline ?
	       deadline : 0;
}

/**
 * hpkvm_timer_write_deadline - arm the core's timer in TSC-deadline mode
 * @vcpu: the vCPU, on its core
 * @deadline: the guest's TSC at expiry, 0 to disarm
 */
void hpkvm_timer_write_deadline(struct kvm_vcpu *vcpu, u64 deadline)
{
	if (hpkvm_timer_host_has_deadline())
		wrmsrl(MSR_IA32_TSC_DEADLINE, deadline ?
		       hpkvm_timer_physical_deadline(vcpu, deadline) : 0);
	else
		hpkvm_timer_count_down(vcpu, deadline);
}

/**
 * hpkvm_timer_read_deadline - what the guest finds in TSC_DEADLINE
 * @vcpu: the vCPU, on its core, with its timer in TSC-deadline mode
 *
 * Return: the guest's TSC at expiry, 0 if the timer is not armed.
 */
u64 hpkvm_timer_read_deadline(struct kvm_vcpu *vcpu)
{
	u64 deadline;

	if (!hpkvm_timer_host_has_deadline())
		return hpkvm_timer_counted(vcpu,
					   native_apic_msr_read(APIC_TMCCT));
	rdmsrl(MSR_IA32_TSC_DEADLINE, deadline);
	return hpkvm_timer_guest_deadline(vcpu, deadline);
}

/**
 * hpkvm_timer_switch_mode - the guest went to TSC-deadline mode, or left it
 * @vcpu: the vCPU, on its core, with KVM's LVTT in the new mode
 *
 * Intel SDM 11.5.4.1: this disarms the timer.  In TSC-deadline mode the divider
 * of the guest's is KVM's, otherwise the core's.
 */
void hpkvm_timer_switch_mode(struct kvm_vcpu *vcpu)
{
	struct kvm_lapic *apic = vcpu->arch.apic;
	u32 tdcr;

	native_apic_msr_write(APIC_TMICT, 0);
	vcpu->arch.hpkvm.deadline = 0;
	if (!hpkvm_deadline_mode(vcpu)) {
		native_apic_msr_write(APIC_TDCR, kvm_lapic_get_reg(apic, APIC_TDCR) &
						 TDCR_BITS);
		return;
	}
	/* Not by KVM's accessors, which may sleep. */
	tdcr = native_apic_msr_read(APIC_TDCR);
	hpkvm_set_vreg(apic, APIC_TDCR, tdcr);
	apic->divide_count = 1 << hpkvm_timer_shift(tdcr);
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
	u64 count;		/* if not in TSC-deadline mode */
};

/* On the core, interrupts disabled. */
static void hpkvm_timer_start_physical(void *arg)
{
	struct hpkvm_timer_start_call *call = arg;
	struct kvm_vcpu *vcpu = call->vcpu;
	struct kvm_lapic *apic = vcpu->arch.apic;

	hpkvm_timer_write_lvtt(vcpu);
	if (!vcpu->arch.hpkvm.timer_direct)
		return;
	if (hpkvm_deadline_mode(vcpu)) {
		hpkvm_timer_write_deadline(vcpu, call->counting ?
					   apic->lapic_timer.tscdeadline : 0);
		return;
	}

	native_apic_msr_write(APIC_TDCR, kvm_lapic_get_reg(apic, APIC_TDCR) &
					 TDCR_BITS);
	native_apic_msr_write(APIC_TMICT, call->count);
}

/* What is left of KVM's count, as long as KVM is who knows. */
static u64 hpkvm_timer_virtual_count(struct kvm_vcpu *vcpu)
{
	u64 count;

	/* Hardware restarts the period: this tick may come later. */
	if (hpkvm_timer_is_periodic(vcpu))
		return kvm_lapic_get_reg(vcpu->arch.apic, APIC_TMICT);
	kvm_x2apic_msr_read(vcpu, X2APIC_MSR(APIC_TMCCT), &count);
	return max(count, 1ull);
}

/* A timer this close to expiry is waited for: it fires before it is stopped. */
static u64 hpkvm_timer_near(void)
{
	return (u64)tsc_khz * HPKVM_TIMER_NEAR_US / 1000;
}

static void hpkvm_timer_stop_deadline(struct kvm_vcpu *vcpu,
				      struct hpkvm_snapshot *snap)
{
	u64 near = hpkvm_timer_near(), start = rdtsc(), deadline;

	do {
		rdmsrl(MSR_IA32_TSC_DEADLINE, deadline);
	} while (deadline && deadline < start + near &&
		 rdtsc() < start + 2 * near);
	/* An NMI can take longer than that. */
	if (deadline <= rdtsc())
		deadline = 0;
	wrmsrl(MSR_IA32_TSC_DEADLINE, 0);
	snap->deadline = hpkvm_timer_guest_deadline(vcpu, deadline);
}

static void hpkvm_timer_stop_count(struct kvm_vcpu *vcpu,
				   struct hpkvm_snapshot *snap)
{
	unsigned int shift, cpu = vcpu->arch.hpkvm.cpu;
	u64 near = hpkvm_timer_near(), start = rdtsc();
	u64 near_counts, read_at, counted;

	snap->tmict = native_apic_msr_read(APIC_TMICT);
	snap->tdcr = native_apic_msr_read(APIC_TDCR);
	shift = hpkvm_timer_shift(snap->tdcr);
	near_counts = dedicated_cpu_timer_counts(cpu, near) >> shift;
	do {
		read_at = rdtsc();
		snap->tmcct = native_apic_msr_read(APIC_TMCCT);
	} while (snap->tmcct && snap->tmcct < near_counts &&
		 rdtsc() < start + 2 * near);
	/* An NMI can take longer than that.  What is counted is rounded up. */
	counted = dedicated_cpu_timer_counts(cpu, rdtsc() - read_at) >> shift;
	if (counted - counted / 64 > snap->tmcct)
		snap->tmcct = 0;
	native_apic_msr_write(APIC_TMICT, 0);
	/* A period that is over is followed by another. */
	if (!snap->tmcct && hpkvm_lvtt_mode(vcpu->arch.hpkvm.lvtt) ==
			    APIC_LVT_TIMER_PERIODIC)
		snap->tmcct = snap->tmict;
}

/**
 * hpkvm_timer_stop - stop the core's timer, which was the guest's
 * @vcpu: the vCPU
 * @snap: out: what is left of it
 *
 * Called on the core with interrupts disabled.  KVM's LVTT may be of another
 * mode already.
 */
void hpkvm_timer_stop(struct kvm_vcpu *vcpu, struct hpkvm_snapshot *snap)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	bool deadline = hpkvm_lvtt_mode(h->lvtt) == APIC_LVT_TIMER_TSCDEADLINE;

	if (deadline && hpkvm_timer_host_has_deadline())
		hpkvm_timer_stop_deadline(vcpu, snap);
	else
		hpkvm_timer_stop_count(vcpu, snap);
	native_apic_msr_write(APIC_LVTT, APIC_LVT_MASKED | LOCAL_TIMER_VECTOR);
	if (!deadline)
		return;
	/* The count and its divider were ours, or nobody's. */
	if (!hpkvm_timer_host_has_deadline())
		snap->deadline = hpkvm_timer_counted(vcpu, snap->tmcct);
	snap->tmict = 0;
	snap->tmcct = 0;
	snap->tdcr = kvm_lapic_get_reg(vcpu->arch.apic, APIC_TDCR);
}

/**
 * hpkvm_timer_follow_tsc - the guest may have set its TSC
 * @vcpu: the vCPU, on its core, with its timer in TSC-deadline mode
 *
 * What it has armed is as far away as the new TSC says.  What has expired is
 * forgotten, or a TSC that was set back would have it armed.
 */
void hpkvm_timer_follow_tsc(struct kvm_vcpu *vcpu)
{
	struct hpkvm_snapshot snap = {};
	unsigned long flags;

	local_irq_save(flags);
	hpkvm_timer_stop(vcpu, &snap);
	vcpu->arch.hpkvm.tsc_offset = vcpu->arch.l1_tsc_offset;
	hpkvm_timer_write_lvtt(vcpu);
	hpkvm_timer_write_deadline(vcpu, snap.deadline);
	local_irq_restore(flags);
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

	timer->tscdeadline = 0;
	timer->period = 0;
	kvm_x2apic_msr_write(vcpu, X2APIC_MSR(APIC_TDCR), snap->tdcr);
	if (hpkvm_deadline_mode(vcpu)) {
		if (snap->deadline)
			kvm_set_lapic_tscdeadline_msr(vcpu, snap->deadline);
		return;
	}

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
	vcpu->arch.hpkvm.period_end = timer->target_expiration;
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

	h->timer_why = hpkvm_timer_why_emulated(vcpu);
	h->tsc_offset = vcpu->arch.l1_tsc_offset;
	if (!h->timer_why) {
		call.counting = hpkvm_timer_stop_virtual(vcpu) &&
				!hpkvm_fault_drop(vcpu, HPKVM_FAULT_PROMOTE,
						  hpkvm_timer_vector(vcpu));
		if (call.counting && !hpkvm_deadline_mode(vcpu))
			call.count = hpkvm_timer_virtual_count(vcpu);
	} else {
		/*
		 * The vendor's timer goes by the guest's TSC.  If that was set
		 * since the period began, as after migration, it is wrong until
		 * the next one.
		 */
		kvm_lapic_switch_to_sw_timer(vcpu);
	}
	/* From here on TMCCT is the core's. */
	h->timer_direct = !h->timer_why;

	/* Somebody may move the thread away meanwhile: the next entry demotes. */
	smp_call_function_single(h->cpu, hpkvm_timer_start_physical, &call, 1);
}

/*
 * Has KVM's timer expired, and its callback has yet to say so?  What is left is
 * less than a count.
 */
static bool hpkvm_timer_callback_is_late(struct kvm_vcpu *vcpu)
{
	struct kvm_timer *timer = &vcpu->arch.apic->lapic_timer;
	u64 count_ns = (u64)vcpu->kvm->arch.apic_bus_cycle_ns *
		       vcpu->arch.apic->divide_count;

	return hrtimer_active(&timer->timer) && !atomic_read(&timer->pending) &&
	       !ktime_before(ktime_add_ns(ktime_get(), count_ns),
			     READ_ONCE(timer->target_expiration));
}

/**
 * __kvm_hpkvm_timer_expired - is a timer's interrupt missing from what is saved?
 * @vcpu: a vCPU of any kind, in emulated mode, with a local APIC in the kernel
 * @s: what KVM_GET_LAPIC is about to return
 *
 * A timer that expired since the vCPU ran last: stock KVM keeps that to itself
 * until the next entry, and a VM that is saved now never sees the interrupt.  A
 * callback that is late makes it worse: nothing is left of the period, and to
 * whoever restores that, another begins.
 *
 * Not in TSC-deadline mode: who saves TSC_DEADLINE saves it still armed.
 *
 * Return: true if the interrupt has come to KVM's local APIC meanwhile, whose
 * state must be read again.
 */
bool __kvm_hpkvm_timer_expired(struct kvm_vcpu *vcpu, struct kvm_lapic_state *s)
{
	if (hpkvm_deadline_mode(vcpu))
		return false;
	/* The vendor's timer stands still while nobody is in KVM_RUN. */
	kvm_lapic_switch_to_sw_timer(vcpu);
	while (!__kvm_lapic_get_reg(s->regs, APIC_TMCCT) &&
	       hpkvm_timer_callback_is_late(vcpu))
		cpu_relax();
	if (!apic_has_pending_timer(vcpu))
		return false;
	kvm_inject_pending_timer_irqs(vcpu);
	return true;
}
