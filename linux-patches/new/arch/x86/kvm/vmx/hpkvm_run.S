/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM dedicated cores on VMX: __vmx_vcpu_run() with the IPI fast path.
 *
 * The same source as for every other vCPU, assembled once more with code right
 * behind the VM exit that may run the guest again.  An NMI that comes meanwhile
 * sets the preemption timer to 0, as everywhere between kvm_hpkvm_enter() and
 * kvm_hpkvm_exit(), and the next entry exits at once.
 *
 * It must leave the VMCS as C would have left it after an emulated WRMSR.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/msr-index.h>
#include <asm/nospec-branch.h>
#include <asm/percpu.h>
#include <uapi/asm/processor-flags.h>
#include <uapi/asm/vmx.h>
#include "kvm-asm-offsets.h"
#include "run_flags.h"

#include "../hpkvm_ipi_send.S"

#define GUEST(reg)	HPKVM_REG(VMX_vcpu_arch_regs, reg)

/* \field of the VMCS to RDX; clobbers nothing else but flags. */
.macro VMX_HPKVM_READ field:req
	mov	$\field, %edx
	vmread	%rdx, %rdx
.endm

/*
 * An NMI may come at any instruction, and its handler relies on what the host has
 * on in SPEC_CTRL.  Goes to \no if the guest lacks a bit of that: C then restores
 * the host's as soon as after any other exit.
 *
 * In: RBX is @vmx; @regs and @flags are on the stack.  Clobbers RAX, RCX, RDX
 * and RSI.
 */
.macro VMX_HPKVM_CHECK_SPEC_CTRL no:req
	mov	PER_CPU_VAR(x86_spec_ctrl_current), %esi
	test	%esi, %esi
	jz	.Lvmx_spec_ctrl_ok\@
	mov	VMX_spec_ctrl(%rbx), %eax
	btl	$VMX_RUN_SAVE_SPEC_CTRL_SHIFT, 1 * 8(%rsp)
	jnc	.Lvmx_spec_ctrl_known\@
	/* The guest may have written another since. */
	mov	$MSR_IA32_SPEC_CTRL, %ecx
	rdmsr
.Lvmx_spec_ctrl_known\@:
	not	%eax
	test	%esi, %eax
	jnz	\no
.Lvmx_spec_ctrl_ok\@:
.endm

/* All registers but RSP are the guest's; @regs, @flags and @vmx are on the stack. */
.macro VMX_HPKVM_AFTER_EXIT
	cmp	$HPKVM_ICR_MSR, %ecx
	jne	.Lvmx_exit\@
	push	%rax
	mov	3 * 8(%rsp), %rax
	pop	GUEST(RAX)(%rax)
	mov	%rdx, GUEST(RDX)(%rax)
	cmpq	$0, VMX_hpkvm_ipi + HPKVM_IPI_SENDER_map(%rax)
	je	.Lvmx_restore_rdx\@

	VMX_HPKVM_READ HPKVM_VMX_EXIT_REASON
	cmp	$EXIT_REASON_MSR_WRITE, %edx
	jne	.Lvmx_restore_rdx\@
	/* A single step would have to be reported. */
	VMX_HPKVM_READ HPKVM_VMX_RFLAGS
	test	$X86_EFLAGS_TF, %edx
	jnz	.Lvmx_restore_rdx\@
	/* So would have a wrap of a RIP of 32 bits. */
	VMX_HPKVM_READ HPKVM_VMX_RIP
	cmp	$-16, %edx
	jae	.Lvmx_restore_rdx\@

	mov	%rbx, GUEST(RBX)(%rax)
	HPKVM_SAVE_REGS VMX_vcpu_arch_regs %rax
	mov	%rax, %rbx
	VMX_HPKVM_CHECK_SPEC_CTRL .Lvmx_restore\@
	mov	GUEST(RAX)(%rbx), %ecx
	mov	GUEST(RDX)(%rbx), %edx
	HPKVM_SEND_IPI VMX_hpkvm_ipi .Lvmx_restore\@

	/* What the guest would read from its ICR, and the next instruction. */
	mov	GUEST(RAX)(%rbx), %ecx
	mov	GUEST(RDX)(%rbx), %edx
	mov	%ecx, VMX_hpkvm_ipi + HPKVM_IPI_SENDER_icr(%rbx)
	mov	%edx, VMX_hpkvm_ipi + HPKVM_IPI_SENDER_icr + 4(%rbx)
	VMX_HPKVM_READ HPKVM_VMX_INSTRUCTION_LEN
	mov	$HPKVM_VMX_RIP, %ecx
	vmread	%rcx, %rsi
	add	%rdx, %rsi
	vmwrite	%rsi, %rcx
	VMX_HPKVM_READ HPKVM_VMX_INTERRUPTIBILITY
	test	$HPKVM_VMX_SHADOW, %edx
	jz	.Lvmx_no_shadow\@
	and	$~HPKVM_VMX_SHADOW, %edx
	mov	$HPKVM_VMX_INTERRUPTIBILITY, %ecx
	vmwrite	%rdx, %rcx
.Lvmx_no_shadow\@:
	mov	GUEST(RAX)(%rbx), %rax
	mov	GUEST(RDX)(%rbx), %rdx
	HPKVM_LOAD_REGS VMX_vcpu_arch_regs %rbx
	mov	GUEST(RBX)(%rbx), %rbx
	CLEAR_CPU_BUFFERS
	jmp	.Lvmresume

.Lvmx_restore\@:
	mov	%rbx, %rax
	mov	GUEST(RBX)(%rax), %rbx
	HPKVM_LOAD_REGS VMX_vcpu_arch_regs %rax
.Lvmx_restore_rdx\@:
	mov	GUEST(RDX)(%rax), %rdx
	mov	GUEST(RAX)(%rax), %rax
.Lvmx_exit\@:
.endm

#define __vmx_vcpu_run	__vmx_hpkvm_vcpu_run
#define vmx_vmexit	vmx_hpkvm_vmexit
#define VMX_AFTER_EXIT	VMX_HPKVM_AFTER_EXIT
#include "vmenter.S"
