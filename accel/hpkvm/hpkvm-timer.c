/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: the rate of the guest's local APIC timers
 *
 * Owns the choice of the VM's APIC bus frequency.  A guest that counts can have
 * the core's timer only if its own counts as fast, and on a host without
 * TSC-deadline mode counting is the only way to arm a timer without a VM exit.
 *
 * The guest sees the choice, so it must depend on nothing but the host and the
 * properties, and must be made whether or not any vCPU gets a core.
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qemu/error-report.h"
#include "cpu.h"
#include "kvm/kvm_i386.h"
#include "hpkvm-int.h"
#include "trace.h"

static uint64_t kernel_attr(HPKVMState *s, uint64_t which, bool *known)
{
    uint64_t value = 0;
    struct kvm_device_attr attr = {
        .group = KVM_X86_GRP_HPKVM,
        .attr = which,
        .addr = (uintptr_t)&value,
    };

    if (kvm_ioctl(&s->parent_obj, KVM_GET_DEVICE_ATTR, &attr) < 0) {
        *known = false;
    }
    return value;
}

static void ask_kernel(HPKVMState *s)
{
    HPKVMHostTimer *host = &s->host_timer;
    uint64_t ns;

    host->known = true;
    ns = kernel_attr(s, KVM_X86_HPKVM_BUS_CYCLES_NS, &host->known);
    host->frequency = ns ? NANOSECONDS_PER_SECOND / ns : 0;
    host->deadline = kernel_attr(s, KVM_X86_HPKVM_DEADLINE, &host->known);
}

/* Only where that makes a difference: it is one for migration, too */
static uint32_t choose_frequency(const HPKVMState *s)
{
    const HPKVMHostTimer *host = &s->host_timer;

    if (s->apic_bus_frequency) {
        return s->apic_bus_frequency;
    }
    if (s->enabled && (s->features & KVM_HPKVM_F_DIRECT_TIMER) &&
        host->known && !host->deadline && host->frequency) {
        return host->frequency;
    }
    return KVM_APIC_BUS_FREQUENCY;
}

void hpkvm_timer_init(HPKVMState *s, bool quiet)
{
    uint32_t frequency;
    int ret;

    ask_kernel(s);
    frequency = choose_frequency(s);
    ret = kvm_set_apic_bus_frequency(&s->parent_obj, frequency);
    trace_hpkvm_timer(s->host_timer.known, s->host_timer.deadline,
                      s->host_timer.frequency, frequency, ret);
    if (ret < 0 && s->apic_bus_frequency && !quiet) {
        error_report("hpkvm: apic-bus-frequency=%u: %s", frequency,
                     ret == -ENOTSUP ? "the host kernel can have 1000000000 "
                     "only (KVM_CAP_X86_APIC_BUS_CYCLES_NS is missing)" :
                     strerror(-ret));
        exit(EXIT_FAILURE);
    }
}

bool hpkvm_timer_hides_deadline(void)
{
    return kvm_apic_bus_frequency() != KVM_APIC_BUS_FREQUENCY;
}

void hpkvm_timer_report(const HPKVMState *s)
{
    const HPKVMHostTimer *host = &s->host_timer;
    uint64_t frequency = kvm_apic_bus_frequency();
    bool deadline = X86_CPU(first_cpu)->env.features[FEAT_1_ECX] &
                    CPUID_EXT_TSC_DEADLINE_TIMER;

    if (!host->known || !(s->features & KVM_HPKVM_F_DIRECT_TIMER) ||
        (deadline && host->deadline)) {
        return;
    }
    if (!host->frequency) {
        warn_report_once("hpkvm: timers that count are emulated: KVM cannot "
                         "have the rate of this host's");
    } else if (frequency != host->frequency) {
        warn_report_once("hpkvm: timers that count are emulated: the guest's "
                         "count at %" PRIu64 " Hz, this host's at %u Hz "
                         "(apic-bus-frequency=%u)", frequency, host->frequency,
                         host->frequency);
    }
    if (deadline) {
        warn_report_once("hpkvm: a timer in TSC-deadline mode exits when it "
                         "is armed, as this host has no such mode; without it "
                         "(-cpu ...,tsc-deadline=off) guests count");
    }
}

static void get_frequency(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    uint32_t value = HPKVM_ACCEL(obj)->apic_bus_frequency;

    visit_type_uint32(v, name, &value, errp);
}

static void set_frequency(Object *obj, Visitor *v, const char *name,
                          void *opaque, Error **errp)
{
    HPKVMState *s = HPKVM_ACCEL(obj);
    uint32_t value;

    if (!hpkvm_may_set(s, errp) || !visit_type_uint32(v, name, &value, errp)) {
        return;
    }
    if (value && !kvm_is_apic_bus_frequency(value)) {
        error_setg(errp, "%s=%u: must be 1000000000 Hz divided by a whole "
                   "number up to 33554431, like 100000000, or 0 for the "
                   "host's", name, value);
        return;
    }
    s->apic_bus_frequency = value;
}

void hpkvm_timer_class_init(ObjectClass *oc)
{
    object_class_property_add(oc, "apic-bus-frequency", "uint32",
                              get_frequency, set_frequency, NULL, NULL);
    object_class_property_set_description(oc, "apic-bus-frequency",
        "Hz at which the guest's LAPIC timers count, 1000000000 under KVM; "
        "other values hide TSC-deadline mode from -cpu host and max (default: "
        "0, the host's where it has no TSC-deadline mode)");
}
