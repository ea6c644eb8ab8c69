/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM dedicated cores on SVM: __svm_vcpu_run() with the IPI fast path.
 *
 * The same source as for every other vCPU, assembled once more with code right
 * behind VMRUN that may run the guest again.  GIF is 0 there: an NMI, which is
 * all that the host sends, waits and makes the next VMRUN exit at once.
 *
 * It must leave the VMCB as C would have left it after an emulated WRMSR.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <uapi/asm/processor-flags.h>
#include <uapi/asm/svm.h>
#include "kvm-asm-offsets.h"

#include "../hpkvm_ipi_send.S"

#define GUEST(reg)	HPKVM_REG(SVM_vcpu_arch_regs, reg)

/* RAX is the host's, the other registers are the guest's; @svm is on the stack. */
.macro SVM_HPKVM_AFTER_EXIT
	mov	(%rsp), %rax
	cmpq	$0, SVM_hpkvm_ipi + HPKVM_IPI_SENDER_map(%rax)
	je	.Lsvm_exit\@
	cmp	$HPKVM_ICR_MSR, %ecx
	jne	.Lsvm_exit\@

	mov	%rbx, GUEST(RBX)(%rax)
	mov	SVM_current_vmcb(%rax), %rbx
	mov	KVM_VMCB_ptr(%rbx), %rbx
	cmpl	$SVM_EXIT_MSR, VMCB_exit_code(%rbx)
	jne	.Lsvm_restore_rbx\@
	cmpq	$1, VMCB_exit_info_1(%rbx)
	jne	.Lsvm_restore_rbx\@
	/* A single step would have to be reported. */
	testl	$X86_EFLAGS_TF, VMCB_rflags(%rbx)
	jnz	.Lsvm_restore_rbx\@

	HPKVM_SAVE_REGS SVM_vcpu_arch_regs %rax
	mov	%rdx, GUEST(RDX)(%rax)
	mov	VMCB_rax(%rbx), %ecx
	mov	%rax, %rbx
	HPKVM_SEND_IPI SVM_hpkvm_ipi .Lsvm_restore\@

	/* What the guest would read from its ICR, and the next instruction. */
	mov	SVM_current_vmcb(%rbx), %rsi
	mov	KVM_VMCB_pa(%rsi), %rax
	mov	KVM_VMCB_ptr(%rsi), %rsi
	mov	VMCB_rax(%rsi), %ecx
	mov	GUEST(RDX)(%rbx), %rdx
	mov	%ecx, SVM_hpkvm_ipi + HPKVM_IPI_SENDER_icr(%rbx)
	mov	%edx, SVM_hpkvm_ipi + HPKVM_IPI_SENDER_icr + 4(%rbx)
	mov	VMCB_next_rip(%rsi), %rcx
	mov	%rcx, VMCB_rip(%rsi)
	andl	$~HPKVM_SVM_SHADOW, VMCB_int_state(%rsi)
	movb	$HPKVM_SVM_TLB_NOTHING, VMCB_tlb_ctl(%rsi)

	HPKVM_LOAD_REGS SVM_vcpu_arch_regs %rbx
	mov	GUEST(RBX)(%rbx), %rbx
	jmp	.Lsvm_enter

.Lsvm_restore\@:
	mov	%rbx, %rax
	HPKVM_LOAD_REGS SVM_vcpu_arch_regs %rax
	mov	GUEST(RDX)(%rax), %rdx
.Lsvm_restore_rbx\@:
	mov	GUEST(RBX)(%rax), %rbx
.Lsvm_exit\@:
.endm

#define __svm_vcpu_run	__svm_hpkvm_vcpu_run
#define SVM_AFTER_EXIT	SVM_HPKVM_AFTER_EXIT
/* SEV guests have no dedicated cores. */
#undef CONFIG_KVM_AMD_SEV
#include "vmenter.S"
