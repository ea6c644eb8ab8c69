/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: internal definitions
 *
 * Owns what the files of accel/hpkvm share.  Must not be included from
 * anywhere else.
 */

#ifndef HPKVM_INT_H
#define HPKVM_INT_H

#include "hw/core/cpu.h"
#include "system/kvm_int.h"
#include "qapi/qapi-types-hpkvm-target.h"
#include <asm/kvm_hpkvm.h>

#define TYPE_HPKVM_ACCEL ACCEL_CLASS_NAME("hpkvm")
OBJECT_DECLARE_SIMPLE_TYPE(HPKVMState, HPKVM_ACCEL)

/* Linux on x86 counts host CPUs up to CONFIG_NR_CPUS, at most 8192 */
#define HPKVM_MAX_HOST_CPUS 8192

/* A host CPU that the user named with cpus=, and who took it */
typedef struct HPKVMCore {
    uint16_t host_cpu;
    CPUState *owner;
} HPKVMCore;

/* What the kernel says of the timers of this host's local APICs */
typedef struct HPKVMHostTimer {
    bool known;                     /* it says something */
    bool deadline;                  /* they have TSC-deadline mode */
    uint32_t frequency;             /* Hz, 0 if KVM's cannot have the same */
} HPKVMHostTimer;

struct HPKVMState {
    KVMState parent_obj;

    /* Properties.  @cores is in the order of cpus=. */
    HPKVMCore *cores;
    unsigned int nr_cores;
    bool fallback;
    uint32_t wanted;                /* KVM_HPKVM_F_* */
    uint32_t apic_bus_frequency;    /* Hz, 0 to choose */

    /* Outcome of the negotiation, constant once the machine exists */
    bool present;                   /* the kernel has the capability */
    uint32_t available;             /* KVM_HPKVM_F_* it offers */
    bool enabled;                   /* the VM may bind vCPUs */
    uint32_t features;              /* KVM_HPKVM_F_* the VM uses */
    char *disabled_reason;          /* why !@enabled, one clause */
    HPKVMHostTimer host_timer;

    /* Binding; all under the BQL */
    QEMUTimer *pin_timer;           /* looks for pins, and for free cores */
    unsigned int poll_ms;           /* until it looks again */
    bool has_run;                   /* the VM, here or elsewhere */
    char *reported;                 /* last report of who got which core */
};

/*
 * Per-vCPU state, under the BQL.  Written only by the vCPU's own thread.
 */
struct AccelCPUState {
    bool tried;                     /* at least one attempt to bind */
    bool bound;
    int host_cpu;                   /* bound to, or last refused; -1: none */
    HpkvmReason reason;             /* why not @bound */
    uint32_t irq;                   /* what is in the way, see the UAPI */
    char culprit[sizeof_field(struct kvm_hpkvm_bind, culprit)];
    int64_t refused_at;             /* first, in ns of the realtime clock */

    /* What was said last, by an event */
    struct {
        bool bound;
        int host_cpu;
        HpkvmReason reason;
    } told;
};

/* NULL unless hpkvm is the accelerator of this machine */
HPKVMState *hpkvm_state(void);
/* False, with an error, once the accelerator has been initialized */
bool hpkvm_may_set(const HPKVMState *s, Error **errp);

/**
 * hpkvm_parse_cpus: parse a list of host CPUs, like "2-5,8"
 * @str: numbers and ascending ranges, separated by commas
 * @nr: set to the number of CPUs
 * @errp: says which part of @str is wrong and what is expected
 *
 * Returns: the CPUs in the order of @str, each at most once, or NULL.
 */
HPKVMCore *hpkvm_parse_cpus(const char *str, unsigned int *nr, Error **errp);
/* The inverse of hpkvm_parse_cpus(); to be freed by the caller */
char *hpkvm_format_cpus(const HPKVMCore *cores, unsigned int nr);

/* Name of a technique as the user knows it: the property that sets it */
const char *hpkvm_feature_name(uint32_t feature);
HpkvmFeatureList *hpkvm_feature_list(uint32_t features);

/* Translate enum kvm_hpkvm_reason; numbers QEMU does not know are "unknown" */
HpkvmReason hpkvm_reason_from_kernel(uint32_t reason);
/**
 * hpkvm_reason_text: say in one clause why a vCPU has no core to itself
 * @reason: the reason
 * @host_cpu: the host CPU it is about, or -1
 * @irq: Linux interrupt number, for HPKVM_REASON_CPU_IRQ
 * @culprit: name of what is in the way, may be empty
 *
 * Returns: the text, to be freed by the caller.
 */
char *hpkvm_reason_text(HpkvmReason reason, int host_cpu, uint32_t irq,
                        const char *culprit);

/**
 * hpkvm_timer_init: choose the rate of local APIC timers
 * @s: the accelerator; its VM has no vCPUs yet
 * @quiet: there is no guest that needs what the user has asked for
 *
 * Exits if the kernel cannot do what the user has asked for.
 */
void hpkvm_timer_init(HPKVMState *s, bool quiet);
/* Is a CPU model without TSC-deadline mode the better one for this VM? */
bool hpkvm_timer_hides_deadline(void);
/* Say once, when vCPUs own cores, if arming or firing a timer costs exits */
void hpkvm_timer_report(const HPKVMState *s);
void hpkvm_timer_class_init(ObjectClass *oc);
/* Translate KVM_HPKVM_TIMER_* and enum kvm_hpkvm_timer_reason */
HpkvmTimerMode hpkvm_timer_mode_from_kernel(uint32_t mode);
HpkvmTimerReason hpkvm_timer_reason_from_kernel(uint32_t reason);

/* Warn if a control group's limit will stop vCPUs that own a core */
void hpkvm_quota_report(const HPKVMState *s);

/* Watch for the VM to start; once, after the capability was enabled */
void hpkvm_bind_init(HPKVMState *s);
/**
 * hpkvm_vcpu_may_run: bind a vCPU that has not tried yet
 * @cpu: a vCPU of this thread that is about to enter the guest
 *
 * Returns: false if the vCPU must stay out of the guest for now, because it
 * has no core and fallback=off.
 */
bool hpkvm_vcpu_may_run(CPUState *cpu);
/* Give back the core of this thread's vCPU, if it has one */
void hpkvm_vcpu_unbind(CPUState *cpu);
/* Was @cpu refused a core for something that can pass? */
bool hpkvm_vcpu_waits(const CPUState *cpu);

#endif
