// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM dedicated cores: binding a vCPU to a core, and giving the core back.
 *
 * This file owns KVM_HPKVM_BIND, KVM_HPKVM_UNBIND and KVM_HPKVM_GET_STATE, the
 * affinity of the vCPU's thread meanwhile, and a vCPU's first and last moments.
 * Every lease it takes must end with the vCPU at the latest, in whatever way
 * that ends.  Which CPU may be leased at all is for kernel/apic/dedicated.c.
 */
#include <linux/kvm_host.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/uaccess.h>

#include <asm/dedicated_cpu.h>
#include <asm/kvm_hpkvm.h>

#include <trace/events/kvm_hpkvm.h>

#include "hpkvm.h"
#include "hpkvm_int.h"
#include "lapic.h"

static int hpkvm_lease_check(struct kvm_vcpu *vcpu,
			     const struct kvm_hpkvm_bind *bind,
			     struct dedicated_refusal *why)
{
	u32 *reason = &why->reason;

	if (!vcpu->kvm->arch.hpkvm_features && hpkvm_host_unsuitable(why))
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

static int hpkvm_lease_take(struct kvm_vcpu *vcpu, unsigned int cpu,
			    struct dedicated_refusal *why)
{
	struct kvm_timer *timer = &vcpu->arch.apic->lapic_timer;
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

	/* In passthrough no entry waits for what KVM's timer has sent early. */
	swap(h->timer_advance_ns, timer->timer_advance_ns);
	h->task = get_task_struct(current);
	h->kicks_before = atomic_read(per_cpu_ptr(&dedicated_cpu.nmi_sent, cpu));
	WRITE_ONCE(h->reason, KVM_HPKVM_REASON_NOT_ENTERED);
	WRITE_ONCE(h->cpu, cpu);
	static_branch_inc(&kvm_hpkvm_key);
	return 0;
}

/**
 * hpkvm_lease_bind - KVM_HPKVM_BIND
 * @vcpu: the vCPU, loaded, on the thread that will run it
 * @argp: which core, and why not
 *
 * Return: 0 or what the ioctl fails with.
 */
int hpkvm_lease_bind(struct kvm_vcpu *vcpu, struct kvm_hpkvm_bind __user *argp)
{
	struct dedicated_refusal why = {};
	struct kvm_hpkvm_bind bind;
	int ret;

	if (copy_from_user(&bind, argp, sizeof(bind)))
		return -EFAULT;

	ret = hpkvm_lease_check(vcpu, &bind, &why) ?:
	      hpkvm_lease_take(vcpu, bind.cpu, &why);
	/* Not an outcome, and user space never sees it. */
	if (ret == -ERESTARTNOINTR)
		return ret;
	trace_kvm_hpkvm_bind(vcpu->vcpu_id, bind.cpu, why.reason);

	bind.reason = why.reason;
	bind.irq = why.irq;
	strscpy_pad(bind.culprit, why.culprit);
	/* The lease stands: what a failed write loses can be asked for again. */
	if (copy_to_user(argp, &bind, sizeof(bind)) && !ret)
		ret = -EFAULT;
	return ret;
}

static void hpkvm_lease_restore_affinity(struct kvm_vcpu_hpkvm *h, int cpu)
{
	dedicated_cpu_unpin(h->task, cpu, h->affinity);
	put_task_struct(h->task);
	h->task = NULL;
	free_cpumask_var(h->affinity);
}

/* The vCPU is in emulated mode, or will never run again. */
static void hpkvm_lease_end(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	int cpu = h->cpu;

	WRITE_ONCE(h->cpu, -1);
	WRITE_ONCE(h->reason, KVM_HPKVM_REASON_NOT_BOUND);
	if (vcpu->arch.apic)
		swap(h->timer_advance_ns,
		     vcpu->arch.apic->lapic_timer.timer_advance_ns);
	dedicated_cpu_release(cpu);
	hpkvm_lease_restore_affinity(h, cpu);
	static_branch_dec(&kvm_hpkvm_key);
	trace_kvm_hpkvm_unbind(vcpu->vcpu_id, cpu, 0);
}

/**
 * hpkvm_lease_unbind - KVM_HPKVM_UNBIND
 * @vcpu: the vCPU, loaded
 *
 * Return: 0, or -ENOENT if it has no core.
 */
int hpkvm_lease_unbind(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.hpkvm.cpu < 0)
		return -ENOENT;
	kvm_hpkvm_demote(vcpu, KVM_HPKVM_REASON_NOT_BOUND);
	hpkvm_lease_end(vcpu);
	return 0;
}

static u32 hpkvm_lease_mode(const struct kvm_vcpu_hpkvm *h, int cpu)
{
	if (cpu < 0)
		return KVM_HPKVM_MODE_UNBOUND;
	return READ_ONCE(h->passthrough) ? KVM_HPKVM_MODE_PASSTHROUGH :
					   KVM_HPKVM_MODE_EMULATED;
}

static void hpkvm_lease_core_state(const struct kvm_vcpu_hpkvm *h, int cpu,
				   struct kvm_hpkvm_state *state)
{
	u32 kicks = atomic_read(per_cpu_ptr(&dedicated_cpu.nmi_sent, cpu));

	state->kicks = kicks - READ_ONCE(h->kicks_before);
	state->tick_stopped_at = tick_dedicated_stopped_at(cpu);
	state->work_at = dedicated_cpu_work(cpu, &state->work,
					    &state->work_count);
}

static int hpkvm_lease_get_state(struct kvm_vcpu *vcpu,
				 struct kvm_hpkvm_state __user *argp)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	int cpu = READ_ONCE(h->cpu);
	struct kvm_hpkvm_state state = {
		.mode		= hpkvm_lease_mode(h, cpu),
		.cpu		= cpu,
		.features	= vcpu->kvm->arch.hpkvm_features,
		.promotions	= READ_ONCE(vcpu->stat.hpkvm_promotions),
		.demotions	= READ_ONCE(vcpu->stat.hpkvm_demotions),
		.captured	= READ_ONCE(vcpu->stat.hpkvm_captured),
		.injected	= READ_ONCE(vcpu->stat.hpkvm_injected),
		.direct_sent	= atomic64_read(&h->direct_sent),
	};

	if (state.mode == KVM_HPKVM_MODE_PASSTHROUGH) {
		u32 timer = READ_ONCE(h->timer_state);

		state.timer = timer & 3;
		state.timer_reason = timer >> 2;
	} else {
		state.reason = READ_ONCE(h->reason);
		/* A debugger that has left a vCPU asleep changes nothing. */
		if (state.reason == KVM_HPKVM_REASON_DEBUG &&
		    !hpkvm_needs_emulation(vcpu))
			state.reason = KVM_HPKVM_REASON_NOT_ENTERED;
		state.timer_reason = KVM_HPKVM_TIMER_REASON_NOT_PASSTHROUGH;
	}
	if (cpu >= 0)
		hpkvm_lease_core_state(h, cpu, &state);
	return copy_to_user(argp, &state, sizeof(state)) ? -EFAULT : 0;
}

/* Does not take vcpu->mutex: a vCPU in passthrough may hold it for hours. */
long kvm_arch_vcpu_async_ioctl(struct file *filp, unsigned int ioctl,
			       unsigned long arg)
{
	if (ioctl != KVM_HPKVM_GET_STATE)
		return -ENOIOCTLCMD;
	return hpkvm_lease_get_state(filp->private_data, (void __user *)arg);
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
	if (h->passthrough)
		hpkvm_await_arrivals(hpkvm_stop_senders(vcpu));
	hpkvm_lease_end(vcpu);
}
