// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM dedicated cores: the state machine of a bound vCPU.
 *
 * A bound vCPU is *emulated* (stock KVM's local APIC) or in *passthrough* (the
 * guest drives the core's own).  This file owns the two transitions, promote
 * and demote, what happens at every guest entry and exit in between, and the
 * ioctls.  What VMX and SVM do differently is behind kvm_hpkvm_ops.
 *
 * It must never lose or double an interrupt at a transition, and never let a
 * value of the guest's reach a local APIC register of the core that could
 * disturb anybody else: no ICR, no delivery mode, no vector below 16.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kvm_host.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/smp.h>
#include <linux/uaccess.h>

#include <asm/apic.h>
#include <asm/dedicated_cpu.h>
#include <asm/irq_remapping.h>
#include <asm/kvm_hpkvm.h>
#include <asm/tsc.h>

#include "hpkvm.h"
#include "hpkvm_fault.h"
#include "hyperv.h"
#include "ioapic.h"
#include "irq.h"
#include "lapic.h"
#include "smm.h"
#include "x86.h"

#define CREATE_TRACE_POINTS
#include <trace/events/kvm_hpkvm.h>

#define X2APIC_MSR(reg)		(APIC_BASE_MSR + ((reg) >> 4))

#define LVTT_MODES		(APIC_LVT_TIMER_PERIODIC | \
				 APIC_LVT_TIMER_TSCDEADLINE)
/* All that TDCR has. */
#define TDCR_BITS		0xb

/* A timer this close to expiry is waited for: it fires before it is stopped. */
#define HPKVM_TIMER_NEAR_US	20
/* A periodic timer that is moved to the core may come so much late. */
#define HPKVM_PERIOD_LATE_NS	NSEC_PER_MSEC

DEFINE_STATIC_KEY_FALSE(kvm_hpkvm_key);
EXPORT_SYMBOL_GPL(kvm_hpkvm_key);

static const struct kvm_hpkvm_ops *hpkvm_ops;
static const char *hpkvm_lacks;

/* The physical local APIC as it was found by a demotion. */
struct hpkvm_snapshot {
	bool timer;		/* the fields up to @tdcr are valid */
	u64 deadline;		/* host TSC, 0 if not armed or fired */
	u32 tmict;
	u32 tmcct;
	u32 tdcr;
	u32 irr[DEDICATED_APIC_WORDS];
	u32 isr[DEDICATED_APIC_WORDS];
};

/**
 * kvm_hpkvm_set_ops - a vendor module comes or goes
 * @ops: what it offers, NULL when it goes
 * @lacks: a CPU feature that is missing, at most 31 characters, or NULL
 */
void kvm_hpkvm_set_ops(const struct kvm_hpkvm_ops *ops, const char *lacks)
{
	hpkvm_lacks = lacks;
	if (ops && lacks)
		pr_info("no dedicated cores: %s\n", lacks);
	if (ops)
		hpkvm_fault_init();
	else
		hpkvm_fault_exit();
	hpkvm_ops = ops;
}
EXPORT_SYMBOL_GPL(kvm_hpkvm_set_ops);

static int host_unsuitable(struct dedicated_refusal *why)
{
	if (hpkvm_ops && !hpkvm_lacks)
		return dedicated_cpu_host_unsuitable(why);
	why->reason = KVM_HPKVM_REASON_HOST_UNSUITABLE;
	strscpy(why->culprit, hpkvm_lacks ?: "no virtualization");
	return -EOPNOTSUPP;
}

/**
 * kvm_hpkvm_features - what this host can do
 *
 * Return: a mask of KVM_HPKVM_F_*, 0 if it cannot lease cores at all.
 */
u32 kvm_hpkvm_features(void)
{
	struct dedicated_refusal why;

	if (host_unsuitable(&why))
		return 0;
	return hpkvm_ops->features |
	       (irq_remapping_can_direct() ? KVM_HPKVM_F_DIRECT_VFIO : 0);
}

/**
 * kvm_hpkvm_enable - KVM_ENABLE_CAP(KVM_CAP_X86_HPKVM)
 * @kvm: a VM without vCPUs
 * @features: the wanted subset of kvm_hpkvm_features()
 *
 * Return: 0; -EINVAL for what this host cannot do, -EBUSY with vCPUs.
 */
int kvm_hpkvm_enable(struct kvm *kvm, u64 features)
{
	int ret;

	if (!features || (features & ~(u64)kvm_hpkvm_features()))
		return -EINVAL;

	mutex_lock(&kvm->lock);
	if (kvm->created_vcpus)
		ret = -EBUSY;
	else
		ret = kvm_hpkvm_ipi_init(kvm, hpkvm_ops->fast_ipi &&
					 features & KVM_HPKVM_F_DIRECT_IPI);
	if (!ret) {
		kvm->arch.hpkvm_features = features;
		kvm_set_apicv_inhibit(kvm, APICV_INHIBIT_REASON_HPKVM);
	}
	mutex_unlock(&kvm->lock);
	return ret;
}

static bool hpkvm_feature(struct kvm_vcpu *vcpu, u32 feature)
{
	return vcpu->kvm->arch.hpkvm_features & feature;
}

static void set_vreg(struct kvm_lapic *apic, u32 reg, u32 val)
{
	*(u32 *)(apic->regs + reg) = val;
}

/* ---- what the guest may touch ---- */

static void open_msr(struct kvm_vcpu *vcpu, u32 reg, bool read, bool write)
{
	hpkvm_ops->open_msr(vcpu, X2APIC_MSR(reg), read, write);
}

static void open_words(struct kvm_vcpu *vcpu, u32 reg, bool read)
{
	unsigned int i;

	for (i = 0; i < DEDICATED_APIC_WORDS; i++)
		open_msr(vcpu, reg + i * 0x10, read, false);
}

/* What moves with the gate: while it is shut, the priority is the host's. */
static void open_priority(struct kvm_vcpu *vcpu, bool open)
{
	open_msr(vcpu, APIC_TASKPRI, open, open);
	open_msr(vcpu, APIC_PROCPRI, open, false);
	open_words(vcpu, APIC_ISR, open);
	hpkvm_ops->trap_cr8(vcpu, !open);
}

static void open_eoi(struct kvm_vcpu *vcpu, bool open)
{
	open_msr(vcpu, APIC_EOI, false, open);
	/*
	 * A self-IPI is edge-triggered, so the physical TMR is 0 and a guest
	 * that looks at it would take a level-triggered interrupt for a lost
	 * one.  Show the virtual TMR while one is in flight.
	 */
	open_words(vcpu, APIC_TMR, open);
}

static u32 lvtt_mode(u32 lvtt)
{
	return lvtt & LVTT_MODES;
}

static bool deadline_mode(struct kvm_vcpu *vcpu)
{
	return lvtt_mode(kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT)) ==
	       APIC_LVT_TIMER_TSCDEADLINE;
}

static bool periodic_mode(struct kvm_vcpu *vcpu)
{
	return lvtt_mode(kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT)) ==
	       APIC_LVT_TIMER_PERIODIC;
}

static bool tsc_is_scaled(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.l1_tsc_scaling_ratio !=
	       kvm_caps.default_tsc_scaling_ratio;
}

/* User space may filter the MSR at any time, and then sees every access. */
static bool deadline_can_be_open(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.hpkvm.timer_direct && deadline_mode(vcpu) &&
	       !vcpu->arch.l1_tsc_offset && !tsc_is_scaled(vcpu) &&
	       kvm_msr_allowed(vcpu, MSR_IA32_TSC_DEADLINE,
			       KVM_MSR_FILTER_READ) &&
	       kvm_msr_allowed(vcpu, MSR_IA32_TSC_DEADLINE,
			       KVM_MSR_FILTER_WRITE);
}

static void open_deadline(struct kvm_vcpu *vcpu)
{
	bool open = deadline_can_be_open(vcpu);

	hpkvm_ops->open_msr(vcpu, MSR_IA32_TSC_DEADLINE, open, open);
	vcpu->arch.hpkvm.deadline_open = open;
}

static void open_timer(struct kvm_vcpu *vcpu)
{
	bool open = vcpu->arch.hpkvm.timer_direct && !deadline_mode(vcpu);

	open_msr(vcpu, APIC_TMICT, open, open);
	open_msr(vcpu, APIC_TMCCT, open, false);
	open_msr(vcpu, APIC_TDCR, open, open);
	open_deadline(vcpu);
}

static void open_all(struct kvm_vcpu *vcpu, bool open)
{
	open_priority(vcpu, open);
	open_eoi(vcpu, open);
	open_words(vcpu, APIC_IRR, open);
	open_msr(vcpu, APIC_SELF_IPI, false, open);
	open_timer(vcpu);
	if (!open)
		hpkvm_ops->trap_cr8(vcpu, false);
}

/* ---- the timer ---- */

/* Only a vector that nobody else needs may come from the core's timer. */
static bool timer_vector_ok(u32 lvtt)
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
static bool amid_period(struct kvm_vcpu *vcpu)
{
	struct kvm_timer *timer = &vcpu->arch.apic->lapic_timer;
	s64 late_ns = max_t(s64, timer->period / 16, HPKVM_PERIOD_LATE_NS);

	return periodic_mode(vcpu) && !vcpu->arch.hpkvm.timer_direct &&
	       (hrtimer_active(&timer->timer) ||
		kvm_lapic_hv_timer_in_use(vcpu)) &&
	       ktime_to_ns(ktime_sub(timer->target_expiration, ktime_get())) <
	       timer->period - late_ns;
}

static bool timer_can_be_direct(struct kvm_vcpu *vcpu)
{
	u32 lvtt = kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT);

	/* Both mode bits: reserved, but a guest may write them to KVM's. */
	if (!hpkvm_feature(vcpu, KVM_HPKVM_F_DIRECT_TIMER) ||
	    !timer_vector_ok(lvtt) || lvtt_mode(lvtt) == LVTT_MODES)
		return false;
	if (deadline_mode(vcpu))
		return boot_cpu_has(X86_FEATURE_TSC_DEADLINE_TIMER);
	return dedicated_cpu_timer_rate_ok(vcpu->arch.hpkvm.cpu,
					   vcpu->kvm->arch.apic_bus_cycle_ns) &&
	       !amid_period(vcpu);
}

/*
 * A masked entry needs no valid vector, but hardware insists on one.  And
 * KVM_SET_LAPIC can leave anything in a register of KVM's, such as a delivery
 * mode, or reserved bits that would fault.
 */
static u32 physical_lvtt(u32 lvtt)
{
	lvtt &= APIC_VECTOR_MASK | APIC_LVT_MASKED | LVTT_MODES;
	if (!timer_vector_ok(lvtt & ~APIC_LVT_MASKED))
		lvtt = (lvtt & ~APIC_VECTOR_MASK) | LOCAL_TIMER_VECTOR;
	return lvtt;
}

static void write_lvtt(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;

	h->lvtt = kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT);
	native_apic_msr_write(APIC_LVTT, h->timer_direct ?
			      physical_lvtt(h->lvtt) :
			      APIC_LVT_MASKED | LOCAL_TIMER_VECTOR);
	/* Intel SDM 11.5.4.1: LVTT before TSC_DEADLINE. */
	asm volatile("mfence" : : : "memory");
}

/* How long the guest's TSC takes for @ticks, in ticks of the host's; never less. */
static u64 unscale_ticks(struct kvm_vcpu *vcpu, u64 ticks)
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
static u64 physical_deadline(struct kvm_vcpu *vcpu, u64 deadline)
{
	u64 now = rdtsc(), guest_now = kvm_read_l1_tsc(vcpu, now);
	u64 left = deadline - guest_now, physical;

	if (deadline <= guest_now)
		return now;
	if (tsc_is_scaled(vcpu))
		left = unscale_ticks(vcpu, left);
	return check_add_overflow(now, left, &physical) ? U64_MAX : physical;
}

/* The inverse; later by some ticks at most if the guest's TSC is scaled. */
static u64 guest_deadline(struct kvm_vcpu *vcpu, u64 physical)
{
	return physical == U64_MAX ? physical : kvm_read_l1_tsc(vcpu, physical);
}

static void write_deadline(struct kvm_vcpu *vcpu, u64 deadline)
{
	wrmsrl(MSR_IA32_TSC_DEADLINE,
	       deadline ? physical_deadline(vcpu, deadline) : 0);
}

static u8 timer_vector(struct kvm_vcpu *vcpu)
{
	return kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT) & APIC_VECTOR_MASK;
}

/*
 * Take over a virtual timer.  Interrupts are on: the hrtimer's callback may
 * have to finish.  Return true if the timer was counting.
 */
static bool stop_virtual_timer(struct kvm_vcpu *vcpu)
{
	bool counting;

	/* It may be one of the vendor's. */
	kvm_lapic_switch_to_sw_timer(vcpu);
	counting = hrtimer_cancel(&vcpu->arch.apic->lapic_timer.timer);
	/* It may have expired before. */
	kvm_inject_apic_timer_irqs(vcpu);
	return counting;
}

struct start_call {
	struct kvm_vcpu *vcpu;
	bool counting;
};

/* On the core, interrupts disabled. */
static void start_physical_timer(void *arg)
{
	struct start_call *call = arg;
	struct kvm_vcpu *vcpu = call->vcpu;
	struct kvm_lapic *apic = vcpu->arch.apic;
	bool counting = call->counting;
	u64 count = 0;

	write_lvtt(vcpu);
	if (!vcpu->arch.hpkvm.timer_direct)
		return;
	if (deadline_mode(vcpu)) {
		write_deadline(vcpu, counting ? apic->lapic_timer.tscdeadline : 0);
		return;
	}

	if (counting && periodic_mode(vcpu)) {
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

/* On the core, interrupts disabled. */
static void stop_physical_timer(struct hpkvm_snapshot *snap, bool deadline)
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

static void start_virtual_timer(struct kvm_vcpu *vcpu,
				const struct hpkvm_snapshot *snap)
{
	struct kvm_timer *timer = &vcpu->arch.apic->lapic_timer;
	ktime_t left;
	u64 deadline;

	timer->tscdeadline = 0;
	timer->period = 0;
	if (deadline_mode(vcpu)) {
		deadline = guest_deadline(vcpu, snap->deadline);
		if (snap->deadline)
			kvm_set_lapic_tscdeadline_msr(vcpu, deadline);
		return;
	}

	kvm_x2apic_msr_write(vcpu, X2APIC_MSR(APIC_TDCR), snap->tdcr);
	if (!snap->tmcct) {
		set_vreg(vcpu->arch.apic, APIC_TMICT, snap->tmict);
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

/* ---- promote and demote ---- */

static bool hv_synic_active(struct kvm_vcpu *vcpu)
{
#ifdef CONFIG_KVM_HYPERV
	return to_hv_vcpu(vcpu) && to_hv_synic(vcpu)->active;
#else
	return false;
#endif
}

/*
 * Linux enables SVM or VMX for itself at boot if it can.  That alone does no
 * harm; but once the guest has run a guest of its own, stay out of its way
 * until it gives virtualization up.
 */
static bool runs_nested_guests(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;

	if (!(vcpu->arch.efer & EFER_SVME) &&
	    !kvm_is_cr4_bit_set(vcpu, X86_CR4_VMXE))
		h->nested = false;
	else if (is_guest_mode(vcpu))
		h->nested = true;
	return h->nested;
}

static u32 why_emulated(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	struct kvm_lapic *apic = vcpu->arch.apic;

	if (!hpkvm_feature(vcpu, KVM_HPKVM_F_DIRECT_IRQ))
		return KVM_HPKVM_REASON_FEATURE_OFF;
	if (raw_smp_processor_id() != h->cpu || current->nr_cpus_allowed != 1)
		return KVM_HPKVM_REASON_WRONG_CPU;
	if (!apic_x2apic_mode(apic))
		return KVM_HPKVM_REASON_LAPIC_MODE;
	if (!kvm_apic_sw_enabled(apic))
		return KVM_HPKVM_REASON_LAPIC_DISABLED;
	if (runs_nested_guests(vcpu))
		return KVM_HPKVM_REASON_NESTED;
	if (vcpu->guest_debug || is_smm(vcpu) || hv_synic_active(vcpu) ||
	    vcpu->arch.guest_state_protected)
		return KVM_HPKVM_REASON_DEBUG;
	if (kvm_cpu_has_extint(vcpu))
		return KVM_HPKVM_REASON_EXTINT;
	if (h->passthrough)
		return KVM_HPKVM_REASON_NONE;
	/* Something of the virtual local APIC's is on its way into the guest. */
	if (apic->isr_count || vcpu->arch.interrupt.injected)
		return KVM_HPKVM_REASON_IRQ_IN_SERVICE;
	if (kvm_vcpu_apicv_active(vcpu) ||
	    kvm_test_request(KVM_REQ_APICV_UPDATE, vcpu))
		return KVM_HPKVM_REASON_NOT_ENTERED;
	return KVM_HPKVM_REASON_NONE;
}

/* Give the core its LVTT, and the timer if that can be direct. */
static void start_timer(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	struct start_call call = { .vcpu = vcpu };

	h->timer_direct = timer_can_be_direct(vcpu);
	if (h->timer_direct) {
		call.counting = stop_virtual_timer(vcpu) &&
				!hpkvm_fault_drop(vcpu, HPKVM_FAULT_PROMOTE,
						  timer_vector(vcpu));
	} else {
		/*
		 * The vendor's timer goes by the guest's TSC.  If that was set
		 * since the period began, as after migration, it is wrong until
		 * the next one.
		 */
		kvm_lapic_switch_to_sw_timer(vcpu);
	}

	/* Somebody may move the thread away meanwhile: the next entry demotes. */
	smp_call_function_single(h->cpu, start_physical_timer, &call, 1);
}

static void promote(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;

	bitmap_zero(h->eoi_vectors, 256);
	h->eoi_trapped = false;
	h->gate_shut = false;
	h->hlt_trapped = false;

	start_timer(vcpu);
	hpkvm_ops->set_passthrough(vcpu, true);
	open_all(vcpu, true);
	/* A sender that sees this finds the core's local APIC ready. */
	smp_store_release(&h->passthrough, true);
	kvm_hpkvm_ipi_add(vcpu);
	kvm_hpkvm_irq_promoted(vcpu);

	++vcpu->stat.hpkvm_promotions;
	trace_kvm_hpkvm_promote(vcpu->vcpu_id, h->cpu, 0);
}

/* On the core, interrupts disabled. */
static void take_snapshot(struct kvm_vcpu *vcpu, struct hpkvm_snapshot *snap)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;

	snap->timer = h->timer_direct;
	if (snap->timer)
		stop_physical_timer(snap, lvtt_mode(h->lvtt) ==
					  APIC_LVT_TIMER_TSCDEADLINE);
	dedicated_cpu_drain(snap->irr, snap->isr);
}

struct snapshot_call {
	struct kvm_vcpu *vcpu;
	struct hpkvm_snapshot *snap;
};

static void snapshot_call(void *arg)
{
	struct snapshot_call *call = arg;

	take_snapshot(call->vcpu, call->snap);
}

static void restore_virtual_apic(struct kvm_vcpu *vcpu,
				 const struct hpkvm_snapshot *snap)
{
	struct kvm_lapic *apic = vcpu->arch.apic;
	unsigned int vector;

	for (vector = 16; vector < 256; vector++) {
		if (snap->isr[vector / 32] & BIT(vector % 32))
			kvm_lapic_set_vector(vector, apic->regs + APIC_ISR);
		if (snap->irr[vector / 32] & BIT(vector % 32) &&
		    !hpkvm_fault_drop(vcpu, HPKVM_FAULT_DEMOTE, vector))
			kvm_lapic_set_irr(vector, apic);
	}
	/* Recount what was set behind the accessors' back. */
	kvm_apic_update_apicv(vcpu);
	kvm_apic_update_ppr(vcpu);
	if (snap->timer)
		start_virtual_timer(vcpu, snap);
}

/**
 * __kvm_hpkvm_demote - move the local APIC's state back into KVM's
 * @vcpu: a vCPU in passthrough, loaded and not running
 * @reason: enum kvm_hpkvm_reason
 *
 * May sleep: it waits for those who are sending to the core.  When it
 * returns, KVM's local APIC is exactly what the guest would have seen.
 */
void __kvm_hpkvm_demote(struct kvm_vcpu *vcpu, u32 reason)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	struct hpkvm_snapshot snap = {};
	struct snapshot_call call = { .vcpu = vcpu, .snap = &snap };

	if (reason == KVM_HPKVM_REASON_NESTED)
		h->nested = true;
	WRITE_ONCE(h->passthrough, false);
	WRITE_ONCE(h->reason, reason);
	kvm_hpkvm_irq_demote(vcpu);
	kvm_hpkvm_ipi_del(vcpu);
	synchronize_rcu();

	smp_call_function_single(h->cpu, snapshot_call, &call, 1);
	h->timer_direct = false;
	open_all(vcpu, false);
	if (h->hlt_trapped)
		hpkvm_ops->trap_hlt(vcpu, false);
	hpkvm_ops->set_passthrough(vcpu, false);
	restore_virtual_apic(vcpu, &snap);
	kvm_hpkvm_irq_forwarded(vcpu, snap.irr);
	kvm_make_request(KVM_REQ_EVENT, vcpu);

	++vcpu->stat.hpkvm_demotions;
	trace_kvm_hpkvm_demote(vcpu->vcpu_id, h->cpu, reason);
}
EXPORT_SYMBOL_GPL(__kvm_hpkvm_demote);

/*
 * Stay on the core to access its registers; put_core() ends it.  User space
 * can move the thread away at any time: then demote, and return false.
 */
static bool get_core(struct kvm_vcpu *vcpu)
{
	if (likely(get_cpu() == vcpu->arch.hpkvm.cpu))
		return true;
	put_cpu();
	__kvm_hpkvm_demote(vcpu, KVM_HPKVM_REASON_WRONG_CPU);
	return false;
}

static void put_core(void)
{
	put_cpu();
}

/* The guest wrote LVTT, which exits, and stock KVM has seen the write. */
static void refresh_timer(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	u32 lvtt = kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT);
	bool direct = timer_can_be_direct(vcpu);

	if (direct && !h->timer_direct) {
		start_timer(vcpu);
		open_timer(vcpu);
		return;
	}
	if (!direct && h->timer_direct) {
		/*
		 * Moving a timer that counts is what demotion is for.  It has
		 * to stay at that while an interrupt is in service.
		 */
		__kvm_hpkvm_demote(vcpu, KVM_HPKVM_REASON_TIMER_VECTOR);
		if (!why_emulated(vcpu))
			promote(vcpu);
		return;
	}
	if (lvtt != h->lvtt && direct) {
		if (!get_core(vcpu))
			return;
		/* Intel SDM 11.5.4.1: to or from TSC-deadline mode disarms. */
		if ((lvtt ^ h->lvtt) & APIC_LVT_TIMER_TSCDEADLINE)
			native_apic_msr_write(APIC_TMICT, 0);
		write_lvtt(vcpu);
		put_core();
		open_timer(vcpu);
	}
	h->lvtt = lvtt;
	if (h->deadline_open != deadline_can_be_open(vcpu))
		open_deadline(vcpu);
}

/**
 * __kvm_hpkvm_update - bring a bound vCPU into the mode its state allows
 * @vcpu: a vCPU about to enter the guest, preemptible
 *
 * Return: false if a demotion found the guest asleep.
 */
bool __kvm_hpkvm_update(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	u32 reason = why_emulated(vcpu);

	if (reason && h->passthrough)
		__kvm_hpkvm_demote(vcpu, reason);
	else if (!reason && !h->passthrough)
		promote(vcpu);
	else if (!reason)
		refresh_timer(vcpu);
	/* A demotion of refresh_timer()'s has its own. */
	if (reason || h->passthrough)
		WRITE_ONCE(h->reason, reason);
	return vcpu->arch.mp_state != KVM_MP_STATE_HALTED;
}

/* ---- entry and exit ---- */

static void self_ipi(struct kvm_vcpu *vcpu, unsigned int vector)
{
	native_apic_msr_write(APIC_SELF_IPI, vector);
	++vcpu->stat.hpkvm_injected;
}

/* Somebody waits for this vector's EOI: a level-triggered line, a notifier. */
static bool wants_eoi(struct kvm_vcpu *vcpu, unsigned int vector)
{
	return test_bit(vector, vcpu->arch.ioapic_handled_vectors) ||
	       kvm_lapic_get_reg(vcpu->arch.apic, APIC_TMR +
				 (vector / 32) * 0x10) & BIT(vector % 32);
}

/* What the host captured, and the timer that it held meanwhile. */
static void flush_captured(struct kvm_vcpu *vcpu, struct dedicated_cpu *d)
{
	DECLARE_BITMAP(captured, NR_VECTORS);
	unsigned int vector;

	bitmap_copy(captured, d->captured, NR_VECTORS);
	bitmap_zero(d->captured, NR_VECTORS);
	/* Who still saw the bit, and sent none, wrote before what we show. */
	smp_mb();
	for_each_set_bit(vector, captured, NR_VECTORS) {
		if (hpkvm_fault_drop(vcpu, HPKVM_FAULT_CAPTURE, vector))
			continue;
		self_ipi(vcpu, vector);
		++vcpu->stat.hpkvm_captured;
	}

	if (d->timer_held) {
		d->timer_held = false;
		write_lvtt(vcpu);
	}
}

/*
 * Everything that waits for the guest goes into the physical IRR.  Senders may
 * be as fast as this is: return false if they seem to be, with the rest to be
 * done at the next attempt.
 */
static bool flush_pending(struct kvm_vcpu *vcpu, struct dedicated_cpu *d)
{
	unsigned int n = 0;
	int vector;

	while ((vector = kvm_lapic_find_highest_irr(vcpu)) >= 0) {
		if (n++ == NR_VECTORS)
			return false;
		kvm_apic_clear_irr(vcpu, vector);
		if (vector < 16 ||
		    hpkvm_fault_drop(vcpu, HPKVM_FAULT_INJECT, vector))
			continue;
		if (wants_eoi(vcpu, vector))
			__set_bit(vector, vcpu->arch.hpkvm.eoi_vectors);
		self_ipi(vcpu, vector);
	}

	if (unlikely(!bitmap_empty(d->captured, NR_VECTORS)))
		flush_captured(vcpu, d);

	vector = hpkvm_fault_again(vcpu);
	if (vector)
		self_ipi(vcpu, vector);
	return true;
}

static void refresh_traps(struct kvm_vcpu *vcpu, bool shut)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	bool trap = shut || !bitmap_empty(h->eoi_vectors, 256);

	if (trap != h->eoi_trapped)
		open_eoi(vcpu, !trap);
	if (shut != h->gate_shut)
		open_priority(vcpu, !shut);
	h->eoi_trapped = trap;
	h->gate_shut = shut;
}

/*
 * Interrupts wake a guest from its HLT without KVM, and what KVM injects does so,
 * too.  A kick (KVM_HC_KICK_CPU) is neither, and is for the next HLT if there is
 * none now.
 */
static void refresh_sleep(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	bool kicked = vcpu->arch.pv.pv_unhalted;

	if (!hpkvm_feature(vcpu, KVM_HPKVM_F_DIRECT_HLT))
		return;
	if (unlikely(kicked) && hpkvm_ops->wake && hpkvm_ops->wake(vcpu)) {
		vcpu->arch.pv.pv_unhalted = false;
		kicked = false;
	}
	if (kicked != h->hlt_trapped)
		hpkvm_ops->trap_hlt(vcpu, kicked);
	h->hlt_trapped = kicked;
}

/*
 * The entry window: the priority is the guest's, or an NMI could come too late
 * to be seen by a check for host work.  An NMI is a matter of this CPU's alone,
 * and sees what was written before it in program order.
 */
static void start_window(struct dedicated_cpu *d)
{
	d->stopped = false;
	barrier();
	WRITE_ONCE(d->stop_entry, hpkvm_ops->stop_entry);
	barrier();
}

static void end_window(struct kvm_vcpu *vcpu, struct dedicated_cpu *d)
{
	barrier();
	WRITE_ONCE(d->stop_entry, NULL);
	barrier();
	if (unlikely(READ_ONCE(d->stopped))) {
		++vcpu->stat.hpkvm_entry_stops;
		/* Raises what the NMI left. */
		dedicated_cpu_may_enter();
	}
}

/**
 * kvm_hpkvm_enter - last step before the guest runs in passthrough
 * @vcpu: the vCPU
 *
 * Called with interrupts disabled.  From here on an NMI makes the entry exit at
 * once: by itself (SVM: GIF is 0), or by stop_entry().
 *
 * Return: false if host work is in the way; the entry must be abandoned.
 */
bool kvm_hpkvm_enter(struct kvm_vcpu *vcpu)
{
	struct dedicated_cpu *d = this_cpu_ptr(&dedicated_cpu);
	/* KVM_SET_LAPIC takes any value; reserved bits of CR8 would fault. */
	u32 tpr = kvm_lapic_get_reg(vcpu->arch.apic, APIC_TASKPRI) & 0xff;

	start_window(d);
	if (unlikely(smp_processor_id() != vcpu->arch.hpkvm.cpu) ||
	    !dedicated_cpu_may_enter() || !flush_pending(vcpu, d)) {
		++vcpu->stat.hpkvm_entry_aborts;
		end_window(vcpu, d);
		return false;
	}

	kvm_hpkvm_ipi_enter(vcpu);
	refresh_sleep(vcpu);
	refresh_traps(vcpu, d->aside);
	if (vcpu->arch.hpkvm.gate_shut)
		return true;

	/* CR8 has no room for the sub-class. */
	if (unlikely(tpr & 0xf))
		native_apic_msr_write(APIC_TASKPRI, tpr);
	else
		dedicated_cpu_set_gate(tpr >> 4);
	return true;
}
EXPORT_SYMBOL_GPL(kvm_hpkvm_enter);

/**
 * kvm_hpkvm_exit - first step after the guest ran in passthrough
 * @vcpu: the vCPU
 *
 * Called with interrupts disabled, and the entry window still open.  Until the
 * next entry the guest's TPR is KVM's and the core's is the gate.
 */
void kvm_hpkvm_exit(struct kvm_vcpu *vcpu)
{
	struct dedicated_cpu *d = this_cpu_ptr(&dedicated_cpu);
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;

	if (!h->gate_shut)
		set_vreg(vcpu->arch.apic, APIC_TASKPRI,
			 native_apic_msr_read(APIC_TASKPRI));
	dedicated_cpu_set_gate(DEDICATED_GATE_SHUT);
	end_window(vcpu, d);

	kvm_hpkvm_ipi_exit(vcpu);
	vcpu->stat.hpkvm_direct_sent = atomic64_read(&h->direct_sent);
	vcpu->stat.hpkvm_kicks = (u32)atomic_read(&d->nmi_sent) -
				 h->kicks_before;
}
EXPORT_SYMBOL_GPL(kvm_hpkvm_exit);

/* ---- what stock KVM asks about a vCPU in passthrough ---- */

static bool direct_source(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu *sender = kvm_get_running_vcpu();

	if (sender && sender->kvm == vcpu->kvm)
		return hpkvm_feature(vcpu, KVM_HPKVM_F_DIRECT_IPI);
	return hpkvm_feature(vcpu, KVM_HPKVM_F_DIRECT_MSI);
}

/**
 * __kvm_hpkvm_deliver - send a fixed interrupt to a vCPU's core
 * @vcpu: the target, which may be running on any CPU
 * @trig_mode: not 0 if level-triggered
 * @vector: the guest's vector
 *
 * Return: true if sent; false if it has to go through the virtual IRR.
 */
bool __kvm_hpkvm_deliver(struct kvm_vcpu *vcpu, int trig_mode, int vector)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	bool sent = false;

	if (trig_mode || vector < 16 || vector == DEDICATED_HOST_VECTOR ||
	    test_bit(vector, vcpu->arch.ioapic_handled_vectors) ||
	    !direct_source(vcpu))
		return false;

	rcu_read_lock();
	if (READ_ONCE(h->passthrough)) {
		if (!hpkvm_fault_drop(vcpu, HPKVM_FAULT_SEND, vector))
			dedicated_cpu_send_guest(h->cpu, vector);
		atomic64_inc(&h->direct_sent);
		sent = true;
	}
	rcu_read_unlock();
	return sent;
}
EXPORT_SYMBOL_GPL(__kvm_hpkvm_deliver);

/* Return true if the EOI is dealt with, false if stock KVM goes on with it. */
static bool intercepted_eoi(struct kvm_vcpu *vcpu)
{
	struct kvm_lapic *apic = vcpu->arch.apic;
	int vector;

	local_irq_disable();
	vector = dedicated_cpu_eoi();
	local_irq_enable();

	++vcpu->stat.hpkvm_eoi_exits;
	if (vector < 0 || !__test_and_clear_bit(vector, vcpu->arch.hpkvm.eoi_vectors))
		return true;

	/* Stock KVM does the rest as if it had been in service there. */
	kvm_lapic_set_vector(vector, apic->regs + APIC_ISR);
	apic->isr_count++;
	apic->highest_isr_cache = vector;
	return false;
}

/**
 * __kvm_hpkvm_reg_write - a local APIC register write that did exit
 * @vcpu: a vCPU in passthrough, its thread
 * @reg: APIC_* register
 * @val: the value
 *
 * Return: true if dealt with, false if stock KVM has to do it.
 */
bool __kvm_hpkvm_reg_write(struct kvm_vcpu *vcpu, u32 reg, u32 val)
{
	bool done;

	switch (reg) {
	case APIC_EOI:
		if (!get_core(vcpu))
			return false;
		done = intercepted_eoi(vcpu);
		put_core();
		return done;
	case APIC_TMICT:
	case APIC_TDCR:
		if (!vcpu->arch.hpkvm.timer_direct || deadline_mode(vcpu) ||
		    !get_core(vcpu))
			return false;
		native_apic_msr_write(reg, reg == APIC_TDCR ? val & TDCR_BITS :
							      val);
		put_core();
		return true;
	default:
		return false;
	}
}

/**
 * __kvm_hpkvm_reg_read - a local APIC register read that did exit
 * @vcpu: a vCPU in passthrough, its thread
 * @reg: APIC_* register
 * @val: out: the value, if dealt with
 *
 * Return: true if dealt with, false if stock KVM has to do it.
 */
bool __kvm_hpkvm_reg_read(struct kvm_vcpu *vcpu, u32 reg, u32 *val)
{
	u8 aside;

	switch (reg) {
	case APIC_TMICT:
	case APIC_TMCCT:
	case APIC_TDCR:
		if (!vcpu->arch.hpkvm.timer_direct || !get_core(vcpu))
			return false;
		*val = native_apic_msr_read(reg);
		put_core();
		return true;
	case APIC_ISR ... APIC_ISR + 0x70:
		if (!get_core(vcpu))
			return false;
		*val = native_apic_msr_read(reg);
		aside = __this_cpu_read(dedicated_cpu.aside);
		put_core();
		if (aside && (reg - APIC_ISR) / 0x10 == aside / 32)
			*val |= BIT(aside % 32);
		return true;
	case APIC_IRR ... APIC_IRR + 0x70:
		if (!get_core(vcpu))
			return false;
		*val = native_apic_msr_read(reg) |
		       kvm_lapic_get_reg(vcpu->arch.apic, reg);
		put_core();
		return true;
	case APIC_PROCPRI:
		if (!vcpu->arch.hpkvm.gate_shut)
			return false;
		*val = 0xf0;
		return true;
	default:
		return false;
	}
}

bool __kvm_hpkvm_set_deadline(struct kvm_vcpu *vcpu, u64 data)
{
	if (!vcpu->arch.hpkvm.timer_direct || !deadline_mode(vcpu) ||
	    !get_core(vcpu))
		return false;
	write_deadline(vcpu, data);
	put_core();
	return true;
}

bool __kvm_hpkvm_get_deadline(struct kvm_vcpu *vcpu, u64 *data)
{
	u64 deadline;

	if (!vcpu->arch.hpkvm.timer_direct || !deadline_mode(vcpu) ||
	    !get_core(vcpu))
		return false;
	rdmsrl(MSR_IA32_TSC_DEADLINE, deadline);
	put_core();
	*data = deadline ? guest_deadline(vcpu, deadline) : 0;
	return true;
}

/* ---- bind and unbind ---- */

static int check_bind(struct kvm_vcpu *vcpu, const struct kvm_hpkvm_bind *bind,
		      struct dedicated_refusal *why)
{
	u32 *reason = &why->reason;

	if (!vcpu->kvm->arch.hpkvm_features && host_unsuitable(why))
		return -EOPNOTSUPP;
	*reason = KVM_HPKVM_REASON_NOT_ENABLED;
	if (!vcpu->kvm->arch.hpkvm_features)
		return -ENOTTY;
	*reason = KVM_HPKVM_REASON_BAD_FLAGS;
	if (bind->flags || memchr_inv(bind->reserved, 0, sizeof(bind->reserved)))
		return -EINVAL;
	*reason = KVM_HPKVM_REASON_ALREADY_BOUND;
	if (vcpu->arch.hpkvm.cpu >= 0)
		return -EALREADY;
	*reason = KVM_HPKVM_REASON_NO_LAPIC;
	if (!lapic_in_kernel(vcpu))
		return -EINVAL;
	*reason = KVM_HPKVM_REASON_NONE;
	return 0;
}

static int lease(struct kvm_vcpu *vcpu, unsigned int cpu,
		 struct dedicated_refusal *why)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	int ret;

	if (!alloc_cpumask_var(&h->affinity, GFP_KERNEL_ACCOUNT))
		return -ENOMEM;
	cpumask_copy(h->affinity, current->cpus_ptr);
	ret = dedicated_cpu_lease(cpu, why);
	if (ret) {
		free_cpumask_var(h->affinity);
		return ret;
	}

	h->task = get_task_struct(current);
	h->kicks_before = atomic_read(per_cpu_ptr(&dedicated_cpu.nmi_sent, cpu));
	WRITE_ONCE(h->reason, KVM_HPKVM_REASON_NOT_ENTERED);
	WRITE_ONCE(h->cpu, cpu);
	static_branch_inc(&kvm_hpkvm_key);
	return 0;
}

static int kvm_hpkvm_bind(struct kvm_vcpu *vcpu,
			  struct kvm_hpkvm_bind __user *argp)
{
	struct dedicated_refusal why = {};
	struct kvm_hpkvm_bind bind;
	int ret;

	if (copy_from_user(&bind, argp, sizeof(bind)))
		return -EFAULT;

	ret = check_bind(vcpu, &bind, &why) ?:
	      lease(vcpu, bind.cpu, &why);
	trace_kvm_hpkvm_bind(vcpu->vcpu_id, bind.cpu, why.reason);

	bind.reason = why.reason;
	bind.irq = why.irq;
	strscpy_pad(bind.culprit, why.culprit);
	/* The lease stands: what a failed write loses can be asked for again. */
	if (copy_to_user(argp, &bind, sizeof(bind)) && !ret)
		ret = -EFAULT;
	return ret;
}

static void restore_affinity(struct kvm_vcpu_hpkvm *h, int cpu)
{
	dedicated_cpu_unpin(h->task, cpu, h->affinity);
	put_task_struct(h->task);
	h->task = NULL;
	free_cpumask_var(h->affinity);
}

/* The vCPU is in emulated mode, or will never run again. */
static void unlease(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	int cpu = h->cpu;

	WRITE_ONCE(h->cpu, -1);
	WRITE_ONCE(h->reason, KVM_HPKVM_REASON_NOT_BOUND);
	dedicated_cpu_release(cpu);
	restore_affinity(h, cpu);
	static_branch_dec(&kvm_hpkvm_key);
	trace_kvm_hpkvm_unbind(vcpu->vcpu_id, cpu, 0);
}

static int kvm_hpkvm_unbind(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.hpkvm.cpu < 0)
		return -ENOENT;
	kvm_hpkvm_demote(vcpu, KVM_HPKVM_REASON_NOT_BOUND);
	unlease(vcpu);
	return 0;
}

static u32 hpkvm_mode(const struct kvm_vcpu_hpkvm *h, int cpu)
{
	if (cpu < 0)
		return KVM_HPKVM_MODE_UNBOUND;
	return READ_ONCE(h->passthrough) ? KVM_HPKVM_MODE_PASSTHROUGH :
					   KVM_HPKVM_MODE_EMULATED;
}

static int kvm_hpkvm_get_state(struct kvm_vcpu *vcpu,
			       struct kvm_hpkvm_state __user *argp)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	int cpu = READ_ONCE(h->cpu);
	struct kvm_hpkvm_state state = {
		.mode		= hpkvm_mode(h, cpu),
		.cpu		= cpu,
		.features	= vcpu->kvm->arch.hpkvm_features,
		.promotions	= READ_ONCE(vcpu->stat.hpkvm_promotions),
		.demotions	= READ_ONCE(vcpu->stat.hpkvm_demotions),
		.captured	= READ_ONCE(vcpu->stat.hpkvm_captured),
		.injected	= READ_ONCE(vcpu->stat.hpkvm_injected),
		.direct_sent	= atomic64_read(&h->direct_sent),
	};

	if (state.mode != KVM_HPKVM_MODE_PASSTHROUGH)
		state.reason = READ_ONCE(h->reason);
	if (cpu >= 0)
		state.kicks = (u32)atomic_read(per_cpu_ptr(&dedicated_cpu.nmi_sent,
							   cpu)) -
			      READ_ONCE(h->kicks_before);
	return copy_to_user(argp, &state, sizeof(state)) ? -EFAULT : 0;
}

/* Does not take vcpu->mutex: a vCPU in passthrough may hold it for hours. */
long kvm_arch_vcpu_async_ioctl(struct file *filp, unsigned int ioctl,
			       unsigned long arg)
{
	if (ioctl != KVM_HPKVM_GET_STATE)
		return -ENOIOCTLCMD;
	return kvm_hpkvm_get_state(filp->private_data, (void __user *)arg);
}

/*
 * A timer that expired since the vCPU ran last: stock KVM keeps that to itself
 * until the next entry, and a VM that is saved now never sees the interrupt.
 * Not in TSC-deadline mode: who saves TSC_DEADLINE saves it still armed.
 */
static void show_expired_timer(struct kvm_vcpu *vcpu)
{
	if (!vcpu->kvm->arch.hpkvm_features || !lapic_in_kernel(vcpu) ||
	    deadline_mode(vcpu))
		return;
	/* The vendor's timer stands still while nobody is in KVM_RUN. */
	kvm_lapic_switch_to_sw_timer(vcpu);
	kvm_inject_pending_timer_irqs(vcpu);
}

/**
 * kvm_hpkvm_vcpu_ioctl - see x86's vCPU ioctls before KVM does
 * @vcpu: the vCPU, loaded
 * @ioctl: the number
 * @argp: its argument
 *
 * Return: what the ioctl returns, or -ENOIOCTLCMD if it is not one of ours.
 */
long kvm_hpkvm_vcpu_ioctl(struct kvm_vcpu *vcpu, unsigned int ioctl,
			  void __user *argp)
{
	switch (ioctl) {
	case KVM_HPKVM_BIND:
		return kvm_hpkvm_bind(vcpu, argp);
	case KVM_HPKVM_UNBIND:
		return kvm_hpkvm_unbind(vcpu);
	case KVM_GET_LAPIC:
	case KVM_SET_LAPIC:
	case KVM_GET_MSRS:
	case KVM_SET_MSRS:
	case KVM_GET_VCPU_EVENTS:
	case KVM_SET_VCPU_EVENTS:
	case KVM_INTERRUPT:
	case KVM_SET_CPUID:
	case KVM_SET_CPUID2:
	case KVM_SET_TSC_KHZ:
	case KVM_SET_DEVICE_ATTR:
	case KVM_SET_NESTED_STATE:
		kvm_hpkvm_demote(vcpu, KVM_HPKVM_REASON_USER_ACCESS);
		if (ioctl == KVM_GET_LAPIC)
			show_expired_timer(vcpu);
		fallthrough;
	default:
		return -ENOIOCTLCMD;
	}
}

void kvm_hpkvm_vcpu_create(struct kvm_vcpu *vcpu)
{
	vcpu->arch.hpkvm.cpu = -1;
	vcpu->arch.hpkvm.reason = KVM_HPKVM_REASON_NOT_BOUND;
}

void kvm_hpkvm_vcpu_destroy(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;

	if (h->cpu < 0)
		return;
	if (h->passthrough) {
		WRITE_ONCE(h->passthrough, false);
		kvm_hpkvm_irq_demote(vcpu);
		kvm_hpkvm_ipi_del(vcpu);
		synchronize_rcu();
	}
	unlease(vcpu);
}
