/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Startup of a freestanding test guest.
 *
 * Owns everything between the loader and C: the multiboot 1 header, the switch
 * to 64-bit mode, the identity map of the first 4 GiB, the interrupt entry
 * stubs, and the trampoline that brings up application processors (APs).
 * It must never depend on the C library, on SSE, or on the loader having
 * left any state behind other than EAX and EBX.
 */

#define MB_MAGIC        0x1badb002
#define MB_FLAGS        0x2             /* memory information in EBX */

#define CR0_PE          (1 << 0)
#define CR0_NE          (1 << 5)
#define CR0_PG          (1 << 31)
#define CR4_PAE         (1 << 5)
#define MSR_EFER        0xc0000080
#define EFER_LME        (1 << 8)

#define PTE_P_RW        0x3
#define PDE_LARGE       0x83

#define SEL_CODE64      0x08
#define SEL_DATA        0x10
#define SEL_CODE32      0x18

#define STACK_SHIFT     14

        .section .multiboot, "a"
        .balign 4
        .long   MB_MAGIC
        .long   MB_FLAGS
        .long   -(MB_MAGIC + MB_FLAGS)

        .bss
        .balign 4096
        .globl  boot_pml4
boot_pml4:      .skip 4096
boot_pdpt:      .skip 4096
boot_pd:        .skip 4 * 4096
        .globl  guest_stacks
        .balign 16
guest_stacks:   .skip GUEST_MAX_CPUS << STACK_SHIFT

        .data
        .balign 8
gdt:
        .quad   0
        .quad   0x00af9b000000ffff      /* SEL_CODE64 */
        .quad   0x00cf93000000ffff      /* SEL_DATA */
        .quad   0x00cf9b000000ffff      /* SEL_CODE32 */
gdt_end:
        .globl  boot_gdtr
boot_gdtr:
        .word   gdt_end - gdt - 1
        .quad   gdt
        .balign 4
ap_ticket:      .long 1                 /* next AP's index; the BSP is 0 */

        .text
        .code32
        .globl  _start
_start:
        cli
        cld
        mov     %ebx, %esi              /* multiboot information, kept */

        /* Identity map: 2048 pages of 2 MiB. */
        mov     $boot_pdpt + PTE_P_RW, %eax
        mov     %eax, boot_pml4
        mov     $boot_pdpt, %edi
        mov     $boot_pd + PTE_P_RW, %eax
        mov     $4, %ecx
1:      mov     %eax, (%edi)
        add     $4096, %eax
        add     $8, %edi
        loop    1b
        mov     $boot_pd, %edi
        mov     $PDE_LARGE, %eax
        mov     $2048, %ecx
2:      mov     %eax, (%edi)
        add     $0x200000, %eax
        add     $8, %edi
        loop    2b

        lgdt    boot_gdtr
        call    enter_long_mode
        ljmp    $SEL_CODE64, $start64

/* Protected mode, paging off -> long mode active (still 32-bit code). */
enter_long_mode:
        mov     %cr4, %eax
        or      $CR4_PAE, %eax
        mov     %eax, %cr4
        mov     $boot_pml4, %eax
        mov     %eax, %cr3
        mov     $MSR_EFER, %ecx
        rdmsr
        or      $EFER_LME, %eax
        wrmsr
        mov     %cr0, %eax
        or      $CR0_PG | CR0_NE | CR0_PE, %eax
        mov     %eax, %cr0
        ret

        .code64
start64:
        call    load_data_segments
        mov     $guest_stacks + (1 << STACK_SHIFT), %rsp
        mov     %esi, %edi
        xor     %ebp, %ebp
        call    guest_start_bsp
1:      cli
        hlt
        jmp     1b

load_data_segments:
        mov     $SEL_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        xor     %eax, %eax
        mov     %eax, %fs
        mov     %eax, %gs
        ret

        .code32
ap_start32:
        mov     $SEL_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        /* Without a stack yet, so a jump in place of a call. */
        mov     $1, %edi
        lock xadd %edi, ap_ticket
        cmp     $GUEST_MAX_CPUS, %edi
        jae     ap_park
        mov     %edi, %esp
        inc     %esp
        shl     $STACK_SHIFT, %esp
        add     $guest_stacks, %esp
        call    enter_long_mode
        ljmp    $SEL_CODE64, $ap_start64
ap_park:
        hlt
        jmp     ap_park

        .code64
ap_start64:
        call    load_data_segments
        mov     %esp, %esp              /* clear bits 63:32 */
        mov     %edi, %edi
        xor     %ebp, %ebp
        call    guest_start_ap
1:      cli
        hlt
        jmp     1b

/* Copied to AP_BASE (start.h); runs there with CS = AP_BASE >> 4. */
        .code16
        .globl  ap_trampoline, ap_trampoline_end
ap_trampoline:
        cli
        mov     %cs, %ax
        mov     %ax, %ds
        lgdtl   ap_gdtr - ap_trampoline
        mov     %cr0, %eax
        or      $CR0_PE, %eax
        mov     %eax, %cr0
        ljmpl   $SEL_CODE32, $ap_start32
        .balign 4
ap_gdtr:
        .word   gdt_end - gdt - 1
        .long   gdt
ap_trampoline_end:

        .code64
/*
 * One 16-byte stub per vector. The CPU pushes an error code for some
 * exceptions only; the others push 0, so that struct isr_frame has one shape.
 */
        .balign 16
        .globl  isr_stubs
isr_stubs:
        .set    vec, 0
        .rept   256
        .balign 16
        /* #DF, #TS to #PF, #AC, #CP, #VC and #SX push one. */
        .if     vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21
        .elseif vec == 29 || vec == 30
        .else
        push    $0
        .endif
        push    $vec
        jmp     isr_common
        .set    vec, vec + 1
        .endr

isr_common:
        push    %rax
        push    %rcx
        push    %rdx
        push    %rbx
        push    %rbp
        push    %rsi
        push    %rdi
        push    %r8
        push    %r9
        push    %r10
        push    %r11
        push    %r12
        push    %r13
        push    %r14
        push    %r15
        cld
        mov     %rsp, %rdi
        mov     %rsp, %rbp
        and     $-16, %rsp
        call    isr_dispatch
        mov     %rbp, %rsp
        pop     %r15
        pop     %r14
        pop     %r13
        pop     %r12
        pop     %r11
        pop     %r10
        pop     %r9
        pop     %r8
        pop     %rdi
        pop     %rsi
        pop     %rbp
        pop     %rbx
        pop     %rdx
        pop     %rcx
        pop     %rax
        add     $16, %rsp
        iretq

/*
 * uint64_t rdmsr_safe(uint32_t msr, uint64_t *val): 0, or 13 when RDMSR takes
 * #GP. isr_dispatch() knows the two addresses and resumes at the fix-up.
 */
        .globl  rdmsr_safe, rdmsr_safe_insn, wrmsr_safe, wrmsr_safe_insn
        .globl  msr_safe_fault
rdmsr_safe:
        mov     %edi, %ecx
rdmsr_safe_insn:
        rdmsr
        shl     $32, %rdx
        or      %rdx, %rax
        mov     %rax, (%rsi)
        xor     %eax, %eax
        ret
/* uint64_t wrmsr_safe(uint32_t msr, uint64_t val) */
wrmsr_safe:
        mov     %edi, %ecx
        mov     %esi, %eax
        mov     %rsi, %rdx
        shr     $32, %rdx
wrmsr_safe_insn:
        wrmsr
        xor     %eax, %eax
        ret
msr_safe_fault:
        mov     $13, %eax
        ret

        .section .note.GNU-stack, "", @progbits
