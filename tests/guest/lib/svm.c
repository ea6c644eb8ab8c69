/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hypervisor of svm.h. Owns the VMCB, the nested page tables and the
 * guest's registers; must never look at what the guest is testing.
 */
#include "svm.h"

#define MSR_EFER                0xc0000080
#define EFER_SVME               (1u << 12)
#define MSR_VM_HSAVE_PA         0xc0010117

#define NPT_LEAF                0x7     /* present, writable, user */
#define NPT_LARGE               0x87
#define GUEST_STACK_PAGES       4

static uint8_t *vmcb, *msrpm;
static uint64_t *hole_pte;
static char *stack;

/* RBX RCX RDX RBP RSI RDI R8-R15; RAX and RSP are in the VMCB. */
static uint64_t gprs[14];

asm(".globl svm_enter\n"
    "svm_enter:\n"
    "   push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "   push %rsi\n"
    "   mov %rdi, %rax\n"
    "   mov 0(%rsi), %rbx;  mov 8(%rsi), %rcx;  mov 16(%rsi), %rdx\n"
    "   mov 24(%rsi), %rbp; mov 40(%rsi), %rdi; mov 48(%rsi), %r8\n"
    "   mov 56(%rsi), %r9;  mov 64(%rsi), %r10; mov 72(%rsi), %r11\n"
    "   mov 80(%rsi), %r12; mov 88(%rsi), %r13; mov 96(%rsi), %r14\n"
    "   mov 104(%rsi), %r15; mov 32(%rsi), %rsi\n"
    "   vmrun %rax\n"
    "   push %rsi\n"
    "   mov 8(%rsp), %rsi\n"
    "   mov %rbx, 0(%rsi);  mov %rcx, 8(%rsi);  mov %rdx, 16(%rsi)\n"
    "   mov %rbp, 24(%rsi); mov %rdi, 40(%rsi); mov %r8, 48(%rsi)\n"
    "   mov %r9, 56(%rsi);  mov %r10, 64(%rsi); mov %r11, 72(%rsi)\n"
    "   mov %r12, 80(%rsi); mov %r13, 88(%rsi); mov %r14, 96(%rsi)\n"
    "   mov %r15, 104(%rsi)\n"
    "   pop %rax\n"
    "   mov %rax, 32(%rsi)\n"
    "   pop %rsi\n"
    "   pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "   ret\n");

uint32_t svm_get32(unsigned field)
{
    return *(volatile uint32_t *)(vmcb + field); /* volatile: VMRUN */
}

uint64_t svm_get64(unsigned field)
{
    return *(volatile uint64_t *)(vmcb + field); /* volatile: VMRUN */
}

void svm_set32(unsigned field, uint32_t v)
{
    *(volatile uint32_t *)(vmcb + field) = v; /* volatile: VMRUN */
}

void svm_set64(unsigned field, uint64_t v)
{
    *(volatile uint64_t *)(vmcb + field) = v; /* volatile: VMRUN */
}

static void set_segment(unsigned field, uint16_t selector, uint16_t attrib)
{
    svm_set32(field, (uint32_t)attrib << 16 | selector);
    svm_set32(field + 4, 0xffffffff);
    svm_set64(field + 8, 0);
}

static uint64_t build_npt(void)
{
    uint64_t *pml4 = page_alloc(1), *pdpt = page_alloc(1);
    uint64_t *pd = page_alloc(4), *pt = page_alloc(1);
    uint64_t region = SVM_HOLE >> 21;

    pml4[0] = (uintptr_t)pdpt | NPT_LEAF;
    for (unsigned i = 0; i < 4; i++) {
        pdpt[i] = (uintptr_t)(pd + 512 * i) | NPT_LEAF;
    }
    for (uint64_t i = 0; i < 4 * 512; i++) {
        pd[i] = i << 21 | NPT_LARGE;
    }
    for (uint64_t i = 0; i < 512; i++) {
        pt[i] = region << 21 | i << 12 | NPT_LEAF;
    }
    pd[region] = (uintptr_t)pt | NPT_LEAF;
    hole_pte = &pt[SVM_HOLE >> 12 & 511];
    return (uintptr_t)pml4;
}

void svm_map_hole(bool backed)
{
    *hole_pte = SVM_HOLE | (backed ? NPT_LEAF : 0);
}

void svm_intercept_msr(uint32_t msr, bool on)
{
    uint8_t mask = 3 << msr % 4 * 2;

    msrpm[msr / 4] = on ? msrpm[msr / 4] | mask : msrpm[msr / 4] & ~mask;
}

bool svm_setup(void)
{
    uint32_t r[4];

    cpuid(0x80000000, 0, r);
    if (r[0] < 0x8000000a) {
        return false;
    }
    cpuid(0x80000001, 0, r);
    if (!(r[2] >> 2 & 1)) {
        return false;
    }
    cpuid(0x8000000a, 0, r);
    if (!(r[3] & 1)) {
        return false;
    }
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_VM_HSAVE_PA, (uintptr_t)page_alloc(1));
    vmcb = page_alloc(1);
    msrpm = page_alloc(2);
    stack = page_alloc(GUEST_STACK_PAGES);
    svm_set64(VMCB_IOPM, (uintptr_t)page_alloc(3));
    svm_set64(VMCB_MSRPM, (uintptr_t)msrpm);
    svm_set64(VMCB_NCR3, build_npt());
    return true;
}

void svm_reset(void (*fn)(void))
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) gdtr, idtr;
    uint64_t cr0, cr3, cr4;
    /* As after a call: 8 bytes below a 16-byte boundary. */
    char *top = stack + GUEST_STACK_PAGES * 4096 - 8;

    asm("sgdt %0" : "=m"(gdtr));
    asm("sidt %0" : "=m"(idtr));
    asm("mov %%cr0, %0" : "=r"(cr0));
    asm("mov %%cr3, %0" : "=r"(cr3));
    asm("mov %%cr4, %0" : "=r"(cr4));

    svm_set32(VMCB_MISC1, INTERCEPT_MSR | INTERCEPT_SHUTDOWN);
    svm_set32(VMCB_MISC2, INTERCEPT_VMRUN | INTERCEPT_VMMCALL);
    svm_set64(VMCB_TSC_OFFSET, 0);
    svm_set32(VMCB_ASID, 1);
    svm_set32(VMCB_INT_CTL, 0);
    svm_set32(VMCB_INT_VECTOR, 0);
    svm_set64(VMCB_INT_STATE, 0);
    svm_set64(VMCB_NESTED_CTL, 1);
    svm_set64(VMCB_EVENTINJ, 0);

    set_segment(VMCB_CS, 0x08, 0xa9b);
    set_segment(VMCB_DS, 0x10, 0xc93);
    set_segment(VMCB_ES, 0x10, 0xc93);
    set_segment(VMCB_SS, 0x10, 0xc93);
    svm_set32(VMCB_GDTR + 4, gdtr.limit);
    svm_set64(VMCB_GDTR + 8, gdtr.base);
    svm_set32(VMCB_IDTR + 4, idtr.limit);
    svm_set64(VMCB_IDTR + 8, idtr.base);
    svm_set64(VMCB_EFER, rdmsr(MSR_EFER));
    svm_set64(VMCB_CR0, cr0);
    svm_set64(VMCB_CR3, cr3);
    svm_set64(VMCB_CR4, cr4);
    svm_set64(VMCB_DR6, 0xffff0ff0);
    svm_set64(VMCB_DR7, 0x400);
    svm_set64(VMCB_RFLAGS, 0x2);
    svm_set64(VMCB_RIP, (uintptr_t)fn);
    svm_set64(VMCB_RSP, (uintptr_t)top);
    svm_map_hole(true);
}

uint64_t svm_run(void)
{
    clgi();
    svm_set32(VMCB_TLB_CTL, 1);
    svm_enter((uintptr_t)vmcb, gprs);
    return svm_get64(VMCB_EXIT_CODE);
}

void svm_skip_vmmcall(void)
{
    svm_set64(VMCB_RIP, svm_get64(VMCB_RIP) + 3);
}
