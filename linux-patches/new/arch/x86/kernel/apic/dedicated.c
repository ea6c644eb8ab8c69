// SPDX-License-Identifier: GPL-2.0-only
/*
 * Leasing a CPU's local APIC to a guest, and taking it back.
 *
 * This file owns the order of steps: IPIs become NMIs first, then the host's
 * timer moves to another CPU, then the local APIC is emptied and closed.  It
 * must leave a CPU exactly as it found it, on failure and after release, and
 * never knows what a VM is.
 */
#define pr_fmt(fmt) "dedicated_cpu: " fmt

#include <linux/capability.h>
#include <linux/cleanup.h>
#include <linux/context_tracking.h>
#include <linux/cpu.h>
#include <linux/cpufeature.h>
#include <linux/cpuhotplug.h>
#include <linux/cpuset.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/mutex.h>
#include <linux/nmi.h>
#include <linux/notifier.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/sched/isolation.h>
#include <linux/smp.h>
#include <linux/suspend.h>

#include <uapi/asm/kvm_hpkvm.h>

#include <asm/apic.h>
#include <asm/dedicated_cpu.h>
#include <asm/desc.h>

#include "local.h"

/* No IRR can hold more than this; what does not fit is a storm. */
#define DEDICATED_DRAIN_ROUNDS	NR_VECTORS

/* How long a lease waits for the host's last IPIs to arrive. */
#define DEDICATED_QUIESCE_US	10000

DEFINE_STATIC_KEY_FALSE(cpu_dedicated_key);
EXPORT_SYMBOL_GPL(cpu_dedicated_key);
struct cpumask __cpu_dedicated_mask;
EXPORT_SYMBOL_GPL(__cpu_dedicated_mask);

/* Filled by the drain entry points, empty at any other time. */
DECLARE_PER_CPU(unsigned long[BITS_TO_LONGS(NR_VECTORS)], dedicated_drained);
DEFINE_PER_CPU(unsigned long[BITS_TO_LONGS(NR_VECTORS)], dedicated_drained);

/* AMD APM vol. 2, 16.4.5: extended interrupt LVT registers. */
#define APIC_EILVT(n)	(0x500 + 0x10 * (n))

/*
 * Local sources that would look like the guest's interrupts: masked while
 * leased.  Not LVTT, which the guest owns, nor what does not reach the guest:
 * NMIs, and the SMIs that firmware has thermal and error events raise.
 */
static const u16 dedicated_lvts[] = {
	APIC_LVTTHMR, APIC_LVTERR, APIC_LVT0, APIC_LVTCMCI,
	APIC_EILVT(0), APIC_EILVT(1), APIC_EILVT(2), APIC_EILVT(3),
};

static DEFINE_PER_CPU(u32[ARRAY_SIZE(dedicated_lvts)], saved_lvts);

/* What struct device's offline_disabled was before the lease. */
static DEFINE_PER_CPU(bool, was_offline_disabled);

/* Serializes leases and releases. */
static DEFINE_MUTEX(dedicated_mutex);

static BLOCKING_NOTIFIER_HEAD(dedicated_notifiers);

/**
 * dedicated_cpu_register_notifier - hear of leases
 * @nb: called with the CPU's number as its action
 *
 * The call is made on the CPU, in a worker that may sleep.  cpu_dedicated() is
 * true for it, and its local APIC still works: what anybody but a sender of IPIs
 * has aimed at it must be aimed elsewhere, dedicated_cpu_deputy() for example.
 * The lease may fail afterwards.
 *
 * Return: 0.
 */
int dedicated_cpu_register_notifier(struct notifier_block *nb)
{
	return blocking_notifier_chain_register(&dedicated_notifiers, nb);
}
EXPORT_SYMBOL_GPL(dedicated_cpu_register_notifier);

/* dedicated_cpu_unregister_notifier - the other way round */
int dedicated_cpu_unregister_notifier(struct notifier_block *nb)
{
	return blocking_notifier_chain_unregister(&dedicated_notifiers, nb);
}
EXPORT_SYMBOL_GPL(dedicated_cpu_unregister_notifier);

/**
 * dedicated_cpu_deputy - who takes interrupts in place of a leased CPU?
 * @cpu: a CPU that is leased, or off line
 *
 * Return: a housekeeping CPU, near @cpu if there is one.
 */
unsigned int dedicated_cpu_deputy(unsigned int cpu)
{
	const struct cpumask *near = cpumask_of_node(cpu_to_node(cpu));
	unsigned int other;

	for_each_cpu_wrap(other, near, cpu) {
		if (cpu_can_stand_in(other) &&
		    housekeeping_cpu(other, HK_TYPE_TIMER))
			return other;
	}
	return cpu_dedicated_stand_in();
}
EXPORT_SYMBOL_GPL(dedicated_cpu_deputy);

/*
 * struct dedicated_request - a lease, as the worker on the CPU sees it
 * @why: filled in on refusal
 * @privileged: the task that asks for it has CAP_SYS_NICE
 */
struct dedicated_request {
	struct dedicated_refusal *why;
	bool privileged;
};

static int dedicated_refuse(struct dedicated_refusal *why, u32 reason, int err)
{
	why->reason = reason;
	return err;
}

#ifdef CONFIG_KVM_HPKVM_FAULTS
atomic_t dedicated_lease_fault;
EXPORT_SYMBOL_GPL(dedicated_lease_fault);

/* Is the step of a lease that comes now to fail?  See hpkvm_fault.c. */
static bool dedicated_step_fails(void)
{
	return !atomic_dec_if_positive(&dedicated_lease_fault);
}
#else
static bool dedicated_step_fails(void) { return false; }
#endif

/**
 * dedicated_cpu_host_unsuitable - can this host lease CPUs at all?
 * @why: filled in if not
 *
 * Return: 0, or -EOPNOTSUPP.
 */
int dedicated_cpu_host_unsuitable(struct dedicated_refusal *why)
{
	const char *culprit = NULL;

	if (!x2apic_enabled())
		culprit = "host is not in x2APIC mode";
	else if (boot_cpu_has(X86_FEATURE_PTI))
		culprit = "page table isolation (PTI)";
	else if (cpu_feature_enabled(X86_FEATURE_FRED))
		culprit = "FRED event delivery";
	if (!culprit)
		return 0;

	strscpy(why->culprit, culprit);
	return dedicated_refuse(why, KVM_HPKVM_REASON_HOST_UNSUITABLE,
				-EOPNOTSUPP);
}
EXPORT_SYMBOL_GPL(dedicated_cpu_host_unsuitable);

/* No device interrupt of the host may reach a leased CPU: they move. */
static int dedicated_close_vectors(struct dedicated_request *request)
{
	struct dedicated_refusal *why = request->why;
	int ret = -ENOSPC;

	if (!dedicated_step_fails())
		ret = lapic_close_vectors(request->privileged, &why->irq,
					  why->culprit, sizeof(why->culprit));
	switch (ret) {
	case 0:
		return 0;
	case -EPERM:
		return dedicated_refuse(why, KVM_HPKVM_REASON_NO_PERMISSION,
					ret);
	case -ENOSPC:
		return dedicated_refuse(why, KVM_HPKVM_REASON_NO_VECTORS, ret);
	default:
		/* What else a chip or its driver says is for them alone. */
		return dedicated_refuse(why, KVM_HPKVM_REASON_CPU_IRQ, -EBUSY);
	}
}

/* At least one CPU stays that can do everything for the leased ones. */
static bool dedicated_is_last_housekeeper(unsigned int cpu)
{
	unsigned int other;

	for_each_cpu_and(other, cpu_online_mask,
			 housekeeping_cpumask(HK_TYPE_TIMER)) {
		if (other != cpu && !cpu_dedicated(other))
			return false;
	}
	return true;
}

static int dedicated_check_cpu(unsigned int cpu, struct dedicated_refusal *why)
{
	if (!cpu_online(cpu))
		return dedicated_refuse(why, KVM_HPKVM_REASON_CPU_OFFLINE,
					-ENODEV);
	if (cpumask_test_cpu(cpu, cpu_dedicated_mask))
		return dedicated_refuse(why, KVM_HPKVM_REASON_CPU_LEASED,
					-EBUSY);
	if (dedicated_is_last_housekeeper(cpu))
		return dedicated_refuse(why, KVM_HPKVM_REASON_CPU_LAST, -EBUSY);
	return 0;
}

/*
 * A whole CPU is worth a privilege: CAP_SYS_NICE, or the administrator has
 * isolated the CPU and left it in the task's cpuset.
 */
static int dedicated_check_task(unsigned int cpu, struct dedicated_refusal *why)
{
	cpumask_var_t allowed;
	bool ok;

	if (!capable(CAP_SYS_NICE) && !cpu_is_isolated(cpu))
		return dedicated_refuse(why, KVM_HPKVM_REASON_NO_PERMISSION,
					-EPERM);

	if (!alloc_cpumask_var(&allowed, GFP_KERNEL))
		return -ENOMEM;
	cpuset_cpus_allowed(current, allowed);
	ok = cpumask_test_cpu(cpu, allowed);
	free_cpumask_var(allowed);
	if (ok)
		return 0;
	return dedicated_refuse(why, KVM_HPKVM_REASON_CPU_NOT_ALLOWED, -EPERM);
}

static int dedicated_check_lease(unsigned int cpu,
				 struct dedicated_refusal *why)
{
	return dedicated_cpu_host_unsuitable(why) ?:
	       dedicated_check_cpu(cpu, why) ?: dedicated_check_task(cpu, why);
}

/*
 * The words of the IRR from here on hold what the host's priority lets in.  What
 * is below stays pending until somebody lowers it: a former guest, or a device
 * that was a guest's, may have left some.
 */
#define DEDICATED_HOST_WORDS	(FIRST_EXTERNAL_VECTOR / 32)

/* Is nothing set, or nothing but @spare?  Vector 0, which never is, for none. */
static bool dedicated_words_empty(unsigned int reg, unsigned int i, u8 spare)
{
	for (; i < DEDICATED_APIC_WORDS; i++) {
		u32 ignore = i == spare / 32 ? BIT(spare % 32) : 0;

		if (native_apic_msr_read(reg + i * 0x10) & ~ignore)
			return false;
	}
	return true;
}

static bool dedicated_apic_empty(unsigned int reg, u8 spare)
{
	return dedicated_words_empty(reg, 0, spare);
}

/* The senders that saw the CPU as an ordinary one are done: let it arrive. */
static int dedicated_wait_for_last_ipis(void)
{
	unsigned int us;

	synchronize_rcu();
	for (us = 0; us < DEDICATED_QUIESCE_US; us += 10) {
		if (dedicated_words_empty(APIC_IRR, DEDICATED_HOST_WORDS, 0))
			return 0;
		usleep_range(10, 20);
	}
	return -EBUSY;
}

static bool dedicated_lvt_is_maskable(u64 lvt)
{
	return (lvt & APIC_MODE_MASK) == APIC_DM_FIXED ||
	       (lvt & APIC_MODE_MASK) == APIC_DM_EXTINT;
}

static void dedicated_mask_lvts(void)
{
	unsigned int i;
	u64 lvt;

	for (i = 0; i < ARRAY_SIZE(dedicated_lvts); i++) {
		u32 msr = APIC_BASE_MSR + (dedicated_lvts[i] >> 4);

		/* Not every local APIC has every entry. */
		if (rdmsrl_safe(msr, &lvt) || !dedicated_lvt_is_maskable(lvt))
			lvt = APIC_LVT_MASKED;
		this_cpu_write(saved_lvts[i], lvt);
		if (!(lvt & APIC_LVT_MASKED))
			wrmsrl(msr, lvt | APIC_LVT_MASKED);
	}
}

static void dedicated_restore_lvts(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(dedicated_lvts); i++) {
		u32 lvt = this_cpu_read(saved_lvts[i]);

		if (!(lvt & APIC_LVT_MASKED))
			native_apic_msr_write(dedicated_lvts[i], lvt);
	}
}

/* Take what is pending, whatever its priority. */
static void dedicated_drain_irr(void)
{
	unsigned int n;

	load_drain_idt();
	for (n = 0; n < DEDICATED_DRAIN_ROUNDS && !dedicated_apic_empty(APIC_IRR, 0); n++) {
		dedicated_cpu_set_gate(0);
		asm volatile("sti; nop; cli" : : : "memory");
	}
}

/*
 * What no host handler will ever take must not be the next guest's.  An NMI may
 * raise the host vector meanwhile, which is drained with the rest.  Work whose
 * NMI is still on its way is for that to raise: the vector without @raised would
 * be taken for the guest's.
 */
static void dedicated_drain_stale(struct dedicated_cpu *d)
{
	dedicated_drain_irr();
	bitmap_zero(this_cpu_ptr(dedicated_drained), NR_VECTORS);
	load_current_idt();
	dedicated_cpu_set_gate(DEDICATED_GATE_HOST);
	if (READ_ONCE(d->raised))
		dedicated_send_host_vector();
}

/* On the CPU: from here on nothing maskable comes in. */
static int dedicated_close_apic(void)
{
	struct dedicated_cpu *d = this_cpu_ptr(&dedicated_cpu);

	guard(irqsave)();
	dedicated_mask_lvts();
	/* An NMI may have raised the host vector since interrupts went off. */
	if (!dedicated_words_empty(APIC_IRR, DEDICATED_HOST_WORDS,
				   DEDICATED_HOST_VECTOR) ||
	    !dedicated_apic_empty(APIC_ISR, 0)) {
		dedicated_restore_lvts();
		return -EBUSY;
	}

	if (!dedicated_apic_empty(APIC_IRR, DEDICATED_HOST_VECTOR))
		dedicated_drain_stale(d);
	dedicated_measure_timer_rate();
	bitmap_zero(d->captured, NR_VECTORS);
	memset(&d->work, 0, sizeof(d->work));
	d->aside = 0;
	d->ajar = false;
	d->timer_held = false;
	d->host_vector_caught = false;
	ct_cpu_track_guest(true);
	load_dedicated_idt();
	dedicated_cpu_set_gate(DEDICATED_GATE_SHUT);
	/*
	 * From here on an NMI lowers the gate; one that came before did not.  The
	 * compiler must not look at raised first.
	 */
	WRITE_ONCE(d->gated, true);
	if (READ_ONCE(d->raised)) {
		WRITE_ONCE(d->ajar, true);
		dedicated_cpu_set_gate(DEDICATED_GATE_AJAR);
	}
	return 0;
}

/* On the CPU, called by an IPI: nothing of the guest's stays behind. */
static void dedicated_open_apic(void *unused)
{
	struct dedicated_cpu *d = this_cpu_ptr(&dedicated_cpu);
	u32 discard_irr[DEDICATED_APIC_WORDS], discard_isr[DEDICATED_APIC_WORDS];

	guard(irqsave)();
	native_apic_msr_write(APIC_LVTT, APIC_LVT_MASKED | LOCAL_TIMER_VECTOR);
	native_apic_msr_write(APIC_TMICT, 0);
	dedicated_cpu_drain(discard_irr, discard_isr);
	WRITE_ONCE(d->gated, false);
	ct_cpu_track_guest(false);
	load_current_idt();
	/* The guest's illegal vectors.  A write latches, a second one clears. */
	native_apic_msr_write(APIC_ESR, 0);
	native_apic_msr_write(APIC_ESR, 0);
	dedicated_restore_lvts();
	dedicated_cpu_set_gate(DEDICATED_GATE_HOST);
}

/**
 * dedicated_cpu_drain - empty this CPU's local APIC
 * @irr: out: vectors that were pending, DEDICATED_APIC_WORDS words
 * @isr: out: vectors that were in service
 *
 * Called on a leased CPU with interrupts disabled and the guest not running.
 * Only the host's vector passes the gate on return.  What arrives later is
 * found by the next drain.
 */
void dedicated_cpu_drain(u32 *irr, u32 *isr)
{
	struct dedicated_cpu *d = this_cpu_ptr(&dedicated_cpu);
	unsigned long *drained = this_cpu_ptr(dedicated_drained);
	unsigned int i, n;
	bool caught;

	lockdep_assert_irqs_disabled();
	bitmap_zero(drained, NR_VECTORS);
	/* From here on an NMI leaves the ISR and the host vector to us. */
	caught = !READ_ONCE(d->raised) &&
		 dedicated_apic_test(APIC_IRR, DEDICATED_HOST_VECTOR);
	if (!xchg(&d->ajar, true) && caught)
		WRITE_ONCE(d->host_vector_caught, true);

	/*
	 * In service first: what is in service blocks what is pending.  Read it
	 * all before the first EOI, which is for the highest of all words.
	 */
	for (i = 0, n = 0; i < DEDICATED_APIC_WORDS; i++) {
		isr[i] = native_apic_msr_read(APIC_ISR + i * 0x10);
		n += hweight32(isr[i]);
	}
	while (n--)
		native_apic_msr_write(APIC_EOI, APIC_EOI_ACK);
	if (d->aside)
		isr[d->aside / 32] |= BIT(d->aside % 32);
	WRITE_ONCE(d->aside, 0);

	dedicated_drain_irr();
	load_dedicated_idt();

	if (READ_ONCE(d->raised) && !READ_ONCE(d->host_vector_caught))
		__clear_bit(DEDICATED_HOST_VECTOR, drained);
	WRITE_ONCE(d->host_vector_caught, false);
	/* The host's vector was drained too, but its work still waits. */
	if (READ_ONCE(d->deferred))
		dedicated_send_host_vector();
	dedicated_shut_gate(d);

	bitmap_or(drained, drained, d->captured, NR_VECTORS);
	bitmap_zero(d->captured, NR_VECTORS);
	bitmap_to_arr32(irr, drained, NR_VECTORS);
}
EXPORT_SYMBOL_GPL(dedicated_cpu_drain);

static void dedicated_stop_remote_tick(unsigned int cpu)
{
	/* The core has to find something to replace the remote one with. */
	lapic_timer_lend(cpu, false);
	WARN_ON_ONCE(tick_remote_stop(cpu));
}

/* On the CPU, called by an IPI or by its worker. */
static void dedicated_leave(void *unused)
{
	unsigned int cpu = smp_processor_id();

	guard(irqsave)();
	cpumask_clear_cpu(cpu, &__cpu_dedicated_mask);
	tick_dedicated_end(cpu);
}

/*
 * In a worker of the CPU's own: the task was moved there, but anybody with
 * its user ID may move it away at any moment.
 */
static long dedicated_lease_this_cpu(void *arg)
{
	struct dedicated_request *request = arg;
	struct dedicated_refusal *why = request->why;
	unsigned int cpu = smp_processor_id();
	int ret;

	ret = dedicated_close_vectors(request);
	if (ret)
		return ret;

	cpumask_set_cpu(cpu, &__cpu_dedicated_mask);
	tick_dedicated_begin(cpu);
	sched_dedicated_drain(cpu);
	blocking_notifier_call_chain(&dedicated_notifiers, cpu, NULL);
	lapic_timer_lend(cpu, true);
	tick_remote_start(cpu, dedicated_raise_timer);
	if (dedicated_step_fails() || dedicated_wait_for_last_ipis() ||
	    dedicated_close_apic()) {
		ret = dedicated_refuse(why, KVM_HPKVM_REASON_CPU_STALE, -EIO);
		goto err_tick;
	}
	lapic_free_moved_vectors();
	return 0;

err_tick:
	dedicated_stop_remote_tick(cpu);
	dedicated_leave(NULL);
	dl_server_resume(cpu);
	lapic_open_vectors(cpu);
	return ret;
}

/*
 * Have sysfs refuse to take @cpu offline.  dedicated_cpu_offline() would, too,
 * but by then the scheduler has sent away all tasks, and the one that runs the
 * guest has lost its affinity.
 *
 * The device stays: either the caller holds device_hotplug_lock, or @cpu was kept
 * online until now.
 */
static void dedicated_keep_online(unsigned int cpu, bool keep)
{
	struct device *dev = get_cpu_device(cpu);

	/* One that was ejected meanwhile has none, and the lease will be refused. */
	if (!dev)
		return;
	guard(device)(dev);
	if (keep)
		per_cpu(was_offline_disabled, cpu) = dev->offline_disabled;
	dev->offline_disabled = keep || per_cpu(was_offline_disabled, cpu);
}

static int dedicated_move_and_lease(unsigned int cpu,
				    struct dedicated_refusal *why)
{
	struct dedicated_request request = {
		.why = why,
		.privileged = capable(CAP_SYS_NICE),
	};
	cpumask_var_t before;
	int ret;

	if (!alloc_cpumask_var(&before, GFP_KERNEL))
		return -ENOMEM;

	cpumask_copy(before, current->cpus_ptr);
	ret = dedicated_step_fails() ? -EINVAL :
	      set_cpus_allowed_ptr(current, cpumask_of(cpu));
	if (!ret) {
		ret = work_on_cpu(cpu, dedicated_lease_this_cpu, &request);
		if (ret)
			set_cpus_allowed_ptr(current, before);
	}
	free_cpumask_var(before);
	return ret;
}

static int dedicated_lease(unsigned int cpu, struct dedicated_refusal *why)
{
	int ret;

	/* Patching code disturbs the whole host: not for what is refused. */
	cpus_read_lock();
	ret = dedicated_check_lease(cpu, why);
	cpus_read_unlock();
	if (ret)
		return ret;
	ret = dedicated_step_fails() ? -ENOMEM :
	      sched_tick_dedicated_begin(cpu);
	if (ret)
		return ret;
	dedicated_keep_online(cpu, true);
	if (cpumask_empty(cpu_dedicated_mask))
		dedicated_ipi_start();

	/* The CPU may have gone offline meanwhile. */
	cpus_read_lock();
	ret = dedicated_check_lease(cpu, why) ?:
	      dedicated_move_and_lease(cpu, why);
	cpus_read_unlock();

	if (cpumask_empty(cpu_dedicated_mask))
		dedicated_ipi_stop();
	/* Also if not: the detectors may have been set up anew meanwhile. */
	lockup_detector_dedicated(cpu, !ret);
	if (ret) {
		dedicated_keep_online(cpu, false);
		sched_tick_dedicated_end(cpu);
	}
	return ret;
}

/**
 * dedicated_cpu_lease - lease @cpu's local APIC to a guest
 * @cpu: the CPU
 * @why: filled in on refusal
 *
 * Called by the task that will run the guest.  On success the task has been
 * moved to @cpu and pinned there; the caller remembers its affinity.  On
 * failure its affinity is what it was.
 *
 * Return: 0; -EINVAL, -ENODEV, -EBUSY, -EPERM, -EIO, -ENOMEM, or -ERESTARTNOINTR
 * to be called again.
 */
int dedicated_cpu_lease(unsigned int cpu, struct dedicated_refusal *why)
{
	int ret;

	if (cpu >= nr_cpu_ids || !cpu_possible(cpu))
		return dedicated_refuse(why, KVM_HPKVM_REASON_CPU_INVALID,
					-EINVAL);

	/*
	 * Who ejects a device holds this lock until the VM that has the device is
	 * gone, and that may be the caller's, or release a CPU: so do not sleep
	 * on it, and take it before the mutex.
	 */
	ret = lock_device_hotplug_sysfs();
	if (ret)
		return ret;
	scoped_guard(mutex, &dedicated_mutex)
		ret = dedicated_lease(cpu, why);
	unlock_device_hotplug();
	return ret;
}
EXPORT_SYMBOL_GPL(dedicated_cpu_lease);

/**
 * dedicated_cpu_release - give @cpu back to the host
 * @cpu: a leased CPU, whose guest does not run and is sent nothing any more
 *
 * May be called from any CPU.  What is still in the local APIC is discarded.
 */
void dedicated_cpu_release(unsigned int cpu)
{
	guard(mutex)(&dedicated_mutex);

	cpus_read_lock();
	smp_call_function_single(cpu, dedicated_open_apic, NULL, 1);
	dedicated_stop_remote_tick(cpu);
	smp_call_function_single(cpu, dedicated_leave, NULL, 1);
	dl_server_resume(cpu);
	lapic_open_vectors(cpu);
	cpus_read_unlock();

	if (cpumask_empty(cpu_dedicated_mask))
		dedicated_ipi_stop();
	lockup_detector_dedicated(cpu, false);
	dedicated_keep_online(cpu, false);
	sched_tick_dedicated_end(cpu);
}
EXPORT_SYMBOL_GPL(dedicated_cpu_release);

/**
 * dedicated_cpu_unpin - give a task that held @cpu its affinity back
 * @task: the task that dedicated_cpu_lease() pinned
 * @cpu: the CPU it was pinned to
 * @before: the affinity it had then
 *
 * Does nothing if somebody has changed it since.  Never leaves the cpuset that
 * the task is in by now.
 */
void dedicated_cpu_unpin(struct task_struct *task, unsigned int cpu,
			 const struct cpumask *before)
{
	cpumask_var_t allowed, both;

	if (!cpumask_equal(task->cpus_ptr, cpumask_of(cpu)))
		return;
	if (!alloc_cpumask_var(&allowed, GFP_KERNEL))
		return;
	if (alloc_cpumask_var(&both, GFP_KERNEL)) {
		cpuset_cpus_allowed(task, allowed);
		if (cpumask_and(both, allowed, before))
			set_cpus_allowed_ptr(task, both);
		else
			set_cpus_allowed_ptr(task, allowed);
		free_cpumask_var(both);
	}
	free_cpumask_var(allowed);
}
EXPORT_SYMBOL_GPL(dedicated_cpu_unpin);

/*
 * A leased CPU cannot go offline: its guest would not survive it.  Nor can the
 * last one that does the leased ones' work.
 */
static int dedicated_cpu_offline(unsigned int cpu)
{
	if (cpumask_test_cpu(cpu, cpu_dedicated_mask))
		return -EBUSY;
	if (!cpumask_empty(cpu_dedicated_mask) &&
	    dedicated_is_last_housekeeper(cpu))
		return -EBUSY;
	return 0;
}

static int dedicated_pm_notify(struct notifier_block *nb, unsigned long action,
			       void *unused)
{
	switch (action) {
	case PM_HIBERNATION_PREPARE:
	case PM_SUSPEND_PREPARE:
		if (!cpumask_empty(cpu_dedicated_mask))
			return notifier_from_errno(-EBUSY);
	}
	return NOTIFY_DONE;
}

static struct notifier_block dedicated_pm_nb = {
	.notifier_call = dedicated_pm_notify,
};

static int __init dedicated_init(void)
{
	int ret;

	ret = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "x86/dedicated:online",
					NULL, dedicated_cpu_offline);
	if (ret < 0)
		return ret;
	return register_pm_notifier(&dedicated_pm_nb);
}
late_initcall(dedicated_init);
