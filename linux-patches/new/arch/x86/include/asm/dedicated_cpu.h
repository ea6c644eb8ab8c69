/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Dedicated CPUs on x86: the local APIC belongs to a guest.
 *
 * This header is the contract between the host side (kernel/apic/dedicated*)
 * and KVM.  From lease to release every maskable interrupt that reaches the
 * CPU's local APIC is the guest's, in guest mode and in host mode; the host
 * reaches the CPU by NMI only.
 */
#ifndef _ASM_X86_DEDICATED_CPU_H
#define _ASM_X86_DEDICATED_CPU_H

#include <linux/bitmap.h>
#include <linux/cpumask_types.h>
#include <linux/dedicated_cpu.h>
#include <asm/irq_vectors.h>

struct notifier_block;
struct task_struct;

/* The words of a 256-bit local APIC register (IRR, ISR). */
#define DEDICATED_APIC_WORDS	(NR_VECTORS / 32)

#ifdef CONFIG_CPU_DEDICATED

#include <asm/apic.h>

/* CR8 values.  The task priority is CR8 << 4 (Intel SDM 11.8.3.1). */
#define DEDICATED_GATE_SHUT	0xful	/* nothing maskable comes in */
#define DEDICATED_GATE_AJAR	0xeul	/* vectors 0xf0-0xff come in */
#define DEDICATED_GATE_HOST	0x1ul	/* what Linux runs with */

/* So many slots of 2^32 ns, 4.3 s each, are a minute and not yet 65 s. */
#define DEDICATED_WORK_SLOTS	15

/*
 * struct dedicated_work - the host's work on one leased CPU
 * @at: when it came last, in ns of CLOCK_MONOTONIC; 0 if never since the lease
 * @vector: the Linux vector that would have brought it
 * @recent: how often it came in a slot, and the slot's number
 */
struct dedicated_work {
	u64 at;
	u8 vector;
	struct {
		u32 slot;
		u32 count;
	} recent[DEDICATED_WORK_SLOTS];
};

/*
 * struct dedicated_cpu - the host side of one leased CPU
 * @deferred: DEDICATED_WORK_BASE + bit = Linux vector whose work waits, set
 *	by any CPU
 * @gated: the CPU runs with the second IDT and with its priority gate; the
 *	host never sees a maskable interrupt but its own host vector
 * @ajar: the gate was lowered to let the host vector in
 * @raised: a self-IPI of the host vector is on its way
 * @host_vector_caught: the guest's own interrupt with the host vector waits
 * @timer_held: LVTT was masked because its vector was captured
 * @aside: class-15 vector taken out of the ISR, 0 if none; the guest is in its
 *	handler and runs with the gate shut until it signals EOI
 * @ending: an EOI of the guest's is being done: nothing is set aside meanwhile
 * @stop_entry: not NULL: the priority in CR8 is or is about to be the guest's,
 *	and this makes its entry exit at once; callable from NMI
 * @stopped: @stop_entry was called since it was last set
 * @captured: guest vectors that came in through the gate
 * @sent_at: jiffies when the last NMI was sent, or about to be, by any CPU
 * @nmi_sent: NMIs sent, counted before they leave, by any CPU
 * @nmi_claimed: the @nmi_sent that was seen last
 * @nmi_owed: how many more NMIs are taken for ours, until local_clock() is
 *	@nmi_owed_until
 * @work: what the host had done here, for who asks
 *
 * Fields without another rule are written on the CPU itself, with interrupts
 * disabled or from NMI.
 */
struct dedicated_cpu {
	unsigned long deferred;
	bool gated;
	bool ajar;
	bool raised;
	bool host_vector_caught;
	bool timer_held;
	u8 aside;
	bool ending;
	bool stopped;
	void (*stop_entry)(void);
	DECLARE_BITMAP(captured, NR_VECTORS);
	unsigned long sent_at;
	atomic_t nmi_sent;
	int nmi_claimed;
	int nmi_owed;
	u64 nmi_owed_until;
	struct dedicated_work work;
};

DECLARE_PER_CPU(struct dedicated_cpu, dedicated_cpu);

/* Why a lease was refused: an enum kvm_hpkvm_reason and its culprit. */
struct dedicated_refusal {
	u32 reason;
	u32 irq;
	char culprit[32];
};

int dedicated_cpu_lease(unsigned int cpu, struct dedicated_refusal *why);
void dedicated_cpu_release(unsigned int cpu);
void dedicated_cpu_unpin(struct task_struct *task, unsigned int cpu,
			 const struct cpumask *before);
int dedicated_cpu_host_unsuitable(struct dedicated_refusal *why);
unsigned int dedicated_cpu_deputy(unsigned int cpu);
int dedicated_cpu_register_notifier(struct notifier_block *nb);
int dedicated_cpu_unregister_notifier(struct notifier_block *nb);
bool dedicated_cpu_timer_rate_ok(unsigned int cpu, u32 ns_per_count);
u64 dedicated_cpu_timer_counts(unsigned int cpu, u64 tsc);
u32 dedicated_timer_ns(void);
void dedicated_cpu_drain(u32 *irr, u32 *isr);
int dedicated_cpu_eoi(void);
bool dedicated_cpu_may_enter(void);
void dedicated_cpu_send_nmi_self(void);
unsigned long dedicated_cpu_idt(void);
u64 dedicated_cpu_work(unsigned int cpu, u32 *kind, u32 *count);

/* Internal to kernel/apic: what apic.c does for the host side. */
void lapic_timer_lend(unsigned int cpu, bool lend);

/* Internal to kernel/apic: the two halves of the host side. */
void dedicated_ipi_start(void);
void dedicated_ipi_stop(void);
void dedicated_raise_timer(unsigned int cpu);
bool dedicated_capture(u32 vector);
void dedicated_send_host_vector(void);
void dedicated_shut_gate(struct dedicated_cpu *d);
void load_dedicated_idt(void);
void load_drain_idt(void);

static __always_inline void dedicated_cpu_set_gate(unsigned long cr8)
{
	asm volatile("mov %0, %%cr8" : : "r" (cr8) : "memory");
}

/* Is @vector's bit set in this CPU's 256-bit register that starts at @reg? */
static inline bool dedicated_apic_test(u32 reg, u8 vector)
{
	return native_apic_msr_read(reg + (vector / 32) * 0x10) &
	       BIT(vector % 32);
}

/*
 * dedicated_cpu_send_guest - send @vector to the guest that holds @cpu
 *
 * Needs no handshake with @cpu: in guest mode the guest takes it through its
 * own IDT, in host mode it waits in the IRR.  The caller keeps @cpu leased by
 * rcu_read_lock(), and has checked that @vector is 16..255 and is not
 * DEDICATED_HOST_VECTOR.
 */
static inline void dedicated_cpu_send_guest(unsigned int cpu, u8 vector)
{
	weak_wrmsr_fence();
	/*
	 * Captured, and not yet handed back: it merges with that, as it would
	 * in the IRR.  Or else a storm of a vector above the host's could keep
	 * the CPU from ever taking the host's.  Pairs with the clearing at the
	 * next entry: what the guest is to see was written before.
	 */
	smp_mb();
	if (test_bit(vector, per_cpu(dedicated_cpu, cpu).captured))
		return;
	native_x2apic_icr_write(APIC_DM_FIXED | vector,
				per_cpu(x86_cpu_to_apicid, cpu));
}

#ifdef CONFIG_KVM_HPKVM_FAULTS
/*
 * The Nth step from now of a lease fails: memory for the remote tick [1], the
 * move to the CPU [2], vectors elsewhere [3], the local APIC [4].
 */
extern atomic_t dedicated_lease_fault;
#endif

#else

static inline bool dedicated_capture(u32 vector) { return false; }
static inline void dedicated_cpu_send_nmi_self(void) { }

#endif /* CONFIG_CPU_DEDICATED */
#endif /* _ASM_X86_DEDICATED_CPU_H */
