// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM dedicated cores: interrupts of VFIO devices that go straight to a core.
 *
 * An MSI of a device that was given to the VM, and that names one vCPU in
 * passthrough, is delivered by the IOMMU: its remapping entry holds the guest's
 * vector and the vCPU's core.  VFIO and KVM hear nothing of it.  This file owns
 * the decision, and follows whatever changes it: the guest's MSI message, the
 * device's producer of interrupts, and the vCPU's promotion and demotion.
 *
 * It must never have an interrupt delivered to a core whose vCPU is not in
 * passthrough, nor with a vector that the host needs, and never leave an entry
 * behind for a core that is given back.  So what is direct is in a list of its
 * own, from when the entry is written until it is written back: an irqfd whose
 * eventfd was closed is in no other, but keeps its producer for a while.
 *
 * kvm->irqfds.lock protects all of it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/irqbypass.h>
#include <linux/kvm_host.h>
#include <linux/kvm_irqfd.h>
#include <linux/uaccess.h>

#include <asm/dedicated_cpu.h>
#include <asm/irq_remapping.h>
#include <asm/kvm_hpkvm.h>

#include "hpkvm.h"
#include "irq.h"
#include "lapic.h"

/*
 * A vector of the host vector's class would come in with it when the gate is
 * ajar, as often as the device likes.
 */
#define FIRST_HOST_CLASS_VECTOR	(DEDICATED_HOST_VECTOR & 0xf0)

/* Where the guest wants the interrupt; enum kvm_hpkvm_irq_reason if not there. */
static u32 hpkvm_irq_find_target(struct kvm_kernel_irqfd *irqfd,
				 struct kvm_vcpu **vcpu, u8 *vector)
{
	struct kvm *kvm = irqfd->kvm;
	struct kvm_lapic_irq irq;

	if (!(kvm->arch.hpkvm_features & KVM_HPKVM_F_DIRECT_VFIO))
		return KVM_HPKVM_IRQ_REASON_FEATURE_OFF;
	/* Its eventfd was closed: nobody tells it of a new message any more. */
	if (list_empty(&irqfd->list))
		return KVM_HPKVM_IRQ_REASON_NOT_MSI;
	if (irqfd->hpkvm.keep_host)
		return KVM_HPKVM_IRQ_REASON_POLICY;
	if (irqfd->hpkvm.unconfirmed)
		return KVM_HPKVM_IRQ_REASON_IOMMU;
	if (irqfd->irq_entry.type != KVM_IRQ_ROUTING_MSI)
		return KVM_HPKVM_IRQ_REASON_NOT_MSI;

	kvm_set_msi_irq(kvm, &irqfd->irq_entry, &irq);
	if (!kvm_irq_is_postable(&irq) || irq.trig_mode)
		return KVM_HPKVM_IRQ_REASON_DELIVERY_MODE;
	if (!kvm_intr_is_single_vcpu(kvm, &irq, vcpu))
		return KVM_HPKVM_IRQ_REASON_TARGETS;
	if (irq.vector < 16 || irq.vector >= FIRST_HOST_CLASS_VECTOR ||
	    test_bit(irq.vector, (*vcpu)->arch.ioapic_handled_vectors))
		return KVM_HPKVM_IRQ_REASON_VECTOR;
	if (!READ_ONCE((*vcpu)->arch.hpkvm.passthrough))
		return KVM_HPKVM_IRQ_REASON_NOT_PASSTHROUGH;
	*vector = irq.vector;
	return KVM_HPKVM_IRQ_REASON_NONE;
}

/*
 * An IOMMU that did not confirm an entry has written that to the kernel's log.
 * It is not asked again for this interrupt: what it cannot be told to end, it
 * must not begin, and waiting for it takes long.
 */
static bool hpkvm_irq_set_direct(struct kvm_irqfd_hpkvm *d, int cpu, u8 vector)
{
	if (!irq_remapping_set_direct(d->host_irq, cpu, vector))
		return true;
	d->unconfirmed = true;
	d->reason = KVM_HPKVM_IRQ_REASON_IOMMU;
	return false;
}

static void hpkvm_irq_end_direct(struct kvm_irqfd_hpkvm *d)
{
	if (!d->vcpu)
		return;
	hpkvm_irq_set_direct(d, -1, 0);
	hlist_del_init(&d->direct);
	d->vcpu = NULL;
	d->ended++;
}

/* Return true if the interrupt is direct now. */
static bool hpkvm_irq_refresh(struct kvm_kernel_irqfd *irqfd)
{
	struct kvm_irqfd_hpkvm *d = &irqfd->hpkvm;
	struct kvm_vcpu *vcpu = NULL;
	u8 vector = 0;

	d->host_irq = irqfd->producer->irq;
	d->reason = hpkvm_irq_find_target(irqfd, &vcpu, &vector);
	if (!d->reason && (d->vcpu != vcpu || d->vector != vector)) {
		if (hpkvm_irq_set_direct(d, vcpu->arch.hpkvm.cpu, vector)) {
			if (hlist_unhashed(&d->direct))
				hlist_add_head(&d->direct,
					       &irqfd->kvm->arch.hpkvm_direct);
			d->vcpu = vcpu;
			d->vector = vector;
			d->directed++;
		}
	}
	if (d->reason)
		hpkvm_irq_end_direct(d);
	return d->vcpu;
}

/* As above, and stock KVM routes it if it is not, and still does that. */
static void hpkvm_irq_reroute(struct kvm_kernel_irqfd *irqfd)
{
	if (!hpkvm_irq_refresh(irqfd) && !list_empty(&irqfd->list))
		kvm_x86_call(pi_update_irte)(irqfd->kvm, irqfd->producer->irq,
					     irqfd->gsi, 1);
}

/**
 * __kvm_hpkvm_irq_add - a device's interrupt has met its irqfd
 * @irqfd: the irqfd, with its producer; its VM's irqfds.lock is held
 */
void __kvm_hpkvm_irq_add(struct kvm_kernel_irqfd *irqfd)
{
	hpkvm_irq_refresh(irqfd);
}

/**
 * __kvm_hpkvm_irq_del - the two part
 * @irqfd: as above
 */
void __kvm_hpkvm_irq_del(struct kvm_kernel_irqfd *irqfd)
{
	hpkvm_irq_end_direct(&irqfd->hpkvm);
}

/**
 * __kvm_hpkvm_irq_route - the guest has changed the message of an interrupt
 * @kvm: the VM, its irqfds.lock is held
 * @host_irq: the Linux interrupt
 *
 * Return: true if it is direct now, false if stock KVM has to route it.
 */
bool __kvm_hpkvm_irq_route(struct kvm *kvm, unsigned int host_irq)
{
	struct kvm_kernel_irqfd *irqfd;

	list_for_each_entry(irqfd, &kvm->irqfds.items, list) {
		if (irqfd->producer && irqfd->producer->irq == host_irq)
			return hpkvm_irq_refresh(irqfd);
	}
	return false;
}

/**
 * kvm_hpkvm_irq_promoted - a vCPU takes its interrupts itself from now on
 * @vcpu: the vCPU, in passthrough
 */
void kvm_hpkvm_irq_promoted(struct kvm_vcpu *vcpu)
{
	struct kvm *kvm = vcpu->kvm;
	struct kvm_kernel_irqfd *irqfd;

	spin_lock_irq(&kvm->irqfds.lock);
	list_for_each_entry(irqfd, &kvm->irqfds.items, list) {
		if (irqfd->producer)
			hpkvm_irq_refresh(irqfd);
	}
	spin_unlock_irq(&kvm->irqfds.lock);
}

/**
 * kvm_hpkvm_irq_demote - no interrupt goes to a vCPU's core any more
 * @vcpu: the vCPU, just no longer in passthrough; its core is still leased
 *
 * What has been delivered is in the core's IRR when this returns.
 */
void kvm_hpkvm_irq_demote(struct kvm_vcpu *vcpu)
{
	struct kvm *kvm = vcpu->kvm;
	struct kvm_irqfd_hpkvm *d;
	struct hlist_node *next;

	spin_lock_irq(&kvm->irqfds.lock);
	hlist_for_each_entry_safe(d, next, &kvm->arch.hpkvm_direct, direct) {
		if (d->vcpu != vcpu)
			continue;
		d->left = vcpu;
		hpkvm_irq_reroute(container_of(d, struct kvm_kernel_irqfd,
					       hpkvm));
	}
	spin_unlock_irq(&kvm->irqfds.lock);
}

/**
 * kvm_hpkvm_irq_forwarded - count what goes from the core's IRR to KVM's
 * @vcpu: after kvm_hpkvm_irq_demote()
 * @irr: what was in the core's IRR
 */
void kvm_hpkvm_irq_forwarded(struct kvm_vcpu *vcpu, const u32 *irr)
{
	struct kvm *kvm = vcpu->kvm;
	struct kvm_kernel_irqfd *irqfd;

	spin_lock_irq(&kvm->irqfds.lock);
	list_for_each_entry(irqfd, &kvm->irqfds.items, list) {
		struct kvm_irqfd_hpkvm *d = &irqfd->hpkvm;

		if (d->left != vcpu)
			continue;
		d->left = NULL;
		d->forwarded += !!(irr[d->vector / 32] & BIT(d->vector % 32));
	}
	spin_unlock_irq(&kvm->irqfds.lock);
}

static void hpkvm_irq_describe(struct kvm_hpkvm_irq *irq,
			       const struct kvm_kernel_irqfd *irqfd)
{
	const struct kvm_irqfd_hpkvm *d = &irqfd->hpkvm;

	irq->mode = KVM_HPKVM_IRQ_MODE_REMAPPED;
	irq->reason = d->reason ?: KVM_HPKVM_IRQ_REASON_NOT_BOUND;
	irq->host_irq = irqfd->producer->irq;
	irq->directed = d->directed;
	irq->ended = d->ended;
	irq->forwarded = d->forwarded;
	if (d->vcpu) {
		irq->mode = KVM_HPKVM_IRQ_MODE_DIRECT;
		irq->reason = KVM_HPKVM_IRQ_REASON_NONE;
		irq->vector = d->vector;
		irq->vcpu = d->vcpu->vcpu_id;
		irq->cpu = d->vcpu->arch.hpkvm.cpu;
	}
}

/* -ENOENT if no VFIO interrupt is connected to that GSI. */
static int hpkvm_irq_get(struct kvm *kvm, struct kvm_hpkvm_irq __user *argp)
{
	struct kvm_kernel_irqfd *irqfd;
	struct kvm_hpkvm_irq irq;
	int ret = -ENOENT;
	u32 gsi;

	if (copy_from_user(&irq, argp, sizeof(irq)))
		return -EFAULT;
	if (irq.flags || memchr_inv(irq.reserved, 0, sizeof(irq.reserved)))
		return -EINVAL;

	gsi = irq.gsi;
	memset(&irq, 0, sizeof(irq));
	irq.gsi = gsi;
	irq.cpu = ~0u;
	irq.vcpu = ~0u;
	spin_lock_irq(&kvm->irqfds.lock);
	list_for_each_entry(irqfd, &kvm->irqfds.items, list) {
		if (irqfd->gsi == gsi && irqfd->producer) {
			hpkvm_irq_describe(&irq, irqfd);
			ret = 0;
			break;
		}
	}
	spin_unlock_irq(&kvm->irqfds.lock);
	if (!ret && copy_to_user(argp, &irq, sizeof(irq)))
		ret = -EFAULT;
	return ret;
}

/* -ENOENT if there is no irqfd for that GSI. */
static int hpkvm_irq_set_policy(struct kvm *kvm,
				struct kvm_hpkvm_irq_policy __user *argp)
{
	struct kvm_hpkvm_irq_policy policy;
	struct kvm_kernel_irqfd *irqfd;
	int ret = -ENOENT;

	if (copy_from_user(&policy, argp, sizeof(policy)))
		return -EFAULT;
	if (policy.flags & ~KVM_HPKVM_IRQ_KEEP_HOST ||
	    memchr_inv(policy.reserved, 0, sizeof(policy.reserved)))
		return -EINVAL;

	spin_lock_irq(&kvm->irqfds.lock);
	list_for_each_entry(irqfd, &kvm->irqfds.items, list) {
		if (irqfd->gsi != policy.gsi)
			continue;
		irqfd->hpkvm.keep_host = policy.flags & KVM_HPKVM_IRQ_KEEP_HOST;
		if (irqfd->producer)
			hpkvm_irq_reroute(irqfd);
		ret = 0;
	}
	spin_unlock_irq(&kvm->irqfds.lock);
	return ret;
}

/**
 * kvm_hpkvm_vm_ioctl - what is left of a VM's ioctls when x86 knows no more
 * @kvm: the VM
 * @ioctl: the number
 * @argp: its argument
 *
 * Return: what the ioctl returns, -ENOTTY if it is not one of ours either.
 */
int kvm_hpkvm_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp)
{
	switch (ioctl) {
	case KVM_HPKVM_GET_IRQ:
		return hpkvm_irq_get(kvm, argp);
	case KVM_HPKVM_SET_IRQ_POLICY:
		return hpkvm_irq_set_policy(kvm, argp);
	default:
		return -ENOTTY;
	}
}
