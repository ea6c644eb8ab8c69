// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM dedicated cores: the state machine of a bound vCPU.
 *
 * A bound vCPU is *emulated* (stock KVM's local APIC) or in *passthrough* (the
 * guest drives the core's own).  This file owns the two transitions, promote
 * and demote, what happens at every guest entry and exit in between, which
 * registers are the guest's meanwhile, and what stock KVM is told about them.
 * What VMX and SVM do differently is behind kvm_hpkvm_ops, the timer's part is
 * in hpkvm_timer.c, and how a vCPU gets its core in hpkvm_lease.c.
 *
 * It must never lose or double an interrupt at a transition, and never let a
 * value of the guest's reach a local APIC register of the core that could
 * disturb anybody else: no ICR, no delivery mode, no vector below 16.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpuhotplug.h>
#include <linux/kvm_host.h>
#include <linux/sched.h>
#include <linux/smp.h>

#include <asm/apic.h>
#include <asm/dedicated_cpu.h>
#include <asm/irq_remapping.h>
#include <asm/kvm_hpkvm.h>
#include <asm/tsc.h>

#include "hpkvm.h"
#include "hpkvm_fault.h"
#include "hpkvm_int.h"
#include "hyperv.h"
#include "ioapic.h"
#include "irq.h"
#include "lapic.h"
#include "smm.h"
#include "x86.h"

#define CREATE_TRACE_POINTS
#include <trace/events/kvm_hpkvm.h>

/* An interrupt that was sent arrives within this time, from any CPU or device. */
#define HPKVM_FLIGHT_US	10

DEFINE_STATIC_KEY_FALSE(kvm_hpkvm_key);
EXPORT_SYMBOL_GPL(kvm_hpkvm_key);

static const struct kvm_hpkvm_ops *hpkvm_ops;
static const char *hpkvm_lacks;

/* Processors and IOMMUs send interrupts for vCPUs of all VMs, by themselves. */
static int hpkvm_cpu_leased(struct notifier_block *nb, unsigned long cpu,
			    void *unused)
{
	hpkvm_ops->leave_cpu(cpu);
	return NOTIFY_OK;
}

static struct notifier_block hpkvm_lease_nb = {
	.notifier_call = hpkvm_cpu_leased,
};

/* They may have been aimed at it in place of a leased one. */
static int hpkvm_cpu_dead(unsigned int cpu)
{
	hpkvm_ops->leave_cpu(cpu);
	return 0;
}

static int hpkvm_cpuhp_state;

static void hpkvm_follow_cpus(const struct kvm_hpkvm_ops *ops)
{
	if (ops->leave_cpu) {
		dedicated_cpu_register_notifier(&hpkvm_lease_nb);
		hpkvm_cpuhp_state =
			cpuhp_setup_state_nocalls(CPUHP_BP_PREPARE_DYN,
						  "kvm/x86/hpkvm:prepare", NULL,
						  hpkvm_cpu_dead);
	}
}

static void hpkvm_unfollow_cpus(const struct kvm_hpkvm_ops *ops)
{
	if (ops->leave_cpu) {
		dedicated_cpu_unregister_notifier(&hpkvm_lease_nb);
		if (hpkvm_cpuhp_state > 0)
			cpuhp_remove_state_nocalls(hpkvm_cpuhp_state);
	}
}

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
	if (hpkvm_ops)
		hpkvm_unfollow_cpus(hpkvm_ops);
	hpkvm_ops = ops;
	if (ops)
		hpkvm_follow_cpus(ops);
}
EXPORT_SYMBOL_GPL(kvm_hpkvm_set_ops);

/**
 * hpkvm_host_unsuitable - can this host lease cores at all?
 * @why: filled in if not
 *
 * Return: 0, or -EOPNOTSUPP.
 */
int hpkvm_host_unsuitable(struct dedicated_refusal *why)
{
	if (hpkvm_ops && !hpkvm_lacks)
		return dedicated_cpu_host_unsuitable(why);
	why->reason = KVM_HPKVM_REASON_HOST_UNSUITABLE;
	strscpy(why->culprit, hpkvm_lacks ?: "no virtualization");
	return -EOPNOTSUPP;
}

/**
 * kvm_hpkvm_may_disable_exits - may guests do without them on this host?
 * @exits: KVM_X86_DISABLE_EXITS_*
 *
 * Return: true if any VM could disable all of them.
 */
bool kvm_hpkvm_may_disable_exits(u32 exits)
{
	int may = kvm_vm_ioctl_check_extension(NULL, KVM_CAP_X86_DISABLE_EXITS);

	return !(exits & ~may);
}
EXPORT_SYMBOL_GPL(kvm_hpkvm_may_disable_exits);

/**
 * kvm_hpkvm_features - what this host can do
 *
 * Return: a mask of KVM_HPKVM_F_*, 0 if it cannot lease cores at all.
 */
u32 kvm_hpkvm_features(void)
{
	struct dedicated_refusal why;
	u32 features;

	if (hpkvm_host_unsuitable(&why))
		return 0;
	features = hpkvm_ops->features;
	if (!kvm_hpkvm_may_disable_exits(KVM_X86_DISABLE_EXITS_HLT))
		features &= ~KVM_HPKVM_F_DIRECT_HLT;
	return features |
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

/**
 * kvm_hpkvm_get_attr - KVM_GET_DEVICE_ATTR of KVM_X86_GRP_HPKVM on /dev/kvm
 * @attr: KVM_X86_HPKVM_*
 * @val: out: its value
 *
 * Return: 0, or -ENXIO for one that does not exist.
 */
int kvm_hpkvm_get_attr(u64 attr, u64 *val)
{
	switch (attr) {
	case KVM_X86_HPKVM_BUS_CYCLES_NS:
		*val = dedicated_timer_ns();
		return 0;
	case KVM_X86_HPKVM_DEADLINE:
		*val = hpkvm_timer_host_has_deadline();
		return 0;
	default:
		return -ENXIO;
	}
}

/* ---- what the guest may touch ---- */

static void hpkvm_open_msr(struct kvm_vcpu *vcpu, u32 reg, bool read,
			   bool write)
{
	hpkvm_ops->open_msr(vcpu, X2APIC_MSR(reg), read, write);
}

static void hpkvm_open_words(struct kvm_vcpu *vcpu, u32 reg, bool read)
{
	unsigned int i;

	for (i = 0; i < DEDICATED_APIC_WORDS; i++)
		hpkvm_open_msr(vcpu, reg + i * 0x10, read, false);
}

/* What moves with the gate: while it is shut, the priority is the host's. */
static void hpkvm_open_priority(struct kvm_vcpu *vcpu, bool open)
{
	hpkvm_open_msr(vcpu, APIC_TASKPRI, open, open);
	hpkvm_open_msr(vcpu, APIC_PROCPRI, open, false);
	hpkvm_open_words(vcpu, APIC_ISR, open);
	hpkvm_ops->trap_cr8(vcpu, !open);
}

/* Of an interrupt that was level-triggered the TMR tells after its EOI, too. */
static bool hpkvm_has_tmr(struct kvm_vcpu *vcpu)
{
	u32 any = 0;
	int i;

	for (i = 0; i < DEDICATED_APIC_WORDS; i++)
		any |= kvm_lapic_get_reg(vcpu->arch.apic, APIC_TMR + i * 0x10);
	return any;
}

static void hpkvm_open_eoi(struct kvm_vcpu *vcpu, bool open)
{
	hpkvm_open_msr(vcpu, APIC_EOI, false, open);
	/*
	 * A self-IPI is edge-triggered, so the physical TMR is 0 and a guest
	 * that looks at it would take a level-triggered interrupt for a lost
	 * one.  Show the virtual TMR from the first of them on.
	 */
	hpkvm_open_words(vcpu, APIC_TMR, open && !hpkvm_has_tmr(vcpu));
}

/* Why the guest cannot have TSC_DEADLINE: a reason, NONE if it can. */
static u32 hpkvm_deadline_why_closed(struct kvm_vcpu *vcpu)
{
	if (!vcpu->arch.hpkvm.timer_direct || !hpkvm_deadline_mode(vcpu))
		return KVM_HPKVM_TIMER_REASON_MODE;
	return hpkvm_timer_why_intercepted(vcpu);
}

static void hpkvm_open_deadline(struct kvm_vcpu *vcpu, bool open)
{
	hpkvm_ops->open_msr(vcpu, MSR_IA32_TSC_DEADLINE, open, open);
	vcpu->arch.hpkvm.deadline_open = open;
}

/* What KVM_HPKVM_GET_STATE says of the timer: the reason, and 2 bits of how. */
static void hpkvm_note_timer(struct kvm_vcpu *vcpu, u32 why_closed)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	u32 state = KVM_HPKVM_TIMER_DIRECT;

	if (!h->timer_direct)
		state = h->timer_why << 2 | KVM_HPKVM_TIMER_EMULATED;
	else if (hpkvm_deadline_mode(vcpu) && why_closed)
		state = why_closed << 2 | KVM_HPKVM_TIMER_INTERCEPTED;
	WRITE_ONCE(h->timer_state, state);
}

static void hpkvm_open_timer(struct kvm_vcpu *vcpu)
{
	bool open = vcpu->arch.hpkvm.timer_direct && !hpkvm_deadline_mode(vcpu);
	u32 why_closed = hpkvm_deadline_why_closed(vcpu);

	hpkvm_open_msr(vcpu, APIC_TMICT, open, open);
	hpkvm_open_msr(vcpu, APIC_TMCCT, open, false);
	hpkvm_open_msr(vcpu, APIC_TDCR, open, open);
	hpkvm_open_deadline(vcpu, !why_closed);
	hpkvm_note_timer(vcpu, why_closed);
}

static void hpkvm_open_all(struct kvm_vcpu *vcpu, bool open)
{
	hpkvm_open_priority(vcpu, open);
	hpkvm_open_eoi(vcpu, open);
	hpkvm_open_words(vcpu, APIC_IRR, open);
	hpkvm_open_msr(vcpu, APIC_SELF_IPI, false, open);
	hpkvm_open_timer(vcpu);
	if (!open)
		hpkvm_ops->trap_cr8(vcpu, false);
}

/* ---- promote and demote ---- */

/*
 * An interrupt of Hyper-V's SynIC whose EOI nobody writes.  Without that
 * ("AutoEOI", which guests are told to avoid) SynIC's interrupts are as others
 * whose EOI KVM awaits.
 */
static bool hpkvm_needs_auto_eoi(struct kvm_vcpu *vcpu)
{
#ifdef CONFIG_KVM_HYPERV
	return to_hv_vcpu(vcpu) &&
	       !bitmap_empty(to_hv_synic(vcpu)->auto_eoi_bitmap, 256);
#else
	return false;
#endif
}

/**
 * hpkvm_needs_emulation - does KVM have to see each entry and exit?
 * @vcpu: the vCPU; from any CPU
 *
 * Return: true as long as KVM_HPKVM_REASON_DEBUG holds.
 */
bool hpkvm_needs_emulation(struct kvm_vcpu *vcpu)
{
	return READ_ONCE(vcpu->guest_debug) || is_smm(vcpu) ||
	       hpkvm_needs_auto_eoi(vcpu) || vcpu->arch.guest_state_protected;
}

/*
 * Linux enables SVM or VMX for itself at boot if it can.  That alone does no
 * harm; but once the guest has run a guest of its own, stay out of its way
 * until it gives virtualization up.
 */
static bool hpkvm_runs_nested_guests(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;

	if (!(vcpu->arch.efer & EFER_SVME) &&
	    !kvm_is_cr4_bit_set(vcpu, X86_CR4_VMXE))
		h->nested = false;
	else if (is_guest_mode(vcpu))
		h->nested = true;
	return h->nested;
}

static u32 hpkvm_why_emulated(struct kvm_vcpu *vcpu)
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
	if (hpkvm_runs_nested_guests(vcpu))
		return KVM_HPKVM_REASON_NESTED;
	if (hpkvm_needs_emulation(vcpu))
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

static void hpkvm_promote(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;

	h->eoi_trapped = false;
	h->gate_shut = false;
	h->hlt_trapped = false;

	hpkvm_timer_start(vcpu);
	hpkvm_ops->set_passthrough(vcpu, true);
	hpkvm_open_all(vcpu, true);
	/* A sender that sees this finds the core's local APIC ready. */
	smp_store_release(&h->passthrough, true);
	kvm_hpkvm_ipi_add(vcpu);
	kvm_hpkvm_irq_promoted(vcpu);

	++vcpu->stat.hpkvm_promotions;
	trace_kvm_hpkvm_promote(vcpu->vcpu_id, h->cpu, 0);
}

/* On the core, interrupts disabled. */
static void hpkvm_take_snapshot(struct kvm_vcpu *vcpu,
				struct hpkvm_snapshot *snap)
{
	if (snap->timer)
		hpkvm_timer_stop(vcpu, snap);
	dedicated_cpu_drain(snap->irr, snap->isr);
}

struct hpkvm_snapshot_call {
	struct kvm_vcpu *vcpu;
	struct hpkvm_snapshot *snap;
};

static void hpkvm_call_snapshot(void *arg)
{
	struct hpkvm_snapshot_call *call = arg;

	hpkvm_take_snapshot(call->vcpu, call->snap);
}

static void hpkvm_restore_virtual_apic(struct kvm_vcpu *vcpu,
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
		hpkvm_timer_restore(vcpu, snap);
}

/**
 * hpkvm_stop_senders - leave passthrough, for those who send to the core
 * @vcpu: a vCPU in passthrough, not running
 *
 * When it returns, no more will be sent.  What was sent is on its way.
 *
 * Return: the TSC, for hpkvm_await_arrivals().
 */
u64 hpkvm_stop_senders(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;

	WRITE_ONCE(h->passthrough, false);
	kvm_hpkvm_irq_demote(vcpu);
	kvm_hpkvm_ipi_del(vcpu);
	/* Pairs with that of a sender: either it sees this, or we see it. */
	smp_mb();
	while (atomic_read_acquire(&h->senders))
		cpu_relax();
	return rdtsc_ordered();
}

/**
 * hpkvm_await_arrivals - what was sent to a core has arrived
 * @stopped: what hpkvm_stop_senders() returned
 *
 * In x2APIC mode no local APIC says when it has delivered.
 */
void hpkvm_await_arrivals(u64 stopped)
{
	s64 flight = (u64)tsc_khz * HPKVM_FLIGHT_US / 1000;

	/* Signed: this may be another CPU by now, whose TSC is a little behind. */
	while ((s64)(rdtsc_ordered() - stopped) < flight)
		cpu_relax();
}

/**
 * __kvm_hpkvm_demote - move the local APIC's state back into KVM's
 * @vcpu: a vCPU in passthrough, loaded and not running
 * @reason: enum kvm_hpkvm_reason
 *
 * It waits for those who are sending to the core.  When it returns, KVM's local
 * APIC is exactly what the guest would have seen.
 */
void __kvm_hpkvm_demote(struct kvm_vcpu *vcpu, u32 reason)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	struct hpkvm_snapshot snap = { .timer = h->timer_direct };
	struct hpkvm_snapshot_call call = { .vcpu = vcpu, .snap = &snap };
	u64 stopped;

	if (reason == KVM_HPKVM_REASON_NESTED)
		h->nested = true;
	WRITE_ONCE(h->reason, reason);
	stopped = hpkvm_stop_senders(vcpu);

	/* For the next entry: the guest does not run meanwhile. */
	h->timer_direct = false;
	h->timer_why = KVM_HPKVM_TIMER_REASON_NOT_PASSTHROUGH;
	hpkvm_open_all(vcpu, false);
	if (h->hlt_trapped)
		hpkvm_ops->trap_hlt(vcpu, false);
	hpkvm_ops->set_passthrough(vcpu, false);

	hpkvm_await_arrivals(stopped);
	smp_call_function_single(h->cpu, hpkvm_call_snapshot, &call, 1);
	hpkvm_restore_virtual_apic(vcpu, &snap);
	bitmap_zero(h->eoi_vectors, 256);
	kvm_hpkvm_irq_forwarded(vcpu, snap.irr);
	kvm_make_request(KVM_REQ_EVENT, vcpu);

	++vcpu->stat.hpkvm_demotions;
	trace_kvm_hpkvm_demote(vcpu->vcpu_id, h->cpu, reason);
}
EXPORT_SYMBOL_GPL(__kvm_hpkvm_demote);

/*
 * Stay on the core to access its registers; hpkvm_put_core() ends it.  User
 * space can move the thread away at any time: then demote, and return false.
 */
static bool hpkvm_get_core(struct kvm_vcpu *vcpu)
{
	if (likely(get_cpu() == vcpu->arch.hpkvm.cpu))
		return true;
	put_cpu();
	__kvm_hpkvm_demote(vcpu, KVM_HPKVM_REASON_WRONG_CPU);
	return false;
}

static void hpkvm_put_core(void)
{
	put_cpu();
}

/* The guest wrote LVTT, which exits, and stock KVM has seen the write. */
static bool hpkvm_refresh_lvtt(struct kvm_vcpu *vcpu, u32 lvtt)
{
	if (!hpkvm_get_core(vcpu))
		return false;
	if ((lvtt ^ vcpu->arch.hpkvm.lvtt) & APIC_LVT_TIMER_TSCDEADLINE)
		hpkvm_timer_switch_mode(vcpu);
	hpkvm_timer_write_lvtt(vcpu);
	hpkvm_put_core();
	hpkvm_open_timer(vcpu);
	return true;
}

/* The guest set its TSC, which exits. */
static bool hpkvm_refresh_tsc(struct kvm_vcpu *vcpu)
{
	if (!hpkvm_get_core(vcpu))
		return false;
	hpkvm_timer_follow_tsc(vcpu);
	hpkvm_put_core();
	return true;
}

static void hpkvm_refresh_timer(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	u32 lvtt = kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT);
	u32 why_closed;

	h->timer_why = hpkvm_timer_why_emulated(vcpu);
	if (!h->timer_why && !h->timer_direct) {
		hpkvm_timer_start(vcpu);
		hpkvm_open_timer(vcpu);
		return;
	}
	if (h->timer_why && h->timer_direct) {
		/*
		 * Moving a timer that counts is what demotion is for.  It has
		 * to stay at that while an interrupt is in service.
		 */
		__kvm_hpkvm_demote(vcpu, KVM_HPKVM_REASON_TIMER_VECTOR);
		if (!hpkvm_why_emulated(vcpu))
			hpkvm_promote(vcpu);
		return;
	}
	if (h->timer_direct && lvtt != h->lvtt &&
	    !hpkvm_refresh_lvtt(vcpu, lvtt))
		return;
	h->lvtt = lvtt;
	if (unlikely(h->tsc_offset != vcpu->arch.l1_tsc_offset) &&
	    h->timer_direct && hpkvm_deadline_mode(vcpu) &&
	    !hpkvm_refresh_tsc(vcpu))
		return;
	why_closed = hpkvm_deadline_why_closed(vcpu);
	if (h->deadline_open == !!why_closed)
		hpkvm_open_timer(vcpu);
	else
		hpkvm_note_timer(vcpu, why_closed);
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
	u32 reason = hpkvm_why_emulated(vcpu);

	if (reason && h->passthrough)
		__kvm_hpkvm_demote(vcpu, reason);
	else if (!reason && !h->passthrough)
		hpkvm_promote(vcpu);
	else if (!reason)
		hpkvm_refresh_timer(vcpu);
	/* A demotion of hpkvm_refresh_timer()'s has its own. */
	if (reason || h->passthrough)
		WRITE_ONCE(h->reason, reason);
	return vcpu->arch.mp_state != KVM_MP_STATE_HALTED;
}

/* ---- entry and exit ---- */

static void hpkvm_self_ipi(struct kvm_vcpu *vcpu, unsigned int vector)
{
	native_apic_msr_write(APIC_SELF_IPI, vector);
	++vcpu->stat.hpkvm_injected;
}

/*
 * May the I/O APIC wait for this vector's EOI?  On any CPU.  Who changes a
 * redirection entry asks for a scan before others can raise its line.
 */
static bool hpkvm_ioapic_handles(struct kvm_vcpu *vcpu, unsigned int vector)
{
	if (kvm_test_request(KVM_REQ_SCAN_IOAPIC, vcpu))
		return true;
	/* Pairs with smp_mb__before_atomic() in kvm_hpkvm_scan_requested(). */
	smp_rmb();
	if (READ_ONCE(vcpu->arch.hpkvm.scanning))
		return true;
	/* Pairs with smp_store_release() in __kvm_hpkvm_scan_end(). */
	smp_rmb();
	return test_bit(vector, vcpu->arch.ioapic_handled_vectors);
}

/*
 * Does SynIC, which has its next message ready at the EOI, use this vector?  On
 * any CPU.  What somebody sends by a new vector he has read in the SINT, which
 * changes before the bitmap does.
 */
static bool hpkvm_synic_handles(struct kvm_vcpu *vcpu, unsigned int vector)
{
#ifdef CONFIG_KVM_HYPERV
	struct kvm_vcpu_hv_synic *synic;
	unsigned int i;

	if (!to_hv_vcpu(vcpu) || !to_hv_synic(vcpu)->active)
		return false;
	synic = to_hv_synic(vcpu);
	if (test_bit(vector, synic->vec_bitmap))
		return true;
	for (i = 0; i < ARRAY_SIZE(synic->sint); i++) {
		if ((atomic64_read(&synic->sint[i]) &
		     HV_SYNIC_SINT_VECTOR_MASK) == vector)
			return true;
	}
#endif
	return false;
}

/* May KVM wait for this vector's EOI?  On any CPU. */
static bool hpkvm_kvm_handles(struct kvm_vcpu *vcpu, unsigned int vector)
{
	return hpkvm_ioapic_handles(vcpu, vector) ||
	       hpkvm_synic_handles(vcpu, vector);
}

/* Somebody waits for this vector's EOI: a level-triggered line, a notifier. */
static bool hpkvm_wants_eoi(struct kvm_vcpu *vcpu, unsigned int vector)
{
	return hpkvm_kvm_handles(vcpu, vector) ||
	       kvm_lapic_get_reg(vcpu->arch.apic, APIC_TMR +
				 (vector / 32) * 0x10) & BIT(vector % 32);
}

/* What the host captured, and the timer that it held meanwhile. */
static void hpkvm_flush_captured(struct kvm_vcpu *vcpu, struct dedicated_cpu *d)
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
		hpkvm_self_ipi(vcpu, vector);
		++vcpu->stat.hpkvm_captured;
	}

	if (d->timer_held) {
		d->timer_held = false;
		hpkvm_timer_write_lvtt(vcpu);
	}
}

/*
 * Everything that waits for the guest goes into the physical IRR.  Senders may
 * be as fast as this is: return false if they seem to be, with the rest to be
 * done at the next attempt.
 */
static bool hpkvm_flush_pending(struct kvm_vcpu *vcpu, struct dedicated_cpu *d)
{
	unsigned int n = 0;
	int vector;

	while ((vector = kvm_lapic_find_highest_irr(vcpu)) >= 0) {
		if (n++ == NR_VECTORS)
			return false;
		/* To kvm_apic_pending_eoi() it is never gone. */
		if (vector >= 16 && hpkvm_wants_eoi(vcpu, vector))
			__set_bit(vector, vcpu->arch.hpkvm.eoi_vectors);
		kvm_apic_clear_irr(vcpu, vector);
		if (vector < 16 ||
		    hpkvm_fault_drop(vcpu, HPKVM_FAULT_INJECT, vector))
			continue;
		hpkvm_self_ipi(vcpu, vector);
	}

	if (unlikely(!bitmap_empty(d->captured, NR_VECTORS)))
		hpkvm_flush_captured(vcpu, d);

	vector = hpkvm_fault_again(vcpu);
	if (vector)
		hpkvm_self_ipi(vcpu, vector);
	return true;
}

static void hpkvm_refresh_traps(struct kvm_vcpu *vcpu, bool shut)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	bool trap = shut || !bitmap_empty(h->eoi_vectors, 256);

	if (trap != h->eoi_trapped)
		hpkvm_open_eoi(vcpu, !trap);
	if (shut != h->gate_shut)
		hpkvm_open_priority(vcpu, !shut);
	h->eoi_trapped = trap;
	h->gate_shut = shut;
}

/*
 * Interrupts wake a guest from its HLT without KVM, and what KVM injects does so,
 * too.  A kick (KVM_HC_KICK_CPU) is neither, and is for the next HLT if there is
 * none now.
 */
static void hpkvm_refresh_sleep(struct kvm_vcpu *vcpu)
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
static void hpkvm_start_window(struct dedicated_cpu *d)
{
	WRITE_ONCE(d->stopped, false);
	barrier();
	WRITE_ONCE(d->stop_entry, hpkvm_ops->stop_entry);
	barrier();
}

static void hpkvm_end_window(struct kvm_vcpu *vcpu, struct dedicated_cpu *d)
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
 * Return: false if host work is in the way.  Then there is no entry, and what
 * would have been injected is queued again.  Vendor code must leave all else
 * that an entry uses up for the next one: requested TLB flushes, what it has to
 * tell the processor, whether the VMCS is launched.  It makes the exit look
 * harmless, takes the guest's state off the CPU as after any exit, and returns
 * EXIT_FASTPATH_EXIT_HANDLED.
 */
bool kvm_hpkvm_enter(struct kvm_vcpu *vcpu)
{
	struct dedicated_cpu *d = this_cpu_ptr(&dedicated_cpu);
	/* KVM_SET_LAPIC takes any value; reserved bits of CR8 would fault. */
	u32 tpr = kvm_lapic_get_reg(vcpu->arch.apic, APIC_TASKPRI) & 0xff;

	hpkvm_start_window(d);
	if (unlikely(smp_processor_id() != vcpu->arch.hpkvm.cpu) ||
	    !dedicated_cpu_may_enter() || !hpkvm_flush_pending(vcpu, d)) {
		++vcpu->stat.hpkvm_entry_aborts;
		hpkvm_end_window(vcpu, d);
		kvm_x86_call(cancel_injection)(vcpu);
		return false;
	}

	kvm_hpkvm_ipi_enter(vcpu);
	hpkvm_refresh_sleep(vcpu);
	hpkvm_refresh_traps(vcpu, READ_ONCE(d->aside));
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
		hpkvm_set_vreg(vcpu->arch.apic, APIC_TASKPRI,
			       native_apic_msr_read(APIC_TASKPRI));
	dedicated_cpu_set_gate(DEDICATED_GATE_SHUT);
	hpkvm_end_window(vcpu, d);

	kvm_hpkvm_ipi_exit(vcpu);
	vcpu->stat.hpkvm_direct_sent = atomic64_read(&h->direct_sent);
	vcpu->stat.hpkvm_kicks = (u32)atomic_read(&d->nmi_sent) -
				 h->kicks_before;
}
EXPORT_SYMBOL_GPL(kvm_hpkvm_exit);

/* ---- what stock KVM asks about a vCPU in passthrough ---- */

static bool hpkvm_direct_source(struct kvm_vcpu *vcpu)
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
	    hpkvm_kvm_handles(vcpu, vector) ||
	    !hpkvm_direct_source(vcpu))
		return false;

	/* Or a demotion could see senders, by turns, for ever. */
	if (!READ_ONCE(h->passthrough))
		return false;

	/* A demotion waits for us, perhaps on this CPU. */
	preempt_disable();
	atomic_inc(&h->senders);
	/* Pairs with that of hpkvm_stop_senders(). */
	smp_mb__after_atomic();
	if (READ_ONCE(h->passthrough)) {
		if (!hpkvm_fault_drop(vcpu, HPKVM_FAULT_SEND, vector))
			dedicated_cpu_send_guest(h->cpu, vector);
		atomic64_inc(&h->direct_sent);
		sent = true;
	}
	atomic_fetch_dec_release(&h->senders);
	preempt_enable();
	return sent;
}
EXPORT_SYMBOL_GPL(__kvm_hpkvm_deliver);

/*
 * __kvm_hpkvm_scan_end - the vectors whose EOI KVM must see are known
 * @vcpu: the vCPU, its thread
 *
 * What was in it and still is must be seen by senders all the time, or an
 * interrupt goes to the core whose EOI then does not exit.
 */
void __kvm_hpkvm_scan_end(struct kvm_vcpu *vcpu)
{
	ulong *vectors = vcpu->arch.ioapic_handled_vectors;
	unsigned int i;

	for (i = 0; i < BITS_TO_LONGS(256); i++)
		WRITE_ONCE(vectors[i], vcpu->arch.hpkvm.scanned[i]);
	/* Who sees that it is over sees the vectors. */
	smp_store_release(&vcpu->arch.hpkvm.scanning, false);
}

/* Has @vector come again, and waits in the core?  Its EOI is another one. */
static bool hpkvm_core_holds(unsigned int vector)
{
	u32 irr = native_apic_msr_read(APIC_IRR + vector / 32 * 0x10);
	struct dedicated_cpu *d = this_cpu_ptr(&dedicated_cpu);
	bool held = irr & BIT(vector % 32);

	/* An NMI raises the host's own after it has said so. */
	barrier();
	if (vector == DEDICATED_HOST_VECTOR && READ_ONCE(d->raised))
		held = READ_ONCE(d->host_vector_caught);
	return held || test_bit(vector, d->captured);
}

/* Return true if the EOI is dealt with, false if stock KVM goes on with it. */
static bool hpkvm_intercepted_eoi(struct kvm_vcpu *vcpu)
{
	struct kvm_lapic *apic = vcpu->arch.apic;
	bool again;
	int vector;

	local_irq_disable();
	vector = dedicated_cpu_eoi();
	again = vector >= 0 && hpkvm_core_holds(vector);
	local_irq_enable();

	++vcpu->stat.hpkvm_eoi_exits;
	if (vector < 0 || !test_bit(vector, vcpu->arch.hpkvm.eoi_vectors))
		return true;

	/* Stock KVM does the rest as if it had been in service there. */
	kvm_lapic_set_vector(vector, apic->regs + APIC_ISR);
	apic->isr_count++;
	apic->highest_isr_cache = vector;
	if (!again)
		__clear_bit(vector, vcpu->arch.hpkvm.eoi_vectors);
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
		if (!hpkvm_get_core(vcpu))
			return false;
		done = hpkvm_intercepted_eoi(vcpu);
		hpkvm_put_core();
		return done;
	case APIC_TMICT:
	case APIC_TDCR:
		if (!vcpu->arch.hpkvm.timer_direct ||
		    hpkvm_deadline_mode(vcpu) || !hpkvm_get_core(vcpu))
			return false;
		native_apic_msr_write(reg, reg == APIC_TDCR ? val & TDCR_BITS :
							      val);
		hpkvm_put_core();
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
		if (!vcpu->arch.hpkvm.timer_direct ||
		    hpkvm_deadline_mode(vcpu) || !hpkvm_get_core(vcpu))
			return false;
		*val = native_apic_msr_read(reg);
		hpkvm_put_core();
		return true;
	case APIC_ISR ... APIC_ISR + 0x70:
		if (!hpkvm_get_core(vcpu))
			return false;
		*val = native_apic_msr_read(reg);
		aside = __this_cpu_read(dedicated_cpu.aside);
		hpkvm_put_core();
		if (aside && (reg - APIC_ISR) / 0x10 == aside / 32)
			*val |= BIT(aside % 32);
		return true;
	case APIC_IRR ... APIC_IRR + 0x70:
		if (!hpkvm_get_core(vcpu))
			return false;
		*val = native_apic_msr_read(reg) |
		       kvm_lapic_get_reg(vcpu->arch.apic, reg);
		hpkvm_put_core();
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
	if (!vcpu->arch.hpkvm.timer_direct || !hpkvm_deadline_mode(vcpu) ||
	    !hpkvm_get_core(vcpu))
		return false;
	hpkvm_timer_write_deadline(vcpu, data);
	hpkvm_put_core();
	return true;
}

bool __kvm_hpkvm_get_deadline(struct kvm_vcpu *vcpu, u64 *data)
{
	if (!vcpu->arch.hpkvm.timer_direct || !hpkvm_deadline_mode(vcpu) ||
	    !hpkvm_get_core(vcpu))
		return false;
	*data = hpkvm_timer_read_deadline(vcpu);
	hpkvm_put_core();
	return true;
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
		return hpkvm_lease_bind(vcpu, argp);
	case KVM_HPKVM_UNBIND:
		return hpkvm_lease_unbind(vcpu);
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
		fallthrough;
	default:
		return -ENOIOCTLCMD;
	}
}
