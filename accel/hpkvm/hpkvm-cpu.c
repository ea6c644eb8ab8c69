/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: CPU models
 *
 * Owns the type that makes CPU models behave as under KVM.  accel-target.c
 * looks it up by name and says nothing if it is missing: "-cpu host", the
 * KVM defaults and SMM would then silently go wrong.  Must not change
 * anything that the guest can see.
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "accel/accel-cpu-target.h"

static const TypeInfo hpkvm_cpu_accel_type = {
    .name = ACCEL_CPU_NAME("hpkvm"),
    .parent = ACCEL_CPU_NAME("kvm"),
    .abstract = true,
};

static void hpkvm_cpu_accel_register_types(void)
{
    type_register_static(&hpkvm_cpu_accel_type);
}
type_init(hpkvm_cpu_accel_register_types);
