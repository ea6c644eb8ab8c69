/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: CPU models
 *
 * Owns the type that makes CPU models behave as under KVM.  accel-target.c
 * looks it up by name and says nothing if it is missing: "-cpu host", the
 * KVM defaults and SMM would then silently go wrong.
 *
 * Must not change anything that the guest can see, with one exception: a
 * default of "-cpu host" and "max", see hpkvm_timer_hides_deadline().
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "qapi/error.h"
#include "accel/accel-cpu-target.h"
#include "hpkvm-int.h"

static void (*kvm_cpu_instance_init)(CPUState *cs);

/* Before the properties that the user has set */
static void hpkvm_cpu_instance_init(CPUState *cs)
{
    kvm_cpu_instance_init(cs);
    if (X86_CPU(cs)->max_features && hpkvm_timer_hides_deadline()) {
        object_property_set_bool(OBJECT(cs), "tsc-deadline", false,
                                 &error_abort);
    }
}

static void hpkvm_cpu_accel_class_init(ObjectClass *oc, void *data)
{
    AccelCPUClass *acc = ACCEL_CPU_CLASS(oc);

    kvm_cpu_instance_init = acc->cpu_instance_init;
    acc->cpu_instance_init = hpkvm_cpu_instance_init;
}

static const TypeInfo hpkvm_cpu_accel_type = {
    .name = ACCEL_CPU_NAME("hpkvm"),
    .parent = ACCEL_CPU_NAME("kvm"),
    .class_init = hpkvm_cpu_accel_class_init,
    .abstract = true,
};

static void hpkvm_cpu_accel_register_types(void)
{
    type_register_static(&hpkvm_cpu_accel_type);
}
type_init(hpkvm_cpu_accel_register_types);
