/* SPDX-License-Identifier: GPL-2.0-only */
/* What the drain entry points share between assembly, idt.c and dedicated.c. */
#ifndef _ASM_X86_DEDICATED_DRAIN_H
#define _ASM_X86_DEDICATED_DRAIN_H

/* Vectors 0-15 cannot be delivered (Intel SDM 11.5.2). */
#define DEDICATED_DRAIN_FIRST	16

/* Bytes from one entry point to the next: ENDBR, PUSH imm8, JMP rel32. */
#define DEDICATED_DRAIN_ALIGN	16

#define MCG_STATUS_MCIP_ASM	4	/* MCG_STATUS_MCIP, for assembly */

#ifndef __ASSEMBLY__
extern char dedicated_drain_start[];
#endif

#endif /* _ASM_X86_DEDICATED_DRAIN_H */
