// SPDX-License-Identifier: GPL-2.0-only
/*
 * A guest that keeps its local APIC busy for ever, for tests that do things to
 * it while it runs.
 *
 * It must survive whatever happens to its interrupts: nothing here asserts that
 * one arrives, nor waits for it without a limit.
 */
#include "apic.h"
#include "hpkvm.h"

#define BUSY_SELF_VECTOR	0x51
#define BUSY_IPI_VECTOR		0x93
#define BUSY_TIMER_VECTOR	0xf1	/* class 15: what the gate lets in */

/* Local APIC timer: 1 GHz divided by 1. */
#define BUSY_TDCR		0xb
#define BUSY_TMICT		100000

#define BUSY_LOOPS_PER_HLT	64

static uint64_t busy_interrupts;

static void busy_handler(struct ex_regs *regs)
{
	__atomic_fetch_add(&busy_interrupts, 1, __ATOMIC_RELAXED);
	if (regs->vector == BUSY_TIMER_VECTOR)
		x2apic_write_reg(APIC_TMICT, BUSY_TMICT);
	x2apic_write_reg(APIC_EOI, 0);
}

static void busy_guest(void)
{
	unsigned int loop, i;

	x2apic_enable();
	x2apic_write_reg(APIC_LVT0, APIC_LVT_MASKED);
	x2apic_write_reg(APIC_LVTT, BUSY_TIMER_VECTOR);
	x2apic_write_reg(APIC_TDCR, BUSY_TDCR);

	for (loop = 0; ; loop++) {
		x2apic_write_reg(APIC_TMICT, BUSY_TMICT);
		x2apic_write_reg(APIC_SELF_IPI, BUSY_SELF_VECTOR);
		x2apic_write_reg(APIC_ICR, APIC_DEST_ALLBUT | APIC_DM_FIXED |
				 BUSY_IPI_VECTOR);
		asm volatile("sti");
		for (i = 0; i < 100; i++)
			cpu_relax();
		/* The timer ends it. */
		if (loop % BUSY_LOOPS_PER_HLT == 0)
			asm volatile("hlt");
		asm volatile("cli");
	}
}

struct kvm_vcpu *hpkvm_busy_vcpu(struct kvm_vm *vm, uint32_t id)
{
	struct kvm_vcpu *vcpu = vm_vcpu_add(vm, id, busy_guest);

	if (!id) {
		vm_install_exception_handler(vm, BUSY_SELF_VECTOR, busy_handler);
		vm_install_exception_handler(vm, BUSY_IPI_VECTOR, busy_handler);
		vm_install_exception_handler(vm, BUSY_TIMER_VECTOR,
					     busy_handler);
	}
	return vcpu;
}

uint64_t hpkvm_busy_interrupts(struct kvm_vm *vm)
{
	uint64_t *count = addr_gva2hva(vm, (vm_vaddr_t)&busy_interrupts);

	return READ_ONCE(*count);
}
