/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: names of techniques, and words for reasons
 *
 * Owns every translation between the kernel's numbers, QMP's names, and what
 * people read.  Must cope with numbers of a newer kernel.
 */

#include "qemu/osdep.h"
#include "hpkvm-int.h"

static const struct {
    uint32_t bit;
    HpkvmFeature feature;
} features[] = {
    { KVM_HPKVM_F_DIRECT_IRQ,   HPKVM_FEATURE_DIRECT_INTERRUPTS },
    { KVM_HPKVM_F_DIRECT_TIMER, HPKVM_FEATURE_DIRECT_TIMER },
    { KVM_HPKVM_F_DIRECT_IPI,   HPKVM_FEATURE_DIRECT_IPI },
    { KVM_HPKVM_F_DIRECT_MSI,   HPKVM_FEATURE_DIRECT_MSI },
    { KVM_HPKVM_F_DIRECT_HLT,   HPKVM_FEATURE_DIRECT_HALT },
    { KVM_HPKVM_F_DIRECT_VFIO,  HPKVM_FEATURE_DIRECT_VFIO },
};

const char *hpkvm_feature_name(uint32_t feature)
{
    for (int i = 0; i < ARRAY_SIZE(features); i++) {
        if (features[i].bit == feature) {
            return HpkvmFeature_str(features[i].feature);
        }
    }
    g_assert_not_reached();
}

HpkvmFeatureList *hpkvm_feature_list(uint32_t mask)
{
    HpkvmFeatureList *list = NULL, **tail = &list;

    for (int i = 0; i < ARRAY_SIZE(features); i++) {
        if (mask & features[i].bit) {
            QAPI_LIST_APPEND(tail, features[i].feature);
        }
    }
    return list;
}

/* "%d" in a text is the host CPU the reason is about */
static const struct {
    HpkvmReason reason;
    const char *text;
} reasons[] = {
#define KERNEL(name, words) \
    [KVM_HPKVM_REASON_##name] = { HPKVM_REASON_##name, words }
    KERNEL(NONE, "nothing is in the way"),
    KERNEL(NOT_ENABLED, "dedicated cores are not enabled for this VM"),
    KERNEL(BAD_FLAGS, "the kernel does not know this form of request"),
    KERNEL(CPU_INVALID, "the host has no cpu %d"),
    KERNEL(CPU_OFFLINE, "cpu %d is offline"),
    KERNEL(CPU_LEASED, "another vCPU owns cpu %d"),
    KERNEL(CPU_NOT_ALLOWED, "cpu %d is outside of QEMU's cpuset"),
    KERNEL(CPU_LAST, "cpu %d is the host's last housekeeping CPU"),
    KERNEL(CPU_TIMEKEEPER, "cpu %d keeps the host's time"),
    KERNEL(CPU_IRQ, "a host interrupt cannot leave cpu %d"),
    KERNEL(CPU_STALE, "the LAPIC of cpu %d could not be cleared"),
    KERNEL(ALREADY_BOUND, "the vCPU owns a core already"),
    KERNEL(NO_PERMISSION, "cpu %d is not isolated and QEMU lacks "
           "CAP_SYS_NICE"),
    KERNEL(HOST_UNSUITABLE, "the host cannot dedicate cores"),
    KERNEL(NO_LAPIC, "the VM has no LAPIC in the kernel"),
    KERNEL(NOT_BOUND, "the vCPU owns no core"),
    KERNEL(NOT_ENTERED, "the vCPU did not run since it got its core"),
    KERNEL(WRONG_CPU, "the vCPU's thread was moved away from cpu %d"),
    KERNEL(LAPIC_MODE, "the guest's LAPIC is not in x2APIC mode"),
    KERNEL(LAPIC_DISABLED, "the guest disabled its LAPIC"),
    KERNEL(IRQ_IN_SERVICE, "an emulated interrupt is still in service"),
    KERNEL(EXTINT, "the guest takes interrupts from the 8259 PIC"),
    KERNEL(NESTED, "the guest runs guests of its own"),
    KERNEL(TIMER_VECTOR, "the guest's timer is on its way to the core"),
    KERNEL(TIMER_RATE, "the guest's timer and the core's run at "
           "different rates"),
    KERNEL(FEATURE_OFF, "direct-interrupts is off"),
    KERNEL(DEBUG, "the vCPU is being debugged, or in SMM, or has an interrupt "
           "of SynIC with AutoEOI"),
    KERNEL(USER_ACCESS, "QEMU has just read or written LAPIC state"),
    KERNEL(NO_VECTORS, "the other CPUs have no vectors left for host "
           "interrupts of cpu %d"),
#undef KERNEL
};

QEMU_BUILD_BUG_ON(ARRAY_SIZE(reasons) != KVM_HPKVM_REASON_MAX);

HpkvmReason hpkvm_reason_from_kernel(uint32_t reason)
{
    return reason < ARRAY_SIZE(reasons) ? reasons[reason].reason :
                                          HPKVM_REASON_UNKNOWN;
}

/* The text of a reason without what varies, NULL if unknown */
static const char *reason_words(HpkvmReason reason)
{
    switch (reason) {
    case HPKVM_REASON_NOT_PINNED:
        return "its thread is not pinned to one host CPU and there is no "
               "cpus=";
    case HPKVM_REASON_LIST_EXHAUSTED:
        return "cpus= has no CPU left for it";
    case HPKVM_REASON_EMULATOR_CONFINED:
        return "the rest of QEMU would have no CPU but cpu %d and other "
               "vCPUs' cores";
    default:
        break;
    }
    for (int i = 0; i < ARRAY_SIZE(reasons); i++) {
        if (reasons[i].reason == reason) {
            return reasons[i].text;
        }
    }
    return "no reason known to this QEMU";
}

char *hpkvm_reason_text(HpkvmReason reason, int host_cpu, uint32_t irq,
                        const char *culprit)
{
    const char *words = reason_words(reason);
    const char *number = strstr(words, "%d");
    GString *str = g_string_new(NULL);

    if (reason == HPKVM_REASON_CPU_IRQ && *culprit) {
        g_string_append_printf(str, "irq %u %s cannot leave cpu %d", irq,
                               culprit, host_cpu);
        return g_string_free(str, false);
    }
    if (reason == HPKVM_REASON_NO_PERMISSION && *culprit) {
        g_string_append_printf(str, "irq %u %s is meant for cpu %d alone and "
                               "QEMU lacks CAP_SYS_NICE", irq, culprit,
                               host_cpu);
        return g_string_free(str, false);
    }
    if (number) {
        g_string_append_len(str, words, number - words);
        g_string_append_printf(str, "%d%s", host_cpu, number + strlen("%d"));
    } else {
        g_string_append(str, words);
    }
    if (*culprit) {
        g_string_append_printf(str, ": %s", culprit);
    }
    return g_string_free(str, false);
}

HpkvmTimerMode hpkvm_timer_mode_from_kernel(uint32_t mode)
{
    switch (mode) {
    case KVM_HPKVM_TIMER_DIRECT:
        return HPKVM_TIMER_MODE_DIRECT;
    case KVM_HPKVM_TIMER_INTERCEPTED:
        return HPKVM_TIMER_MODE_INTERCEPTED;
    default:
        return HPKVM_TIMER_MODE_EMULATED;
    }
}

HpkvmTimerReason hpkvm_timer_reason_from_kernel(uint32_t reason)
{
    static const HpkvmTimerReason reasons[] = {
#define KERNEL(name) \
        [KVM_HPKVM_TIMER_REASON_##name] = HPKVM_TIMER_REASON_##name
        KERNEL(NONE),
        KERNEL(NOT_PASSTHROUGH),
        KERNEL(FEATURE_OFF),
        KERNEL(VECTOR),
        KERNEL(MODE),
        KERNEL(RATE),
        KERNEL(AMID_PERIOD),
        KERNEL(FAR),
        KERNEL(NO_DEADLINE),
        KERNEL(TSC),
        KERNEL(FILTER),
#undef KERNEL
    };

    QEMU_BUILD_BUG_ON(ARRAY_SIZE(reasons) != KVM_HPKVM_TIMER_REASON_MAX);
    return reason < ARRAY_SIZE(reasons) ? reasons[reason] :
                                          HPKVM_TIMER_REASON_UNKNOWN;
}
