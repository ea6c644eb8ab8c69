/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Entry points that empty a dedicated CPU's IRR.
 *
 * Reached through the drain IDT only, in kernel mode, in a few instructions'
 * window of dedicated_cpu_drain() on that CPU.  They record the vector in
 * dedicated_drained and signal EOI.  They must not call C: nothing on this
 * path knows of an interrupt.
 */
#include <linux/linkage.h>
#include <asm/apicdef.h>
#include <asm/asm.h>
#include <asm/dedicated_drain.h>
#include <asm/irq_vectors.h>
#include <asm/msr-index.h>
#include <asm/percpu.h>
#include <asm/trapnr.h>
#include <asm/unwind_hints.h>

	.text
	.align DEDICATED_DRAIN_ALIGN
SYM_CODE_START(dedicated_drain_start)
	vector = DEDICATED_DRAIN_FIRST
	.rept NR_VECTORS - DEDICATED_DRAIN_FIRST
	UNWIND_HINT_IRET_REGS
0:
	ENDBR
	.if vector == X86_TRAP_MC
	jmp	dedicated_drain_mc
	.else
	.byte	0x6a, vector
	jmp	dedicated_drain_common
	.endif
	.fill	0b + DEDICATED_DRAIN_ALIGN - ., 1, 0xcc
	vector = vector + 1
	.endr
SYM_CODE_END(dedicated_drain_start)

/*
 * Vector 18 is both #MC and an interrupt that a guest may send to itself.
 * MCG_STATUS.MCIP tells which (Intel SDM 17.3.1.2).
 */
SYM_CODE_START_LOCAL(dedicated_drain_mc)
	UNWIND_HINT_IRET_REGS
#ifdef CONFIG_X86_MCE
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	movl	$MSR_IA32_MCG_STATUS, %ecx
	rdmsr
	testl	$MCG_STATUS_MCIP_ASM, %eax
	popq	%rdx
	popq	%rcx
	popq	%rax
	UNWIND_HINT_IRET_REGS
	jnz	asm_exc_machine_check
#endif
	pushq	$X86_TRAP_MC
	jmp	dedicated_drain_common
SYM_CODE_END(dedicated_drain_mc)

SYM_CODE_START_LOCAL(dedicated_drain_common)
	UNWIND_HINT_IRET_REGS offset=8
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	/* The byte that was pushed is sign-extended. */
	movzbl	24(%rsp), %eax
	btsq	%rax, PER_CPU_VAR(dedicated_drained)
	movl	$(APIC_BASE_MSR + (APIC_EOI >> 4)), %ecx
	xorl	%eax, %eax
	xorl	%edx, %edx
	wrmsr
	popq	%rdx
	popq	%rcx
	popq	%rax
	addq	$8, %rsp
	UNWIND_HINT_IRET_REGS
	iretq
SYM_CODE_END(dedicated_drain_common)
