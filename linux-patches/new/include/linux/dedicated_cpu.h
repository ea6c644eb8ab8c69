/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Dedicated CPUs: online CPUs whose maskable interrupts belong to a guest.
 *
 * This header is what code outside arch/ may know about them: that the CPU
 * has no timer interrupt of its own and that reaching it costs an NMI.  It
 * must stay free of architecture details.
 */
#ifndef _LINUX_DEDICATED_CPU_H
#define _LINUX_DEDICATED_CPU_H

#include <linux/cpumask.h>
#include <linux/jump_label.h>

#ifdef CONFIG_CPU_DEDICATED

DECLARE_STATIC_KEY_FALSE(cpu_dedicated_key);
extern struct cpumask __cpu_dedicated_mask;
#define cpu_dedicated_mask ((const struct cpumask *)&__cpu_dedicated_mask)

/* cpu_dedicated - is @cpu leased to a guest?  Free while none is. */
static __always_inline bool cpu_dedicated(unsigned int cpu)
{
	return static_branch_unlikely(&cpu_dedicated_key) &&
	       cpumask_test_cpu(cpu, cpu_dedicated_mask);
}

/* cpu_can_stand_in - can @cpu do what a dedicated one can't? */
static inline bool cpu_can_stand_in(unsigned int cpu)
{
	return cpu_online(cpu) && !cpu_dedicated(cpu);
}

unsigned int cpu_dedicated_stand_in(void);
int tick_remote_start(unsigned int cpu, void (*raise)(unsigned int cpu));
int tick_remote_stop(unsigned int cpu);
void tick_remote_interrupt(void);
void dl_server_resume(unsigned int cpu);

#else

static __always_inline bool cpu_dedicated(unsigned int cpu)
{
	return false;
}

#endif
#endif /* _LINUX_DEDICATED_CPU_H */
