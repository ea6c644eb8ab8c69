/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM dedicated cores: send an IPI between the VM exit that asks for it and the
 * next entry, for both vendors.
 *
 * This code runs with the guest's segment bases, SPEC_CTRL and return stack:
 * nothing has been switched and nothing has to be switched back.  So it has no
 * indirect branch and no return, uses neither stack nor per-CPU data, and reads
 * no memory but the VM's own map and what that points to.  The only value of
 * the guest's that becomes an address is masked (Spectre v1).  NMIs have none of
 * these limits: where they may come, the caller looks at SPEC_CTRL first.
 *
 * It must never write the physical ICR with a delivery mode, a shorthand or a
 * destination of the guest's: what it writes is a vector that was checked and
 * the APIC ID of a core that the VM holds.
 */
#ifndef __KVM_X86_HPKVM_IPI_SEND_S
#define __KVM_X86_HPKVM_IPI_SEND_S

#include <asm/alternative.h>
#include <asm/cpufeatures.h>
#include <asm/irq_vectors.h>
#include <asm/kvm_vcpu_regs.h>
#include "kvm-asm-offsets.h"

/* Where the guest's @reg is kept; @regs is the offset of vcpu.arch.regs. */
#define HPKVM_REG(regs, reg)	(regs + __VCPU_REGS_##reg * 8)

/*
 * What HPKVM_SEND_IPI clobbers of the guest's beside RAX, RBX and RDX, which the
 * code around it needs before and after.
 */
.macro HPKVM_SAVE_REGS regs:req base:req
	mov	%rcx, HPKVM_REG(\regs, RCX)(\base)
	mov	%rsi, HPKVM_REG(\regs, RSI)(\base)
	mov	%rdi, HPKVM_REG(\regs, RDI)(\base)
	mov	%r8,  HPKVM_REG(\regs, R8)(\base)
	mov	%r9,  HPKVM_REG(\regs, R9)(\base)
	mov	%r10, HPKVM_REG(\regs, R10)(\base)
	mov	%r11, HPKVM_REG(\regs, R11)(\base)
.endm

.macro HPKVM_LOAD_REGS regs:req base:req
	mov	HPKVM_REG(\regs, RCX)(\base), %rcx
	mov	HPKVM_REG(\regs, RSI)(\base), %rsi
	mov	HPKVM_REG(\regs, RDI)(\base), %rdi
	mov	HPKVM_REG(\regs, R8)(\base),  %r8
	mov	HPKVM_REG(\regs, R9)(\base),  %r9
	mov	HPKVM_REG(\regs, R10)(\base), %r10
	mov	HPKVM_REG(\regs, R11)(\base), %r11
.endm

/*
 * Look APIC ID R9D up in the map RSI, for vector EDI: R10 is the target.
 * Goes to \no if there is none, or if somebody waits for the vector's EOI.
 * Clobbers R11.
 */
.macro HPKVM_IPI_LOOKUP no:req
	/* R11: all ones if in range, as array_index_nospec() does it. */
	cmp	$HPKVM_IPI_MAP_SIZE, %r9d
	sbb	%r11, %r11
	and	%r11, %r9
	mov	(%rsi, %r9, 8), %r10
	and	%r11, %r10
	jz	\no
	mov	HPKVM_IPI_TARGET_handled(%r10), %r11
	bt	%edi, (%r11)
	jc	\no
.endm

/*
 * Send what the guest wrote to its ICR.
 *
 * In: RBX + \sender is its struct hpkvm_ipi_sender, with a map; ECX and EDX
 * are the lower and the upper half of what it wrote.  Goes to \no, with nothing
 * sent, if C has to do it.  Clobbers all but RBX, RBP, RSP and R12 to R15.
 *
 * All targets are looked up first: once one has been sent to, there is no way
 * back.  A target that leaves the map waits until @busy is clear.
 */
.macro HPKVM_SEND_IPI sender:req no:req
	/* Fixed and edge-triggered, no shorthand but self, nothing reserved. */
	test	$~(HPKVM_ICR_VECTOR | HPKVM_ICR_LOGICAL | HPKVM_ICR_ASSERT | \
		   HPKVM_ICR_SELF), %ecx
	jnz	\no
	movzbl	%cl, %edi
	cmp	$16, %edi
	jb	\no
	cmp	$DEDICATED_HOST_VECTOR, %edi
	je	\no

	mov	\sender + HPKVM_IPI_SENDER_map(%rbx), %rsi
	/* A full barrier: before the map is read, and after the guest's writes. */
	mov	$1, %eax
	xchg	%al, \sender + HPKVM_IPI_SENDER_busy(%rbx)
	xor	%r8d, %r8d
	mov	\sender + HPKVM_IPI_SENDER_self(%rbx), %r9d
	test	$HPKVM_ICR_SELF, %ecx
	jnz	.Lipi_physical\@
	test	$HPKVM_ICR_LOGICAL, %ecx
	jnz	.Lipi_logical\@
	mov	%edx, %r9d

.Lipi_physical\@:
	HPKVM_IPI_LOOKUP .Lipi_not_ours\@
	mov	%r10, \sender + HPKVM_IPI_SENDER_targets(%rbx)
	inc	%r8d
	jmp	.Lipi_send\@

.Lipi_logical\@:
	/* Cluster in the upper half, a bit for each of 16 (Intel SDM 11.12.10.2). */
	mov	%edx, %eax
	shr	$16, %eax
	shl	$4, %eax
	movzwl	%dx, %edx
.Lipi_next\@:
	bsf	%edx, %r9d
	jz	.Lipi_all\@
	btr	%r9d, %edx
	or	%eax, %r9d
	HPKVM_IPI_LOOKUP .Lipi_not_ours\@
	mov	%r10, \sender + HPKVM_IPI_SENDER_targets(%rbx, %r8, 8)
	inc	%r8d
	jmp	.Lipi_next\@

.Lipi_not_ours\@:
	movb	$0, \sender + HPKVM_IPI_SENDER_busy(%rbx)
	jmp	\no

.Lipi_all\@:
	test	%r8d, %r8d
	jz	.Lipi_not_ours\@
.Lipi_send\@:
	/* weak_wrmsr_fence() */
	ALTERNATIVE "mfence; lfence", "", ALT_NOT(X86_FEATURE_APIC_MSRS_FENCE)
	mov	$HPKVM_ICR_MSR, %ecx
.Lipi_one\@:
	dec	%r8d
	mov	\sender + HPKVM_IPI_SENDER_targets(%rbx, %r8, 8), %r10
	/* Captured and not yet handed back: see dedicated_cpu_send_guest(). */
	mov	HPKVM_IPI_TARGET_captured(%r10), %r11
	bt	%edi, (%r11)
	jc	.Lipi_merged\@
	mov	%edi, %eax
	mov	HPKVM_IPI_TARGET_apicid(%r10), %edx
	wrmsr
.Lipi_merged\@:
	test	%r8d, %r8d
	jnz	.Lipi_one\@

	movb	$0, \sender + HPKVM_IPI_SENDER_busy(%rbx)
	incq	\sender + HPKVM_IPI_SENDER_sent(%rbx)
.endm

#endif /* __KVM_X86_HPKVM_IPI_SEND_S */
