/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Performance counters of AMD family 15h (PERFCTR_CORE): AMD64 APM vol. 2,
 * section 13.2.
 *
 * Owns the counters, and the interrupt when one overflows.  There is one event,
 * cycles, of which QEMU_CLOCK_VIRTUAL has one a nanosecond, in guest and host
 * mode and in HLT; a counter of any other event stands still.
 *
 * env.msr_gp_counters holds the value of a counter that stands still, and that
 * less the clock of one that counts.  They are written with the BQL held.
 */

#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "cpu.h"
#include "hw/i386/apic.h"
#include "tcg/helper-tcg.h"

#define COUNTER_MASK            MAKE_64BIT_MASK(0, 48)

#define PERF_CTL_EVENT          (MAKE_64BIT_MASK(32, 4) | 0xff)
#define PERF_CTL_CYCLES         0x76
#define PERF_CTL_USR            (1ull << 16)
#define PERF_CTL_OS             (1ull << 17)
#define PERF_CTL_INT            (1ull << 20)
#define PERF_CTL_EN             (1ull << 22)

static int64_t clock_now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

static bool counts(CPUX86State *env, unsigned i)
{
    uint64_t ctl = env->msr_gp_evtsel[i];

    return (ctl & PERF_CTL_EN) && (ctl & (PERF_CTL_USR | PERF_CTL_OS)) &&
           (ctl & PERF_CTL_EVENT) == PERF_CTL_CYCLES;
}

static bool interrupts(CPUX86State *env, unsigned i)
{
    return counts(env, i) && (env->msr_gp_evtsel[i] & PERF_CTL_INT);
}

static uint64_t counter_at(CPUX86State *env, unsigned i, int64_t now)
{
    return (env->msr_gp_counters[i] + (counts(env, i) ? now : 0)) &
           COUNTER_MASK;
}

static void set_counter(CPUX86State *env, unsigned i, uint64_t value,
                        int64_t now)
{
    env->msr_gp_counters[i] = value - (counts(env, i) ? now : 0);
}

/* The next overflow that is to interrupt. */
static void arm(X86CPU *cpu, int64_t now)
{
    uint64_t left = UINT64_MAX;

    for (unsigned i = 0; i < X86_PERFCTRS; i++) {
        if (interrupts(&cpu->env, i)) {
            left = MIN(left, COUNTER_MASK + 1 - counter_at(&cpu->env, i, now));
        }
    }
    if (left == UINT64_MAX) {
        timer_del(cpu->perfctr_timer);
    } else {
        cpu->perfctr_overflow = now + left;
        timer_mod(cpu->perfctr_timer, cpu->perfctr_overflow);
    }
}

static void perfctr_timer(void *opaque)
{
    X86CPU *cpu = opaque;
    int64_t now = clock_now();
    bool overflow = false;

    /* Has one passed zero since then, or has a reset come first? */
    for (unsigned i = 0; i < X86_PERFCTRS; i++) {
        overflow |= interrupts(&cpu->env, i) &&
                    counter_at(&cpu->env, i, now) <=
                    now - cpu->perfctr_overflow;
    }
    arm(cpu, now);
    if (overflow) {
        apic_deliver_perf(cpu->apic_state);
    }
}

static bool has_counters(CPUX86State *env)
{
    return env->features[FEAT_8000_0001_ECX] & CPUID_EXT3_PERFCORE;
}

void x86_perfctr_arm(X86CPU *cpu)
{
    if (!has_counters(&cpu->env)) {
        return;
    }
    if (!cpu->perfctr_timer) {
        cpu->perfctr_timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, perfctr_timer,
                                          cpu);
    }
    arm(cpu, clock_now());
}

bool x86_perfctr_read(CPUX86State *env, unsigned i, uint64_t *value)
{
    if (!has_counters(env) || i >= X86_PERFCTRS) {
        return false;
    }
    *value = counter_at(env, i, clock_now());
    return true;
}

bool x86_perfctr_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *value)
{
    unsigned i = (msr - MSR_F15H_PERF_CTL0) / 2;

    if (!x86_perfctr_read(env, i, value)) {
        return false;
    }
    if (!(msr & 1)) {
        *value = env->msr_gp_evtsel[i];
    }
    return true;
}

bool x86_perfctr_wrmsr(CPUX86State *env, uint32_t msr, uint64_t value)
{
    unsigned i = (msr - MSR_F15H_PERF_CTL0) / 2;
    int64_t now = clock_now();

    if (!has_counters(env)) {
        return false;
    }
    BQL_LOCK_GUARD();
    if (msr & 1) {
        set_counter(env, i, value & COUNTER_MASK, now);
    } else {
        uint64_t counter = counter_at(env, i, now);

        env->msr_gp_evtsel[i] = value;
        set_counter(env, i, counter, now);
    }
    x86_perfctr_arm(env_archcpu(env));
    return true;
}
