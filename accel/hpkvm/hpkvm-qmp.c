/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: query-hpkvm and "info hpkvm"
 *
 * Owns the view of the accelerator for people and management software.  Must
 * succeed under every accelerator, and must not make a vCPU leave the guest.
 */

#include "qemu/osdep.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-hpkvm-target.h"
#include "monitor/monitor.h"
#include "hw/core/cpu.h"
#include "system/kvm.h"
#include "cpu.h"
#include "kvm/kvm_i386.h"
#include "hpkvm-int.h"
#include CONFIG_DEVICES
#ifdef CONFIG_VFIO_HP_PCI
#include "hw/vfio-hp/vfio-hp.h"
#endif

static HpkvmMode mode_from_kernel(uint32_t mode)
{
    switch (mode) {
    case KVM_HPKVM_MODE_PASSTHROUGH:
        return HPKVM_MODE_PASSTHROUGH;
    case KVM_HPKVM_MODE_EMULATED:
        return HPKVM_MODE_EMULATED;
    default:
        return HPKVM_MODE_UNBOUND;
    }
}

static HpkvmWorkKind work_from_kernel(uint32_t work)
{
    switch (work) {
    case KVM_HPKVM_WORK_RESCHEDULE:
        return HPKVM_WORK_KIND_RESCHEDULE;
    case KVM_HPKVM_WORK_CALL:
        return HPKVM_WORK_KIND_CALL;
    case KVM_HPKVM_WORK_IRQ_WORK:
        return HPKVM_WORK_KIND_IRQ_WORK;
    case KVM_HPKVM_WORK_TIMER:
        return HPKVM_WORK_KIND_TIMER;
    case KVM_HPKVM_WORK_POSTED:
        return HPKVM_WORK_KIND_POSTED;
    default:
        return HPKVM_WORK_KIND_OTHER;
    }
}

/* The kernel's times are CLOCK_MONOTONIC's; the last tick may still be due. */
static uint64_t age_of(uint64_t ns)
{
    struct timespec ts;
    uint64_t now;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    now = ts.tv_sec * NANOSECONDS_PER_SECOND + ts.tv_nsec;
    return now > ns ? now - ns : 0;
}

/* How quiet its core is */
static void fill_core(HpkvmVcpuInfo *info, const struct kvm_hpkvm_state *state)
{
    if (state->tick_stopped_at) {
        info->has_tick_stopped = true;
        info->tick_stopped = age_of(state->tick_stopped_at);
    }
    if (state->work_at) {
        info->work = g_new0(HpkvmWork, 1);
        info->work->kind = work_from_kernel(state->work);
        info->work->age = age_of(state->work_at);
        info->work->last_minute = state->work_count;
    }
}

/* What the kernel says of a bound vCPU */
static void fill_bound(HpkvmVcpuInfo *info, CPUState *cpu)
{
    struct kvm_hpkvm_state state = {};

    if (kvm_vcpu_ioctl(cpu, KVM_HPKVM_GET_STATE, &state) < 0) {
        return;
    }
    info->mode = mode_from_kernel(state.mode);
    info->reason = hpkvm_reason_from_kernel(state.reason);
    info->promotions = state.promotions;
    info->demotions = state.demotions;
    info->captured = state.captured;
    info->injected = state.injected;
    info->direct_sent = state.direct_sent;
    info->kicks = state.kicks;
    info->timer = hpkvm_timer_mode_from_kernel(state.timer);
    info->timer_reason = hpkvm_timer_reason_from_kernel(state.timer_reason);
    fill_core(info, &state);
}

static HpkvmVcpuInfo *vcpu_info(const HPKVMState *s, CPUState *cpu)
{
    HpkvmVcpuInfo *info = g_new0(HpkvmVcpuInfo, 1);
    const AccelCPUState *a = cpu->accel;

    info->cpu_index = cpu->cpu_index;
    info->thread_id = cpu->thread_id;
    info->mode = HPKVM_MODE_UNBOUND;
    info->reason = s->enabled ? HPKVM_REASON_NOT_BOUND :
                                HPKVM_REASON_NOT_ENABLED;
    if (!a || !a->tried) {
        info->message = hpkvm_reason_text(info->reason, -1, 0, "");
        return info;
    }

    info->reason = a->reason;
    if (a->bound) {
        info->has_host_cpu = true;
        info->host_cpu = a->host_cpu;
        info->mode = HPKVM_MODE_EMULATED;
        info->reason = HPKVM_REASON_UNKNOWN;
        info->has_timer = true;
        info->has_timer_reason = true;
        info->timer_reason = HPKVM_TIMER_REASON_UNKNOWN;
        fill_bound(info, cpu);
    }
    if (hpkvm_vcpu_waits(cpu)) {
        info->mode = HPKVM_MODE_WAITING;
        info->has_waited = true;
        info->waited = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - a->refused_at;
    }
    if (info->reason != HPKVM_REASON_NONE) {
        info->message = hpkvm_reason_text(info->reason, a->host_cpu, a->irq,
                                          a->culprit);
    }
    return info;
}

HpkvmInfo *qmp_query_hpkvm(Error **errp)
{
    HpkvmInfo *info = g_new0(HpkvmInfo, 1);
    HpkvmVcpuInfoList **tail = &info->vcpus;
    HPKVMState *s = hpkvm_state();
    CPUState *cpu;

    if (!s) {
        info->message = g_strdup("hpkvm is not the accelerator of this VM");
        return info;
    }

    info->enabled = s->enabled;
    info->present = s->present;
    info->fallback = s->fallback;
    info->features = hpkvm_feature_list(s->features);
    info->host_features = hpkvm_feature_list(s->available);
    info->apic_bus_frequency = kvm_apic_bus_frequency();
    info->message = g_strdup(s->disabled_reason);
    if (s->nr_cores) {
        info->cpus = hpkvm_format_cpus(s->cores, s->nr_cores);
    }
    CPU_FOREACH(cpu) {
        QAPI_LIST_APPEND(tail, vcpu_info(s, cpu));
    }
#ifdef CONFIG_VFIO_HP_PCI
    info->devices = vfio_hp_query();
#endif
    return info;
}

static void print_features(Monitor *mon, const char *title,
                           const HpkvmFeatureList *list)
{
    monitor_printf(mon, "%s:", title);
    if (!list) {
        monitor_printf(mon, " none");
    }
    for (; list; list = list->next) {
        monitor_printf(mon, " %s", HpkvmFeature_str(list->value));
    }
    monitor_printf(mon, "\n");
}

static double seconds(uint64_t ns)
{
    return (double)ns / NANOSECONDS_PER_SECOND;
}

/* One line for who wants to know what disturbs a core */
static void print_core(Monitor *mon, const HpkvmVcpuInfo *info)
{
    if (info->has_tick_stopped) {
        monitor_printf(mon, "  no tick for %.1f s",
                       seconds(info->tick_stopped));
    } else {
        monitor_printf(mon, "  ticks");
    }
    if (info->work) {
        monitor_printf(mon, ", last disturbed %.1f s ago (%s), %u times in the "
                       "last minute\n", seconds(info->work->age),
                       HpkvmWorkKind_str(info->work->kind),
                       info->work->last_minute);
    } else {
        monitor_printf(mon, ", never disturbed\n");
    }
}

static void print_vcpu(Monitor *mon, const HpkvmVcpuInfo *info)
{
    monitor_printf(mon, "vCPU %" PRId64 ": %s", info->cpu_index,
                   HpkvmMode_str(info->mode));
    if (info->has_host_cpu) {
        monitor_printf(mon, " on cpu %u", info->host_cpu);
    }
    if (info->has_waited) {
        monitor_printf(mon, " for %.1f s", seconds(info->waited));
    }
    if (info->message) {
        monitor_printf(mon, ": %s", info->message);
    }
    monitor_printf(mon, "\n");
    if (info->mode == HPKVM_MODE_PASSTHROUGH) {
        monitor_printf(mon, "  timer %s", HpkvmTimerMode_str(info->timer));
        if (info->timer != HPKVM_TIMER_MODE_DIRECT) {
            monitor_printf(mon, " (%s)",
                           HpkvmTimerReason_str(info->timer_reason));
        }
        monitor_printf(mon, "\n");
    }
    if (info->has_host_cpu) {
        monitor_printf(mon, "  promotions %" PRIu64 ", demotions %" PRIu64
                       ", captured %" PRIu64 ", injected %" PRIu64
                       ", direct-sent %" PRIu64 ", kicks %" PRIu64 "\n",
                       info->promotions, info->demotions, info->captured,
                       info->injected, info->direct_sent, info->kicks);
        print_core(mon, info);
    }
}

static void print_irq(Monitor *mon, const HpkvmIrqInfo *irq)
{
    monitor_printf(mon, "  interrupt %u: %s", irq->index,
                   HpkvmIrqMode_str(irq->mode));
    if (irq->mode != HPKVM_IRQ_MODE_DIRECT) {
        monitor_printf(mon, " (%s)", HpkvmIrqReason_str(irq->reason));
    }
    if (irq->has_cpu_index) {
        monitor_printf(mon, ", vector 0x%02x of vCPU %" PRId64, irq->vector,
                       irq->cpu_index);
    }
    if (irq->has_host_cpu) {
        monitor_printf(mon, " on cpu %u", irq->host_cpu);
    }
    if (irq->has_host_irq) {
        monitor_printf(mon, ", host irq %u, directed %" PRIu64 ", ended %"
                       PRIu64 ", forwarded %" PRIu64, irq->host_irq,
                       irq->directed, irq->ended, irq->forwarded);
    }
    monitor_printf(mon, "\n");
}

static void print_device(Monitor *mon, const HpkvmDeviceInfo *info)
{
    monitor_printf(mon, "device %s: %s, irte=%s\n", info->id ?: info->qom_path,
                   HpkvmIrqType_str(info->interrupts),
                   OnOffAuto_str(info->irte));
    for (HpkvmIrqInfoList *l = info->vectors; l; l = l->next) {
        print_irq(mon, l->value);
    }
}

static void hmp_info_hpkvm(Monitor *mon, const QDict *qdict)
{
    g_autoptr(HpkvmInfo) info = qmp_query_hpkvm(&error_abort);

    monitor_printf(mon, "hpkvm support: %s%s%s\n",
                   info->enabled ? "enabled" : "disabled",
                   info->message ? ": " : "", info->message ?: "");
    if (!info->enabled) {
        return;
    }
    print_features(mon, "features", info->features);
    print_features(mon, "host features", info->host_features);
    monitor_printf(mon, "apic bus frequency: %" PRIu64 " Hz\n",
                   info->apic_bus_frequency);
    for (HpkvmVcpuInfoList *l = info->vcpus; l; l = l->next) {
        print_vcpu(mon, l->value);
    }
    for (HpkvmDeviceInfoList *l = info->devices; l; l = l->next) {
        print_device(mon, l->value);
    }
}

static void hpkvm_register_monitor(void)
{
    monitor_register_hmp("hpkvm", true, hmp_info_hpkvm);
}
type_init(hpkvm_register_monitor);
