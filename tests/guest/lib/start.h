/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What start.S, guest.ld and guest.c know of each other. Tests must not
 * include it: guest.h is theirs.
 */
#ifndef GUEST_START_H
#define GUEST_START_H

#define AP_BASE         0x8000  /* AP trampoline; page-aligned for SIPI */

#ifndef __ASSEMBLER__
#include "guest.h"

extern char guest_image_end[], isr_stubs[];
extern char ap_trampoline[], ap_trampoline_end[];
extern char rdmsr_safe_insn[], wrmsr_safe_insn[], msr_safe_fault[];

void isr_dispatch(struct isr_frame *f);
void guest_start_ap(unsigned index);
void guest_start_bsp(const uint32_t *mb_info);
#endif

#endif
