/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: binding vCPUs to host cores
 *
 * Owns the choice of a core for each vCPU, the bind and unbind ioctls, and
 * the report of what came of it.
 *
 * Must never set a thread's affinity: under libvirt's sandbox the call
 * fails.  The kernel moves the thread at bind.  Must not take a core before
 * the VM starts: libvirt pins the vCPU threads between creation and start.
 * Must not keep one when the VM has gone to another QEMU.
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qapi/qapi-events-hpkvm-target.h"
#include "qemu/timer.h"
#include "hw/core/cpu.h"
#include "system/cpus.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "migration/misc.h"
#include "hpkvm-int.h"
#include "trace.h"

/*
 * How often to look whether a running vCPU was pinned, or whether one that
 * waits for a core can have it by now, in ms.  For those it begins with the
 * least: a VM that has just moved here may wait for its other half to end.
 */
#define HPKVM_POLL_MS 1000
#define HPKVM_POLL_MS_LEAST 50

/* The one host CPU that thread @tid may run on, -1 if there are more */
static int pinned_to(int tid)
{
    size_t size = CPU_ALLOC_SIZE(HPKVM_MAX_HOST_CPUS);
    cpu_set_t *set = CPU_ALLOC(HPKVM_MAX_HOST_CPUS);
    int host_cpu = -1;

    if (!sched_getaffinity(tid, size, set) && CPU_COUNT_S(size, set) == 1) {
        for (host_cpu = 0; !CPU_ISSET_S(host_cpu, size, set); host_cpu++) {
            /* found below */;
        }
    }
    CPU_FREE(set);
    return host_cpu;
}

/*
 * May the main thread run on @host_cpu and on cores of our vCPUs' only?  Not if
 * it may run everywhere: the kernel leases no host's last CPU.
 */
static bool confines_emulator(int host_cpu)
{
    size_t size = CPU_ALLOC_SIZE(HPKVM_MAX_HOST_CPUS);
    cpu_set_t *set = CPU_ALLOC(HPKVM_MAX_HOST_CPUS);
    bool confined = false;
    CPUState *cpu;

    if (!sched_getaffinity(getpid(), size, set) &&
        CPU_COUNT_S(size, set) < sysconf(_SC_NPROCESSORS_ONLN)) {
        CPU_CLR_S(host_cpu, size, set);
        CPU_FOREACH(cpu) {
            if (cpu->accel && cpu->accel->bound) {
                CPU_CLR_S(cpu->accel->host_cpu, size, set);
            }
        }
        confined = !CPU_COUNT_S(size, set);
    }
    CPU_FREE(set);
    return confined;
}

/*
 * Take a core from cpus=: vCPU i gets the i-th, and a vCPU beyond the end of
 * the list, as after hotplug, the first one that nobody holds.
 */
static HPKVMCore *take_core(HPKVMState *s, CPUState *cpu)
{
    HPKVMCore *own = cpu->cpu_index < s->nr_cores ?
                     &s->cores[cpu->cpu_index] : NULL;

    for (unsigned int i = 0; i < s->nr_cores; i++) {
        if (s->cores[i].owner == cpu) {
            return &s->cores[i];
        }
    }
    for (unsigned int i = 0; !(own && !own->owner) && i < s->nr_cores; i++) {
        if (!s->cores[i].owner) {
            own = &s->cores[i];
        }
    }
    if (!own || own->owner) {
        return NULL;
    }
    own->owner = cpu;
    return own;
}

static void release_core(HPKVMState *s, const CPUState *cpu)
{
    for (unsigned int i = 0; i < s->nr_cores; i++) {
        if (s->cores[i].owner == cpu) {
            s->cores[i].owner = NULL;
        }
    }
}

/* The host CPU that @cpu is meant to own, -1 if nobody said */
static int choose_core(HPKVMState *s, CPUState *cpu)
{
    HPKVMCore *core;

    if (!s->nr_cores) {
        return pinned_to(cpu->thread_id);
    }
    core = take_core(s, cpu);
    return core ? core->host_cpu : -1;
}

/* Of the calling thread; a policy that is set later is not seen */
static void warn_if_real_time(void)
{
    switch (sched_getscheduler(0) & ~SCHED_RESET_ON_FORK) {
    case SCHED_FIFO:
    case SCHED_RR:
    case SCHED_DEADLINE:
        warn_report_once("hpkvm: a vCPU's thread is a real-time task, which "
                         "does nothing for a vCPU that owns a core: the host "
                         "runs nothing else there (libvirt: <vcpusched>)");
    }
}

/* For management, which need not ask all the time */
static void tell(const CPUState *cpu)
{
    AccelCPUState *a = cpu->accel;

    if (a->bound == a->told.bound && a->reason == a->told.reason &&
        a->host_cpu == a->told.host_cpu) {
        return;
    }
    a->told.bound = a->bound;
    a->told.reason = a->reason;
    a->told.host_cpu = a->host_cpu;
    qapi_event_send_hpkvm_core(cpu->cpu_index, a->bound, a->host_cpu >= 0,
                               a->host_cpu, a->reason);
}

static void ask_for_core(HPKVMState *s, CPUState *cpu)
{
    AccelCPUState *a = cpu->accel;
    struct kvm_hpkvm_bind bind = {};
    int ret;

    a->tried = true;
    a->irq = 0;
    a->culprit[0] = '\0';
    a->host_cpu = choose_core(s, cpu);
    if (a->host_cpu < 0) {
        a->reason = s->nr_cores ? HPKVM_REASON_LIST_EXHAUSTED :
                                  HPKVM_REASON_NOT_PINNED;
        return;
    }
    if (confines_emulator(a->host_cpu)) {
        /* the main loop would wait for a core that no guest ever leaves */
        a->reason = HPKVM_REASON_EMULATOR_CONFINED;
        return;
    }

    bind.cpu = a->host_cpu;
    ret = kvm_vcpu_ioctl(cpu, KVM_HPKVM_BIND, &bind);
    pstrcpy(a->culprit, sizeof(a->culprit), bind.culprit);
    trace_hpkvm_bind(cpu->cpu_index, bind.cpu, ret, bind.reason, bind.irq,
                     a->culprit);
    if (ret == 0) {
        a->bound = true;
        a->reason = HPKVM_REASON_NONE;
        warn_if_real_time();
        return;
    }

    a->irq = bind.irq;
    a->reason = hpkvm_reason_from_kernel(bind.reason);
    if (a->reason == HPKVM_REASON_NONE) {
        /* refused before the kernel looked at the request */
        a->reason = HPKVM_REASON_UNKNOWN;
        pstrcpy(a->culprit, sizeof(a->culprit), strerror(-ret));
    }
}

/* In the vCPU's own thread, as the kernel moves the caller */
static void bind_vcpu(CPUState *cpu, run_on_cpu_data data)
{
    AccelCPUState *a = cpu->accel;

    /* While this was on its way here the VM may have left for another QEMU. */
    if (a->bound || !runstate_is_live(runstate_get())) {
        return;
    }
    ask_for_core(data.host_ptr, cpu);
    if (a->bound) {
        a->refused_at = 0;
    } else if (!a->refused_at) {
        a->refused_at = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    }
    tell(cpu);
}

void hpkvm_vcpu_unbind(CPUState *cpu)
{
    HPKVMState *s = hpkvm_state();
    AccelCPUState *a = cpu->accel;
    int ret;

    if (a->bound) {
        ret = kvm_vcpu_ioctl(cpu, KVM_HPKVM_UNBIND, NULL);
        trace_hpkvm_unbind(cpu->cpu_index, a->host_cpu, ret);
        a->bound = false;
        a->reason = HPKVM_REASON_NOT_BOUND;
        tell(cpu);
    }
    release_core(s, cpu);
}

/* Say once which vCPU got which core, and again when that has changed */
static void report(HPKVMState *s)
{
    g_autoptr(GString) str = g_string_new(NULL);
    unsigned int nr_bound = 0, nr = 0;
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        AccelCPUState *a = cpu->accel;

        if (!a || !a->tried) {
            continue;
        }
        g_string_append_printf(str, "%s vCPU %d ", nr ? "," : "",
                               cpu->cpu_index);
        nr++;
        if (a->bound) {
            nr_bound++;
            g_string_append_printf(str, "on cpu %d", a->host_cpu);
        } else {
            g_autofree char *why = hpkvm_reason_text(a->reason, a->host_cpu,
                                                     a->irq, a->culprit);

            g_string_append_printf(str, "%s (%s)", s->fallback ?
                                   "as under KVM" : "refused", why);
        }
    }
    if (!nr || !g_strcmp0(s->reported, str->str)) {
        return;
    }
    g_free(s->reported);
    s->reported = g_strdup(str->str);

    if (nr_bound) {
        hpkvm_timer_report(s);
        hpkvm_quota_report(s);
    }
    if (nr_bound == nr) {
        info_report("hpkvm: %u of %u vCPUs own a core:%s", nr_bound, nr,
                    str->str);
    } else if (s->fallback) {
        warn_report("hpkvm: %u of %u vCPUs own a core:%s", nr_bound, nr,
                    str->str);
    } else if (s->has_run) {
        warn_report("hpkvm: %u of %u vCPUs own a core, and those without wait "
                    "for it (fallback=off):%s", nr_bound, nr, str->str);
    } else {
        error_report("hpkvm: %u of %u vCPUs own a core, and fallback=off does "
                     "not allow ordinary KVM:%s", nr_bound, nr, str->str);
    }
}

static bool all_bound(void)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        if (!cpu->accel || !cpu->accel->bound) {
            return false;
        }
    }
    return true;
}

/* Reasons that pass without anybody telling QEMU */
static bool may_pass(HpkvmReason reason)
{
    switch (reason) {
    case HPKVM_REASON_CPU_OFFLINE:
    case HPKVM_REASON_CPU_LEASED:
    case HPKVM_REASON_CPU_NOT_ALLOWED:
    case HPKVM_REASON_CPU_LAST:
    case HPKVM_REASON_CPU_TIMEKEEPER:
    case HPKVM_REASON_CPU_IRQ:
    case HPKVM_REASON_CPU_STALE:
    case HPKVM_REASON_NO_PERMISSION:
    case HPKVM_REASON_NO_VECTORS:
    case HPKVM_REASON_LIST_EXHAUSTED:
    case HPKVM_REASON_EMULATOR_CONFINED:
        return true;
    default:
        return false;
    }
}

bool hpkvm_vcpu_waits(const CPUState *cpu)
{
    return cpu->created && cpu->accel && cpu->accel->tried &&
           !cpu->accel->bound && may_pass(cpu->accel->reason);
}

/* @now: something has just changed */
static void watch_cores(HPKVMState *s, bool now)
{
    bool waiting = false;
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        waiting = waiting || hpkvm_vcpu_waits(cpu);
    }
    if (!waiting) {
        s->poll_ms = HPKVM_POLL_MS;
    } else if (now) {
        s->poll_ms = HPKVM_POLL_MS_LEAST;
    } else {
        s->poll_ms = MIN(s->poll_ms * 2, HPKVM_POLL_MS);
    }
    timer_mod(s->pin_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                            s->poll_ms);
}

static bool was_pinned(CPUState *cpu)
{
    int host_cpu;

    if (!cpu->created) {
        return false;
    }
    host_cpu = pinned_to(cpu->thread_id);
    return host_cpu >= 0 && host_cpu != cpu->accel->host_cpu;
}

/*
 * A thread whose cpuset changes, be it because another CPU goes off line, gets
 * all CPUs of the set.  With cpus= nobody else pins it to its core again.
 */
static bool lost_pin(CPUState *cpu)
{
    struct kvm_hpkvm_state state = {};

    return cpu->created && cpu->accel->bound &&
           kvm_vcpu_ioctl(cpu, KVM_HPKVM_GET_STATE, &state) == 0 &&
           state.mode == KVM_HPKVM_MODE_EMULATED &&
           state.reason == KVM_HPKVM_REASON_WRONG_CPU;
}

/* With cpus= a pin of the user's says nothing */
static bool has_to_leave(HPKVMState *s, CPUState *cpu)
{
    return s->nr_cores ? lost_pin(cpu) : was_pinned(cpu) && cpu->accel->bound;
}

static bool has_to_bind(HPKVMState *s, CPUState *cpu, bool left)
{
    if (hpkvm_vcpu_waits(cpu)) {
        return true;
    }
    if (s->nr_cores) {
        return left && cpu->created && !cpu->accel->bound;
    }
    return was_pinned(cpu);
}

static void unbind_vcpu(CPUState *cpu, run_on_cpu_data data)
{
    hpkvm_vcpu_unbind(cpu);
}

/*
 * libvirt pins a hotplugged vCPU when it already runs, and may pin any vCPU
 * anew; the thread gets no notice of it.  Nor does anybody say when a core is
 * free.  Looking from here does not make vCPUs exit that own one.
 */
static void pin_timer_cb(void *opaque)
{
    HPKVMState *s = opaque;
    bool left = false;
    CPUState *cpu;

    if (!runstate_is_running()) {
        /* a guest that wakes up tells nobody */
        watch_cores(s, false);
        return;
    }
    /* first all leave, so that two can change places */
    CPU_FOREACH(cpu) {
        if (has_to_leave(s, cpu)) {
            run_on_cpu(cpu, unbind_vcpu, RUN_ON_CPU_NULL);
            left = true;
        }
    }
    CPU_FOREACH(cpu) {
        if (has_to_bind(s, cpu, left)) {
            trace_hpkvm_pinned(cpu->cpu_index, pinned_to(cpu->thread_id));
            run_on_cpu(cpu, bind_vcpu, RUN_ON_CPU_HOST_PTR(s));
        }
    }
    report(s);
    watch_cores(s, left);
}

static void hand_over_vcpu(CPUState *cpu, run_on_cpu_data data)
{
    hpkvm_vcpu_unbind(cpu);
    cpu->accel->tried = false;
    cpu->accel->refused_at = 0;
}

/*
 * The VM goes to another QEMU, which may be one of this host and want the same
 * cores before it runs the guest.  If it stays here after all, it asks for them
 * again when it runs.
 */
static void hand_over_cores(void)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        if (cpu->accel) {
            run_on_cpu(cpu, hand_over_vcpu, RUN_ON_CPU_NULL);
        }
    }
}

/*
 * One that was paused before: nobody told vm_state_change() of its migration.
 * With postcopy this comes when the other QEMU is about to run the guest.
 */
static int migration_event(NotifierWithReturn *notifier, MigrationEvent *event,
                           Error **errp)
{
    if (event->type == MIG_EVENT_PRECOPY_DONE &&
        (runstate_check(RUN_STATE_POSTMIGRATE) ||
         runstate_check(RUN_STATE_FINISH_MIGRATE))) {
        hand_over_cores();
    }
    return 0;
}

/*
 * Called before any vCPU may enter the guest, and when none does any more and
 * its state has not been saved yet.
 */
static void vm_state_change(void *opaque, bool running, RunState state)
{
    HPKVMState *s = opaque;
    CPUState *cpu;

    if (state == RUN_STATE_FINISH_MIGRATE) {
        hand_over_cores();
    }
    if (!running) {
        return;
    }
    CPU_FOREACH(cpu) {
        run_on_cpu(cpu, bind_vcpu, RUN_ON_CPU_HOST_PTR(s));
    }
    if (!runstate_is_live(runstate_get())) {
        /* stopped again meanwhile */
        return;
    }
    report(s);
    if (!s->fallback && !s->has_run && !all_bound()) {
        exit(EXIT_FAILURE);
    }
    s->has_run = true;
    watch_cores(s, true);
}

void hpkvm_bind_init(HPKVMState *s)
{
    static NotifierWithReturn migration[MIG_MODE__MAX];

    s->pin_timer = timer_new_ms(QEMU_CLOCK_REALTIME, pin_timer_cb, s);
    /* a VM that comes from elsewhere has run there */
    s->has_run = runstate_check(RUN_STATE_INMIGRATE);
    qemu_add_vm_change_state_handler(vm_state_change, s);
    for (int mode = 0; mode < MIG_MODE__MAX; mode++) {
        migration_add_notifier_mode(&migration[mode], migration_event, mode);
    }
}

bool hpkvm_vcpu_may_run(CPUState *cpu)
{
    HPKVMState *s = hpkvm_state();
    AccelCPUState *a = cpu->accel;

    if (!s->enabled || a->bound) {
        return true;
    }
    if (!a->tried) {
        /* hotplugged: it did not exist when the VM started */
        bind_vcpu(cpu, RUN_ON_CPU_HOST_PTR(s));
        report(s);
        watch_cores(s, true);
    }
    return a->bound || s->fallback;
}
