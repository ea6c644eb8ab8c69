// SPDX-License-Identifier: GPL-2.0-only
/*
 * How the host reaches a dedicated CPU.
 *
 * While a CPU is leased this file stands between the senders of IPIs and the
 * APIC driver: a vector for a leased CPU becomes a bit in the CPU's deferred
 * work and an NMI.  On the CPU, the NMI lowers the priority gate and sends
 * the host vector to itself, so that the work runs in hard irq context as
 * soon as interrupts are on.  A guest's interrupt that slips through the
 * lowered gate is captured here.
 *
 * It must never send a maskable vector, or a shorthand that includes one, to
 * a leased CPU; and never run deferred work in NMI context.
 */
#define pr_fmt(fmt) "dedicated_cpu: " fmt

#include <linux/cpumask.h>
#include <linux/irq_work.h>
#include <linux/jiffies.h>
#include <linux/nmi.h>
#include <linux/percpu.h>
#include <linux/sched/clock.h>
#include <linux/smp.h>
#include <linux/static_call.h>
#include <linux/timekeeping.h>

#include <asm/apic.h>
#include <asm/dedicated_cpu.h>
#include <asm/hardirq.h>
#include <asm/idtentry.h>
#include <asm/irq_regs.h>
#include <asm/kvm_hpkvm.h>
#include <asm/mach_traps.h>
#include <asm/reboot.h>
#include <asm/x86_init.h>

#define CREATE_TRACE_POINTS
#include <trace/events/dedicated_cpu.h>

#include "local.h"

/* All vectors that can be deferred lie in [BASE, BASE + BITS_PER_LONG). */
#define DEDICATED_WORK_BASE	(NR_VECTORS - 32)

/*
 * How many NMIs may follow the last send, and for how long.  Long enough for a
 * host that is itself a guest and lost its CPU in between.
 */
#define DEDICATED_NMI_OWED_MAX	3
#define DEDICATED_NMI_GRACE_NS	NSEC_PER_SEC

/* jiffies after which an NMI has had its time. */
#define DEDICATED_LATE		(HZ / 50 + 1)

/* Reads of the IRR after which a self-IPI is lost. */
#define DEDICATED_ACCEPT_TRIES	100000

DEFINE_PER_CPU(struct dedicated_cpu, dedicated_cpu);
EXPORT_PER_CPU_SYMBOL_GPL(dedicated_cpu);

static DEFINE_PER_CPU(struct cpumask, dedicated_tmpmask);

struct ipi_senders {
	void (*send_IPI)(int cpu, int vector);
	void (*send_IPI_mask)(const struct cpumask *mask, int vector);
	void (*send_IPI_mask_allbutself)(const struct cpumask *mask, int vector);
	void (*send_IPI_allbutself)(int vector);
	void (*send_IPI_all)(int vector);
	void (*send_IPI_self)(int vector);
};

/* The senders that are in force while no CPU is leased. */
static struct ipi_senders host_apic __ro_after_init;

/* With the gate shut, a class-15 vector in service can only be the guest's. */
static void dedicated_set_aside(struct dedicated_cpu *d)
{
	u32 isr = native_apic_msr_read(APIC_ISR + 0x70) & 0xffff0000;

	/* What dedicated_cpu_eoi() is just ending is not in the way for long. */
	if (!isr || READ_ONCE(d->ending))
		return;
	WRITE_ONCE(d->aside, 224 + __fls(isr));
	native_apic_msr_write(APIC_EOI, APIC_EOI_ACK);
}

/*
 * dedicated_send_host_vector - to this CPU itself, with interrupts disabled
 *
 * The manuals promise in which order accesses to the local APIC are done, not
 * when a self-IPI is in the IRR, and others look for it there.
 */
void dedicated_send_host_vector(void)
{
	unsigned int tries = DEDICATED_ACCEPT_TRIES;

	native_apic_msr_write(APIC_SELF_IPI, DEDICATED_HOST_VECTOR);
	while (!dedicated_apic_test(APIC_IRR, DEDICATED_HOST_VECTOR)) {
		if (WARN_ON_ONCE(!--tries))
			return;
	}
}

/*
 * Have the deferred work run on this CPU once interrupts are on.  Called with
 * interrupts disabled or from NMI; an NMI may come at any step of a call that
 * is not one itself.  Whoever sets @ajar first deals with what the guest left:
 * later, the ISR and the host vector in the IRR may be the host's own.
 */
static void dedicated_raise(struct dedicated_cpu *d)
{
	if (READ_ONCE(d->gated)) {
		/* No other CPU sends the host vector to a guest. */
		bool caught = !READ_ONCE(d->raised) &&
			      dedicated_apic_test(APIC_IRR, DEDICATED_HOST_VECTOR);

		if (!xchg(&d->ajar, true)) {
			if (caught)
				WRITE_ONCE(d->host_vector_caught, true);
			dedicated_set_aside(d);
		}
		dedicated_cpu_set_gate(DEDICATED_GATE_AJAR);
	}
	WRITE_ONCE(d->raised, true);
	dedicated_send_host_vector();
}

/*
 * There is deferred work for this CPU.  Where the hardware does not hold NMIs
 * off around a guest entry, the gate and the host vector have to wait until
 * the guest is out: it would get the vector.
 */
static void dedicated_reach(struct dedicated_cpu *d)
{
	if (READ_ONCE(d->stop_entry)) {
		WRITE_ONCE(d->stopped, true);
		d->stop_entry();
	} else {
		dedicated_raise(d);
	}
}

static void dedicated_defer(unsigned int cpu, int vector)
{
	struct dedicated_cpu *d = per_cpu_ptr(&dedicated_cpu, cpu);
	unsigned long flags;

	if (WARN_ON_ONCE(vector < DEDICATED_WORK_BASE))
		return;
	/*
	 * Whoever set the bit first also sends the NMI.  Should that have been of
	 * no use, the next one does, some time later.
	 */
	if (test_and_set_bit(vector - DEDICATED_WORK_BASE, &d->deferred) &&
	    time_before(jiffies, READ_ONCE(d->sent_at) + DEDICATED_LATE))
		return;
	WRITE_ONCE(d->sent_at, jiffies);

	local_irq_save(flags);
	if (cpu == smp_processor_id()) {
		dedicated_reach(d);
	} else {
		atomic_inc(&d->nmi_sent);
		host_apic.send_IPI(cpu, NMI_VECTOR);
	}
	local_irq_restore(flags);
}

static void dedicated_send_IPI(int cpu, int vector)
{
	if (cpu_dedicated(cpu) && vector != NMI_VECTOR)
		dedicated_defer(cpu, vector);
	else
		host_apic.send_IPI(cpu, vector);
}

static void dedicated_send_mask(const struct cpumask *mask, int vector,
				bool but_self)
{
	struct cpumask *ordinary;
	unsigned long flags;
	unsigned int cpu;

	local_irq_save(flags);
	ordinary = this_cpu_ptr(&dedicated_tmpmask);
	cpumask_andnot(ordinary, mask, cpu_dedicated_mask);
	if (but_self)
		host_apic.send_IPI_mask_allbutself(ordinary, vector);
	else
		host_apic.send_IPI_mask(ordinary, vector);

	/* Look at the mask of leased CPUs once: one may be released meanwhile. */
	for_each_cpu_andnot(cpu, mask, ordinary) {
		if (!but_self || cpu != smp_processor_id())
			dedicated_defer(cpu, vector);
	}
	local_irq_restore(flags);
}

static void dedicated_send_IPI_mask(const struct cpumask *mask, int vector)
{
	if (vector == NMI_VECTOR)
		host_apic.send_IPI_mask(mask, vector);
	else
		dedicated_send_mask(mask, vector, false);
}

static void dedicated_send_IPI_mask_allbutself(const struct cpumask *mask,
					       int vector)
{
	if (vector == NMI_VECTOR)
		host_apic.send_IPI_mask_allbutself(mask, vector);
	else
		dedicated_send_mask(mask, vector, true);
}

static void dedicated_send_IPI_allbutself(int vector)
{
	if (vector == NMI_VECTOR)
		host_apic.send_IPI_allbutself(vector);
	else
		dedicated_send_mask(cpu_online_mask, vector, true);
}

static void dedicated_send_IPI_all(int vector)
{
	if (vector == NMI_VECTOR)
		host_apic.send_IPI_all(vector);
	else
		dedicated_send_mask(cpu_online_mask, vector, false);
}

static void dedicated_send_IPI_self(int vector)
{
	unsigned int cpu = raw_smp_processor_id();

	if (cpu_dedicated(cpu) && vector != NMI_VECTOR)
		dedicated_defer(cpu, vector);
	else
		host_apic.send_IPI_self(vector);
}

/* Others read it meanwhile; a count that is off by one is none the worse. */
static void dedicated_note_work(struct dedicated_work *w, int vector)
{
	u64 now = ktime_get_mono_fast_ns();
	u32 slot = now >> 32, i = slot % DEDICATED_WORK_SLOTS;

	if (w->recent[i].slot != slot) {
		WRITE_ONCE(w->recent[i].count, 0);
		WRITE_ONCE(w->recent[i].slot, slot);
	}
	WRITE_ONCE(w->recent[i].count, w->recent[i].count + 1);
	WRITE_ONCE(w->vector, vector);
	WRITE_ONCE(w->at, now);
}

static u32 dedicated_work_kind(u8 vector)
{
	switch (vector) {
	case RESCHEDULE_VECTOR:
		return KVM_HPKVM_WORK_RESCHEDULE;
	case CALL_FUNCTION_VECTOR:
	case CALL_FUNCTION_SINGLE_VECTOR:
		return KVM_HPKVM_WORK_CALL;
	case IRQ_WORK_VECTOR:
		return KVM_HPKVM_WORK_IRQ_WORK;
	case LOCAL_TIMER_VECTOR:
		return KVM_HPKVM_WORK_TIMER;
	case POSTED_INTR_VECTOR:
	case POSTED_INTR_NESTED_VECTOR:
	case POSTED_INTR_WAKEUP_VECTOR:
		return KVM_HPKVM_WORK_POSTED;
	default:
		return KVM_HPKVM_WORK_OTHER;
	}
}

/**
 * dedicated_cpu_work - what has the host done on a leased CPU?
 * @cpu: the CPU
 * @kind: out: enum kvm_hpkvm_work, the last
 * @count: out: how often in the last 60 to 65 s
 *
 * Callable from anywhere, also when @cpu is released meanwhile.
 *
 * Return: when it did so last, in ns of CLOCK_MONOTONIC; 0 if it never has since
 * the lease, and then @kind is NONE.
 */
u64 dedicated_cpu_work(unsigned int cpu, u32 *kind, u32 *count)
{
	const struct dedicated_work *w = &per_cpu(dedicated_cpu, cpu).work;
	u32 now = ktime_get_mono_fast_ns() >> 32;
	u64 at = READ_ONCE(w->at);
	int i;

	*kind = at ? dedicated_work_kind(READ_ONCE(w->vector)) :
		     KVM_HPKVM_WORK_NONE;
	*count = 0;
	for (i = 0; i < DEDICATED_WORK_SLOTS; i++) {
		if (now - READ_ONCE(w->recent[i].slot) < DEDICATED_WORK_SLOTS)
			*count += READ_ONCE(w->recent[i].count);
	}
	return at;
}
EXPORT_SYMBOL_GPL(dedicated_cpu_work);

/* What the vector's own handler does, less the EOI. */
static void dedicated_run_one(int vector)
{
	trace_dedicated_cpu_work(vector);
	dedicated_note_work(this_cpu_ptr(&dedicated_cpu.work), vector);

	switch (vector) {
	case RESCHEDULE_VECTOR:
		inc_irq_stat(irq_resched_count);
		scheduler_ipi();
		break;
	case CALL_FUNCTION_VECTOR:
	case CALL_FUNCTION_SINGLE_VECTOR:
		inc_irq_stat(irq_call_count);
		generic_smp_call_function_interrupt();
		break;
#ifdef CONFIG_IRQ_WORK
	case IRQ_WORK_VECTOR:
		inc_irq_stat(apic_irq_work_irqs);
		irq_work_run();
		break;
#endif
	case LOCAL_TIMER_VECTOR:
		inc_irq_stat(apic_timer_irqs);
		tick_remote_interrupt();
		break;
#if IS_ENABLED(CONFIG_KVM)
	case POSTED_INTR_VECTOR:
	case POSTED_INTR_NESTED_VECTOR:
		/* For a generic vCPU.  It has exited, and KVM will look. */
		inc_irq_stat(kvm_posted_intr_ipis);
		break;
	case POSTED_INTR_WAKEUP_VECTOR:
		/* From before the lease, which has woken who was waiting here. */
		inc_irq_stat(kvm_posted_intr_wakeup_ipis);
		break;
#endif
	case REBOOT_VECTOR:
		cpu_emergency_disable_virtualization();
		stop_this_cpu(NULL);
		break;
	default:
		WARN_ONCE(1, "no handler for deferred vector %#x\n", vector);
	}
}

static void dedicated_run_deferred(struct dedicated_cpu *d)
{
	unsigned long work = xchg(&d->deferred, 0);
	unsigned int bit;

	for_each_set_bit(bit, &work, BITS_PER_LONG)
		dedicated_run_one(DEDICATED_WORK_BASE + bit);
}

/**
 * dedicated_shut_gate - the host vector was taken
 * @d: this CPU, interrupts disabled, @ajar
 *
 * Shuts the gate, unless the host vector waits again.  An NMI may come at any
 * step and raise it.
 */
void dedicated_shut_gate(struct dedicated_cpu *d)
{
	WRITE_ONCE(d->raised, false);
	if (!READ_ONCE(d->gated))
		return;
	if (dedicated_apic_test(APIC_IRR, DEDICATED_HOST_VECTOR)) {
		/* While @ajar, it can only be the host's. */
		WRITE_ONCE(d->raised, true);
		dedicated_cpu_set_gate(DEDICATED_GATE_AJAR);
		return;
	}
	dedicated_cpu_set_gate(DEDICATED_GATE_SHUT);
	WRITE_ONCE(d->ajar, false);
	if (READ_ONCE(d->raised)) {
		WRITE_ONCE(d->ajar, true);
		dedicated_cpu_set_gate(DEDICATED_GATE_AJAR);
	}
}

/* HLT, MWAIT or MWAITX: the bytes of the instruction at @ip, 0 if it is another. */
static unsigned int dedicated_idle_insn(const u8 *ip)
{
	if (ip[0] == 0xf4)
		return 1;
	if (ip[0] == 0x0f && ip[1] == 0x01 && (ip[2] == 0xc9 || ip[2] == 0xfb))
		return 3;
	return 0;
}

/*
 * STI delays interrupts until HLT has begun to wait, but it need not delay an
 * NMI.  One that comes between the two returns to HLT with the host vector
 * pending and without the delay: the vector is taken before HLT, which would
 * then sleep through what the host's work has left for idle to look at: tasks,
 * and timers of its own.  MWAIT would wake up for tasks only.
 */
static void dedicated_skip_idle(struct pt_regs *regs)
{
	if (!user_mode(regs))
		regs->ip += dedicated_idle_insn((const u8 *)regs->ip);
}

DEFINE_IDTENTRY_SYSVEC(sysvec_dedicated_cpu)
{
	struct dedicated_cpu *d = this_cpu_ptr(&dedicated_cpu);
	struct pt_regs *old_regs;

	apic_eoi();
	if (!READ_ONCE(d->raised) || READ_ONCE(d->host_vector_caught)) {
		__set_bit(DEDICATED_HOST_VECTOR, d->captured);
		WRITE_ONCE(d->host_vector_caught, false);
	}
	dedicated_shut_gate(d);
	dedicated_skip_idle(regs);

	/* The tick looks at what it interrupted. */
	old_regs = set_irq_regs(regs);
	dedicated_run_deferred(d);
	set_irq_regs(old_regs);
}

/*
 * A periodic timer may count nanoseconds, and its vector may be above the
 * host's: it would be captured for ever.  What it does until the next entry
 * would merge with what was captured.
 */
static void dedicated_hold_timer(struct dedicated_cpu *d, u32 vector)
{
	u32 lvtt = native_apic_msr_read(APIC_LVTT);

	if ((lvtt & (APIC_LVT_MASKED | APIC_VECTOR_MASK)) != vector)
		return;
	native_apic_msr_write(APIC_LVTT, lvtt | APIC_LVT_MASKED);
	d->timer_held = true;
}

/**
 * dedicated_capture - take a guest's interrupt that arrived in host mode
 * @vector: the vector of an interrupt that Linux has no handler for
 *
 * Return: true if the interrupt was the guest's and is dealt with.
 */
bool dedicated_capture(u32 vector)
{
	struct dedicated_cpu *d = this_cpu_ptr(&dedicated_cpu);

	if (!READ_ONCE(d->gated))
		return false;
	/* A spurious interrupt is nobody's, and its EOI would be another's. */
	if (!dedicated_apic_test(APIC_ISR, vector))
		return true;
	trace_dedicated_cpu_capture(vector);
	dedicated_hold_timer(d, vector);
	__set_bit(vector, d->captured);
	apic_eoi();
	return true;
}

static int dedicated_highest_in_service(void)
{
	int i;

	for (i = DEDICATED_APIC_WORDS - 1; i >= 0; i--) {
		u32 word = native_apic_msr_read(APIC_ISR + i * 0x10);

		if (word)
			return i * 32 + __fls(word);
	}
	return -1;
}

/**
 * dedicated_cpu_eoi - do what the guest's EOI would have done
 *
 * Called on a leased CPU with interrupts disabled and the guest not running.
 * An NMI that set a vector aside between two steps would make the EOI another
 * vector's, or nobody's.
 *
 * Return: the vector that was in service, -1 if there was none.
 */
int dedicated_cpu_eoi(void)
{
	struct dedicated_cpu *d = this_cpu_ptr(&dedicated_cpu);
	int vector;

	lockdep_assert_irqs_disabled();
	WRITE_ONCE(d->ending, true);
	/* Class 15: nothing that is in service can be above it. */
	vector = READ_ONCE(d->aside);
	if (vector) {
		WRITE_ONCE(d->aside, 0);
	} else {
		vector = dedicated_highest_in_service();
		if (vector >= 0)
			native_apic_msr_write(APIC_EOI, APIC_EOI_ACK);
	}
	WRITE_ONCE(d->ending, false);
	return vector;
}
EXPORT_SYMBOL_GPL(dedicated_cpu_eoi);

/**
 * dedicated_cpu_may_enter - may this CPU enter its guest now?
 *
 * Called with interrupts disabled, after the point from which an NMI makes
 * the entry exit at once.  If not, the caller abandons the entry and enables
 * interrupts; the work that is in the way then runs.  Called after an exit,
 * it raises what @stop_entry left.
 *
 * Return: true if nothing of the host's is pending on this CPU.
 */
bool dedicated_cpu_may_enter(void)
{
	struct dedicated_cpu *d = this_cpu_ptr(&dedicated_cpu);

	if (likely(!READ_ONCE(d->deferred) && !READ_ONCE(d->raised)))
		return true;
	/* Do not wait for an NMI that may still be on its way. */
	if (!READ_ONCE(d->raised))
		dedicated_raise(d);
	return false;
}
EXPORT_SYMBOL_GPL(dedicated_cpu_may_enter);

/**
 * dedicated_cpu_send_nmi_self - have the entry that is about to happen exit at once
 *
 * Called on a leased CPU whose hardware holds NMIs off until the guest has been
 * entered (SVM: GIF is 0), after dedicated_cpu_may_enter(): there is no work to
 * defer, for which the entry would be abandoned and with it what it injects.
 */
void dedicated_cpu_send_nmi_self(void)
{
	atomic_inc(this_cpu_ptr(&dedicated_cpu.nmi_sent));
	host_apic.send_IPI(smp_processor_id(), NMI_VECTOR);
}
EXPORT_SYMBOL_GPL(dedicated_cpu_send_nmi_self);

/*
 * The chipset says in a port of its own that an NMI of its own came, for SERR# or
 * IOCHK#; it comes to each CPU whose LINT1 is open, which is the boot CPU's as a
 * rule.  One that merged with ours, or was taken for one of ours, would not come
 * again: it is an edge.  Where there is no such port all bits read 1.
 */
static bool dedicated_nmi_has_reason(void)
{
	u8 reason;

	if (native_apic_msr_read(APIC_LVT1) & APIC_LVT_MASKED)
		return false;
	reason = x86_platform.get_nmi_reason();
	return reason != 0xff && reason & NMI_REASON_MASK;
}

/*
 * Claim the NMIs that dedicated_defer() and dedicated_cpu_send_nmi_self() sent,
 * and no others.  A send is counted before its NMI leaves, so what is owed is
 * known in time.  But NMIs merge: a few that are still owed may never come (at
 * most one is latched while another is handled, and one more while that one is),
 * and an NMI of somebody else's may be taken for one of ours.  So a small rest
 * is kept, for a while.
 */
static bool dedicated_nmi_claim(struct dedicated_cpu *d)
{
	int sent = atomic_read(&d->nmi_sent);
	u64 now = local_clock();

	if (sent != d->nmi_claimed) {
		d->nmi_owed = min(d->nmi_owed + (sent - d->nmi_claimed) + 1,
				  DEDICATED_NMI_OWED_MAX);
		d->nmi_claimed = sent;
		d->nmi_owed_until = now + DEDICATED_NMI_GRACE_NS;
	} else if (now > d->nmi_owed_until) {
		d->nmi_owed = 0;
	}
	if (!d->nmi_owed || dedicated_nmi_has_reason())
		return false;
	d->nmi_owed--;
	return true;
}

static int dedicated_nmi(unsigned int cmd, struct pt_regs *regs)
{
	struct dedicated_cpu *d = this_cpu_ptr(&dedicated_cpu);

	/* In the window every NMI stops the entry: KVM may have work of its, too. */
	if (READ_ONCE(d->deferred) || READ_ONCE(d->stop_entry))
		dedicated_reach(d);

	return dedicated_nmi_claim(d) ? NMI_HANDLED : NMI_DONE;
}

void dedicated_raise_timer(unsigned int cpu)
{
	dedicated_defer(cpu, LOCAL_TIMER_VECTOR);
}

static const struct ipi_senders dedicated_senders = {
	.send_IPI			= dedicated_send_IPI,
	.send_IPI_mask			= dedicated_send_IPI_mask,
	.send_IPI_mask_allbutself	= dedicated_send_IPI_mask_allbutself,
	.send_IPI_allbutself		= dedicated_send_IPI_allbutself,
	.send_IPI_all			= dedicated_send_IPI_all,
	.send_IPI_self			= dedicated_send_IPI_self,
};

static void dedicated_install_senders(const struct ipi_senders *s)
{
	static_call_update(apic_call_send_IPI, s->send_IPI);
	static_call_update(apic_call_send_IPI_mask, s->send_IPI_mask);
	static_call_update(apic_call_send_IPI_mask_allbutself,
			   s->send_IPI_mask_allbutself);
	static_call_update(apic_call_send_IPI_allbutself,
			   s->send_IPI_allbutself);
	static_call_update(apic_call_send_IPI_all, s->send_IPI_all);
	static_call_update(apic_call_send_IPI_self, s->send_IPI_self);
}

/* Before the first lease: senders ask from now on whether a CPU is leased. */
void dedicated_ipi_start(void)
{
	static_branch_enable(&cpu_dedicated_key);
	dedicated_install_senders(&dedicated_senders);
}

/* After the last release: the senders are what they were. */
void dedicated_ipi_stop(void)
{
	dedicated_install_senders(&host_apic);
	static_branch_disable(&cpu_dedicated_key);
}

static int __init dedicated_ipi_init(void)
{
	host_apic.send_IPI = static_call_query(apic_call_send_IPI);
	host_apic.send_IPI_mask = static_call_query(apic_call_send_IPI_mask);
	host_apic.send_IPI_mask_allbutself =
		static_call_query(apic_call_send_IPI_mask_allbutself);
	host_apic.send_IPI_allbutself =
		static_call_query(apic_call_send_IPI_allbutself);
	host_apic.send_IPI_all = static_call_query(apic_call_send_IPI_all);
	host_apic.send_IPI_self = static_call_query(apic_call_send_IPI_self);

	return register_nmi_handler(NMI_LOCAL, dedicated_nmi, 0, "dedicated_cpu");
}
late_initcall(dedicated_ipi_init);
