// SPDX-License-Identifier: GPL-2.0-only
/*
 * Arguments of KVM_HPKVM_GET_IRQ and KVM_HPKVM_SET_IRQ_POLICY.
 *
 * No VFIO device is needed, and so no interrupt is ever direct here: the tests
 * with devices are those of the VMM.
 */
#include <sys/eventfd.h>

#include "hpkvm.h"
#include "hpkvm_harness.h"

#define GSI	10

FIXTURE(irq) {
	struct kvm_vm *vm;
	int event;
};

FIXTURE_SETUP(irq)
{
	struct kvm_irqfd irqfd = { .gsi = GSI };

	if (!hpkvm_supported())
		SKIP(return, "this kernel or host has no KVM_CAP_X86_HPKVM");
	self->vm = hpkvm_vm_create(1, kvm_check_cap(KVM_CAP_X86_HPKVM));
	self->event = eventfd(0, EFD_CLOEXEC);
	irqfd.fd = self->event;
	vm_ioctl(self->vm, KVM_IRQFD, &irqfd);
}

FIXTURE_TEARDOWN(irq)
{
	close(self->event);
	kvm_vm_free(self->vm);
}

static int get_irq(struct kvm_vm *vm, struct kvm_hpkvm_irq *irq)
{
	return __vm_ioctl(vm, KVM_HPKVM_GET_IRQ, irq) ? errno : 0;
}

static int set_policy(struct kvm_vm *vm, struct kvm_hpkvm_irq_policy *policy)
{
	return __vm_ioctl(vm, KVM_HPKVM_SET_IRQ_POLICY, policy) ? errno : 0;
}

TEST_F(irq, get_without_device)
{
	struct kvm_hpkvm_irq irq = { .gsi = GSI };

	/* There is an irqfd, but nothing of VFIO's behind it. */
	EXPECT_EQ(ENOENT, get_irq(self->vm, &irq));
	irq.gsi = ~0u;
	EXPECT_EQ(ENOENT, get_irq(self->vm, &irq));
}

TEST_F(irq, get_bad_arguments)
{
	struct kvm_hpkvm_irq irq = { .gsi = GSI, .flags = 1 };

	EXPECT_EQ(EINVAL, get_irq(self->vm, &irq));
	irq.flags = 0;
	irq.reserved[ARRAY_SIZE(irq.reserved) - 1] = 1;
	EXPECT_EQ(EINVAL, get_irq(self->vm, &irq));
	EXPECT_EQ(EFAULT, get_irq(self->vm, NULL));
}

TEST_F(irq, policy)
{
	struct kvm_hpkvm_irq_policy policy = {
		.gsi = GSI,
		.flags = KVM_HPKVM_IRQ_KEEP_HOST,
	};

	EXPECT_EQ(0, set_policy(self->vm, &policy));
	policy.flags = 0;
	EXPECT_EQ(0, set_policy(self->vm, &policy));
	policy.gsi++;
	EXPECT_EQ(ENOENT, set_policy(self->vm, &policy));
}

TEST_F(irq, policy_ends_with_the_irqfd)
{
	struct kvm_irqfd irqfd = {
		.fd = self->event,
		.gsi = GSI,
		.flags = KVM_IRQFD_FLAG_DEASSIGN,
	};
	struct kvm_hpkvm_irq_policy policy = { .gsi = GSI };

	vm_ioctl(self->vm, KVM_IRQFD, &irqfd);
	EXPECT_EQ(ENOENT, set_policy(self->vm, &policy));
}

TEST_F(irq, policy_bad_arguments)
{
	struct kvm_hpkvm_irq_policy policy = {
		.gsi = GSI,
		.flags = KVM_HPKVM_IRQ_KEEP_HOST << 1,
	};

	EXPECT_EQ(EINVAL, set_policy(self->vm, &policy));
	policy.flags = 0;
	policy.reserved[0] = 1;
	EXPECT_EQ(EINVAL, set_policy(self->vm, &policy));
	EXPECT_EQ(EFAULT, set_policy(self->vm, NULL));
}

TEST_F(irq, on_any_vm)
{
	struct kvm_hpkvm_irq irq = { .gsi = GSI };
	struct kvm_vm *vm = vm_create(1);

	/* No capability is needed to ask. */
	EXPECT_EQ(ENOENT, get_irq(vm, &irq));
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
