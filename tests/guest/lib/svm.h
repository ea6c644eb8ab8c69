/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A minimal SVM hypervisor for freestanding tests: one virtual CPU that runs a
 * C function of the same image under nested paging, everything identity mapped
 * except for one page that can be taken away. Field offsets: APM volume 2,
 * appendix B "Layout of VMCB".
 *
 * It must not be clever: physical interrupts and NMIs are not intercepted and
 * V_INTR_MASKING is 0 unless a test says otherwise.
 */
#ifndef SVM_H
#define SVM_H

#include "guest.h"

enum {
    VMCB_MISC1 = 0x00c, VMCB_MISC2 = 0x010, VMCB_IOPM = 0x040,
    VMCB_MSRPM = 0x048, VMCB_TSC_OFFSET = 0x050, VMCB_ASID = 0x058,
    VMCB_TLB_CTL = 0x05c, VMCB_INT_CTL = 0x060, VMCB_INT_VECTOR = 0x064,
    VMCB_INT_STATE = 0x068, VMCB_EXIT_CODE = 0x070, VMCB_INFO1 = 0x078,
    VMCB_INFO2 = 0x080, VMCB_EXITINTINFO = 0x088, VMCB_NESTED_CTL = 0x090,
    VMCB_EVENTINJ = 0x0a8, VMCB_NCR3 = 0x0b0, VMCB_NEXT_RIP = 0x0c8,
    VMCB_ES = 0x400, VMCB_CS = 0x410, VMCB_SS = 0x420, VMCB_DS = 0x430,
    VMCB_GDTR = 0x460, VMCB_IDTR = 0x480, VMCB_EFER = 0x4d0, VMCB_CR4 = 0x548,
    VMCB_CR3 = 0x550, VMCB_CR0 = 0x558, VMCB_DR7 = 0x560, VMCB_DR6 = 0x568,
    VMCB_RFLAGS = 0x570, VMCB_RIP = 0x578, VMCB_RSP = 0x5d8,
};

/* Intercept bits of VMCB_MISC1 and VMCB_MISC2 */
#define INTERCEPT_INTR          (1u << 0)
#define INTERCEPT_NMI           (1u << 1)
#define INTERCEPT_CPUID         (1u << 18)
#define INTERCEPT_MSR           (1u << 28)
#define INTERCEPT_SHUTDOWN      (1u << 31)
#define INTERCEPT_VMRUN         (1u << 0)
#define INTERCEPT_VMMCALL       (1u << 1)

#define INT_CTL_V_IRQ           (1u << 8)
#define INT_CTL_V_PRIO_15       (15u << 16)
#define INT_CTL_V_IGN_TPR       (1u << 20)
#define INT_CTL_V_INTR_MASKING  (1u << 24)

#define EXIT_INTR               0x60
#define EXIT_NMI                0x61
#define EXIT_CPUID              0x72
#define EXIT_MSR                0x7c
#define EXIT_VMMCALL            0x81
#define EXIT_NPF                0x400

/* EXITINTINFO and EVENTINJ */
#define EVENT_INTR              0x000u
#define EVENT_NMI               0x200u
#define EVENT_EXCEPTION         0x300u
#define EVENT_SOFT              0x400u
#define EVENT_ERROR_CODE        0x800u
#define EVENT_VALID             0x80000000u

/* The guest-physical page that svm_map_hole() backs or not. */
#define SVM_HOLE                0x2001000ul

/* False when the CPU has no SVM with nested paging. */
bool svm_setup(void);

/* Start over: the next svm_run() calls @fn, interrupts off, a fresh stack. */
void svm_reset(void (*fn)(void));

void svm_map_hole(bool backed);

/* One VMRUN, from GIF=0; returns the exit code with GIF still 0. */
uint64_t svm_run(void);

/* Go on behind the VMMCALL that just exited. */
void svm_skip_vmmcall(void);

/* Intercept reads and writes of @msr (below 0x2000), or let both through. */
void svm_intercept_msr(uint32_t msr, bool on);

/* svm.c's own: GPRs in, VMRUN, GPRs out; leaves with GIF 0. */
void svm_enter(uint64_t vmcb_pa, uint64_t *regs);

uint32_t svm_get32(unsigned field);
uint64_t svm_get64(unsigned field);
void svm_set32(unsigned field, uint32_t v);
void svm_set64(unsigned field, uint64_t v);

static inline void clgi(void)
{
    asm volatile("clgi" : : : "memory");
}

static inline void stgi(void)
{
    asm volatile("stgi; nop" : : : "memory");
}

static inline void vmmcall(void)
{
    asm volatile("vmmcall" : : : "memory");
}

#endif
