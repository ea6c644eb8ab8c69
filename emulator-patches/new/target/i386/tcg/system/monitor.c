/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MONITOR and MWAIT: SDM vol. 3A, 10.10.4; APM vol. 2, 15.9 and CPUID leaf 5.
 *
 * Owns what a CPU monitors.  A CPU in MWAIT is one that is halted and has work
 * as soon as the line differs from what it held at MONITOR.  Nobody tells it of
 * a store: where CPUs take turns it is looked at in turn, and where each has a
 * thread a timer looks, as long as somebody waits.  A line that gets its old
 * content again in between is missed, as nobody who waits for a change of
 * memory can tell.
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "cpu.h"
#include "exec/exec-all.h"
#include "exec/helper-proto.h"
#include "hw/core/cpu.h"
#include "tcg/helper-tcg.h"

#define LINE_SIZE       sizeof_field(CPUX86State, monitor.was)

/* Hardware takes less, and a CPU that takes a millisecond for a millisecond. */
#define POLL_NS         (100 * SCALE_US)

/* ECX of MWAIT: an interrupt ends it even if EFLAGS.IF masks it. */
#define MWAIT_ECX_IRQ   1

static QEMUTimer *poll_timer;

void tcg_cpu_init_mwait(X86CPU *cpu)
{
    if (!(cpu->env.features[FEAT_1_ECX] & CPUID_EXT_MONITOR)) {
        return;
    }
    cpu->mwait.eax = LINE_SIZE;     /* the smallest line */
    cpu->mwait.ebx = LINE_SIZE;     /* the largest */
    cpu->mwait.edx = 0x11;          /* C0 and C1, without substates */
}

void tcg_disarm_monitor(CPUX86State *env)
{
    env->monitor.line = NULL;
}

static bool line_changed(CPUX86State *env)
{
    return !env->monitor.line ||
           memcmp(env->monitor.line, env->monitor.was, LINE_SIZE);
}

bool tcg_mwait_ends(CPUX86State *env, int interrupt_request)
{
    if (!qatomic_read(&env->monitor.waiting)) {
        return false;
    }
    return line_changed(env) ||
           (env->monitor.any_irq && (interrupt_request & CPU_INTERRUPT_HARD));
}

void tcg_mwait_ended(CPUX86State *env)
{
    if (env->monitor.waiting) {
        qatomic_set(&env->monitor.waiting, false);
        tcg_disarm_monitor(env);
    }
}

static void poll_start(void)
{
    timer_mod(poll_timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) + POLL_NS);
}

/* In the main loop, with the BQL. */
static void poll_lines(void *opaque)
{
    bool waiting = false;
    CPUState *cs;

    CPU_FOREACH(cs) {
        CPUX86State *env = cpu_env(cs);

        if (cs->halted && qatomic_read(&env->monitor.waiting)) {
            waiting = true;
            if (line_changed(env)) {
                qemu_cpu_kick(cs);
            }
        }
    }
    if (waiting) {
        poll_start();
    }
}

/* The main loop stops to poll when nobody waits: both know by the BQL. */
static void wait_with_thread(CPUState *cs)
{
    BQL_LOCK_GUARD();
    if (!poll_timer) {
        poll_timer = timer_new_ns(QEMU_CLOCK_REALTIME, poll_lines, NULL);
    }
    cs->halted = 1;
    if (!timer_pending(poll_timer)) {
        poll_start();
    }
}

void helper_monitor(CPUX86State *env, target_ulong ptr)
{
    uint8_t *byte;

    if ((uint32_t)env->regs[R_ECX] != 0) {
        raise_exception_ra(env, EXCP0D_GPF, GETPC());
    }
    cpu_svm_check_intercept_param(env, SVM_EXIT_MONITOR, 0, GETPC());

    /* Checked like a load of one byte; there is nothing to wait for in MMIO. */
    byte = probe_access(env, ptr, 1, MMU_DATA_LOAD,
                        cpu_mmu_index(env_cpu(env), false), GETPC());
    if (!byte) {
        tcg_disarm_monitor(env);
        return;
    }
    env->monitor.line = byte - (ptr & (LINE_SIZE - 1));
    memcpy(env->monitor.was, env->monitor.line, LINE_SIZE);
}

G_NORETURN void helper_mwait(CPUX86State *env, int next_eip_addend)
{
    CPUState *cs = env_cpu(env);
    uint32_t extensions = env->regs[R_ECX];

    if (extensions & ~MWAIT_ECX_IRQ) {
        raise_exception_ra(env, EXCP0D_GPF, GETPC());
    }
    cpu_svm_check_intercept_param(env, SVM_EXIT_MWAIT, 0, GETPC());
    env->eip += next_eip_addend;

    if (line_changed(env)) {
        tcg_disarm_monitor(env);
        helper_pause(env);
    }
    env->monitor.any_irq = extensions & MWAIT_ECX_IRQ;
    qatomic_set(&env->monitor.waiting, true);
    if (qemu_tcg_mttcg_enabled()) {
        wait_with_thread(cs);
    }
    helper_hlt(env);
}
