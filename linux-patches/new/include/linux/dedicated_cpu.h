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
#include <linux/percpu.h>

struct task_struct;

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

/* cpu_dedicated_any - is any CPU leased to a guest? */
static __always_inline bool cpu_dedicated_any(void)
{
	return static_branch_unlikely(&cpu_dedicated_key);
}

/* cpu_can_stand_in - can @cpu do what a dedicated one can't? */
static inline bool cpu_can_stand_in(unsigned int cpu)
{
	return cpu_online(cpu) && !cpu_dedicated(cpu);
}

unsigned int cpu_dedicated_stand_in(void);
void tick_remote_start(unsigned int cpu, void (*raise)(unsigned int cpu));
int tick_remote_stop(unsigned int cpu);
void tick_remote_interrupt(void);
void dl_server_resume(unsigned int cpu);
void sched_dedicated_drain(unsigned int cpu);

#else

#define cpu_dedicated_mask cpu_none_mask

static __always_inline bool cpu_dedicated(unsigned int cpu)
{
	return false;
}

static __always_inline bool cpu_dedicated_any(void)
{
	return false;
}

static inline unsigned int cpu_dedicated_stand_in(void)
{
	return cpumask_first(cpu_online_mask);
}

#endif

#if defined(CONFIG_CPU_DEDICATED) && defined(CONFIG_NO_HZ_FULL)

/* Where the thread that runs the guest of a CPU is. */
enum cpu_dedicated_loop {
	CPU_LOOP_NONE,
	CPU_LOOP_RUN,	/* in its run loop */
	CPU_LOOP_PAUSE,	/* in user space for a moment, with the tick stopped */
};

DECLARE_PER_CPU(u8, cpu_dedicated_loop);

/* Is it in its run loop? */
static __always_inline bool cpu_dedicated_looping(unsigned int cpu)
{
	return cpu_dedicated_any() &&
	       READ_ONCE(per_cpu(cpu_dedicated_loop, cpu)) == CPU_LOOP_RUN;
}

static __always_inline bool this_cpu_dedicated_looping(void)
{
	return cpu_dedicated_any() &&
	       this_cpu_read(cpu_dedicated_loop) == CPU_LOOP_RUN;
}

static __always_inline bool this_cpu_dedicated_pausing(void)
{
	return cpu_dedicated_any() &&
	       this_cpu_read(cpu_dedicated_loop) == CPU_LOOP_PAUSE;
}

int sched_tick_dedicated_begin(unsigned int cpu);
void sched_tick_dedicated_end(unsigned int cpu);
void tick_dedicated_begin(unsigned int cpu);
void tick_dedicated_end(unsigned int cpu);
void tick_dedicated_loop_begin(void);
void tick_dedicated_loop_end(bool pause);
void tick_dedicated_task_switch(struct task_struct *prev);
u64 tick_dedicated_stopped_at(unsigned int cpu);
void __tick_dedicated_guest_enter_prepare(void);

/* tick_dedicated_guest_enter_prepare - the guest may stay for hours */
static __always_inline void tick_dedicated_guest_enter_prepare(void)
{
	if (this_cpu_dedicated_looping())
		__tick_dedicated_guest_enter_prepare();
}

#else

static __always_inline bool cpu_dedicated_looping(unsigned int cpu)
{
	return false;
}

static __always_inline bool this_cpu_dedicated_looping(void)
{
	return false;
}

static __always_inline bool this_cpu_dedicated_pausing(void)
{
	return false;
}

static inline int sched_tick_dedicated_begin(unsigned int cpu) { return 0; }
static inline void sched_tick_dedicated_end(unsigned int cpu) { }
static inline void tick_dedicated_begin(unsigned int cpu) { }
static inline void tick_dedicated_end(unsigned int cpu) { }
static inline void tick_dedicated_loop_begin(void) { }
static inline void tick_dedicated_loop_end(bool pause) { }
static inline void tick_dedicated_task_switch(struct task_struct *prev) { }
static inline u64 tick_dedicated_stopped_at(unsigned int cpu) { return 0; }
static __always_inline void tick_dedicated_guest_enter_prepare(void) { }

#endif
#endif /* _LINUX_DEDICATED_CPU_H */
