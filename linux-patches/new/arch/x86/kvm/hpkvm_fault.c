// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM dedicated cores: deliberate mistakes, to test the tests.
 *
 * At each point where an interrupt changes hands, debugfs can have one dropped
 * or delivered twice:
 *
 *	echo N > /sys/kernel/debug/kvm_hpkvm/{drop,double}_POINT
 *
 * hits the Nth interrupt from now at that point, in whatever VM; the file then
 * reads 0.  fail_direct and fail_undirect are for the IOMMU: it does not confirm
 * the Nth entry that directs a device's interrupt to a core, or that ends it.
 * fail_producer is for stock KVM: it cannot connect the Nth interrupt of a VFIO
 * device with its irqfd.  fail_lease has a lease fail in its Nth step.
 * Only for kernels that test a torture test: never enable
 * CONFIG_KVM_HPKVM_FAULTS elsewhere.
 */
#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/kvm_host.h>

#include <asm/apic.h>
#include <asm/dedicated_cpu.h>
#include <asm/irq_remapping.h>

#include "hpkvm_fault.h"

static const char * const point_names[HPKVM_FAULT_NR] = {
	[HPKVM_FAULT_SEND]	= "send",
	[HPKVM_FAULT_INJECT]	= "inject",
	[HPKVM_FAULT_CAPTURE]	= "capture",
	[HPKVM_FAULT_PROMOTE]	= "promote",
	[HPKVM_FAULT_DEMOTE]	= "demote",
};

static atomic_t drop_in[HPKVM_FAULT_NR], double_in[HPKVM_FAULT_NR];
static atomic_t fail_producer;
static struct dentry *fault_dir;

void hpkvm_fault_init(void)
{
	unsigned int i;
	char name[32];

	fault_dir = debugfs_create_dir("kvm_hpkvm", NULL);
	for (i = 0; i < HPKVM_FAULT_NR; i++) {
		snprintf(name, sizeof(name), "drop_%s", point_names[i]);
		debugfs_create_atomic_t(name, 0600, fault_dir, &drop_in[i]);
		snprintf(name, sizeof(name), "double_%s", point_names[i]);
		debugfs_create_atomic_t(name, 0600, fault_dir, &double_in[i]);
	}
	debugfs_create_atomic_t("fail_direct", 0600, fault_dir,
				&irq_remapping_faults[0]);
	debugfs_create_atomic_t("fail_undirect", 0600, fault_dir,
				&irq_remapping_faults[1]);
	debugfs_create_atomic_t("fail_producer", 0600, fault_dir,
				&fail_producer);
	debugfs_create_atomic_t("fail_lease", 0600, fault_dir,
				&dedicated_lease_fault);
}

void hpkvm_fault_exit(void)
{
	debugfs_remove(fault_dir);
}

/**
 * hpkvm_fault_drop - an interrupt is about to change hands
 * @vcpu: whose interrupt it is
 * @point: where
 * @vector: the guest's vector
 *
 * Return: true if the caller must forget it.
 */
bool hpkvm_fault_drop(struct kvm_vcpu *vcpu, enum hpkvm_fault_point point,
		      u8 vector)
{
	if (!atomic_dec_if_positive(&double_in[point])) {
		WRITE_ONCE(vcpu->arch.hpkvm.fault_vector, vector);
		/* A guest that is left alone would not enter for long. */
		if (vcpu != kvm_get_running_vcpu())
			kvm_vcpu_kick(vcpu);
	}
	return !atomic_dec_if_positive(&drop_in[point]);
}

/* kvm_hpkvm_fault_producer - -EINVAL if this one is to fail, as pi_update_irte() */
int kvm_hpkvm_fault_producer(void)
{
	return atomic_dec_if_positive(&fail_producer) ? 0 : -EINVAL;
}

/* hpkvm_fault_armed - is a mistake to be made at @point? */
bool hpkvm_fault_armed(enum hpkvm_fault_point point)
{
	return atomic_read(&drop_in[point]) || atomic_read(&double_in[point]);
}

/**
 * hpkvm_fault_again - the vector to be delivered a second time now
 * @vcpu: a vCPU in passthrough, on its core, about to enter the guest
 *
 * To be called when all others have been handed over.  While the first is
 * pending or in service the second waits, for the local APIC would merge them;
 * the first one's EOI exits, so that it waits no longer than that.
 *
 * Return: the vector, 0 if there is none.
 */
u8 hpkvm_fault_again(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	u8 vector = READ_ONCE(h->fault_vector);

	if (!vector)
		return 0;
	if (dedicated_apic_test(APIC_IRR, vector) ||
	    dedicated_apic_test(APIC_ISR, vector)) {
		__set_bit(vector, h->eoi_vectors);
		return 0;
	}
	WRITE_ONCE(h->fault_vector, 0);
	return vector;
}
