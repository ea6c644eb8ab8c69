/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: vCPU threads
 *
 * Owns the life of a vCPU's thread: KVM's own, with the core taken before
 * the guest is entered and given back before the vCPU is destroyed.  Must
 * not enter the guest without asking hpkvm_vcpu_may_run().
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/guest-random.h"
#include "qemu/main-loop.h"
#include "system/accel-ops.h"
#include "system/cpus.h"
#include "system/kvm.h"
#include "accel/kvm/kvm-cpus.h"
#include "hpkvm-int.h"

/* How long a vCPU without a core waits before it looks around again */
#define HPKVM_WAIT_MS 100

static void *hpkvm_vcpu_thread_fn(void *arg)
{
    CPUState *cpu = arg;

    rcu_register_thread();

    bql_lock();
    qemu_thread_get_self(cpu->thread);
    cpu->thread_id = qemu_get_thread_id();
    current_cpu = cpu;

    kvm_init_vcpu(cpu, &error_fatal);
    kvm_init_cpu_signals(cpu);
    cpu->accel = g_new0(AccelCPUState, 1);
    cpu->accel->host_cpu = cpu->accel->told.host_cpu = -1;

    /* signal CPU creation */
    cpu_thread_signal_created(cpu);
    qemu_guest_random_seed_thread_part2(cpu->random_seed);

    do {
        if (cpu_can_run(cpu)) {
            if (!hpkvm_vcpu_may_run(cpu)) {
                qemu_cond_timedwait_bql(cpu->halt_cond, HPKVM_WAIT_MS);
            } else if (kvm_cpu_exec(cpu) == EXCP_DEBUG) {
                cpu_handle_guest_debug(cpu);
            }
        }
        qemu_wait_io_event(cpu);
    } while (!cpu->unplug || cpu_can_run(cpu));

    /* before the destruction, which parks the vCPU's fd for re-use */
    hpkvm_vcpu_unbind(cpu);
    g_free(cpu->accel);
    cpu->accel = NULL;
    kvm_destroy_vcpu(cpu);
    cpu_thread_signal_destroyed(cpu);
    bql_unlock();
    rcu_unregister_thread();
    return NULL;
}

static void hpkvm_start_vcpu_thread(CPUState *cpu)
{
    char thread_name[VCPU_THREAD_NAME_SIZE];

    /* the name is KVM's: tools look for it */
    snprintf(thread_name, VCPU_THREAD_NAME_SIZE, "CPU %d/KVM",
             cpu->cpu_index);
    qemu_thread_create(cpu->thread, thread_name, hpkvm_vcpu_thread_fn,
                       cpu, QEMU_THREAD_JOINABLE);
}

static void hpkvm_accel_ops_class_init(ObjectClass *oc, void *data)
{
    AccelOpsClass *ops = ACCEL_OPS_CLASS(oc);

    ops->create_vcpu_thread = hpkvm_start_vcpu_thread;
}

static const TypeInfo hpkvm_accel_ops_type = {
    .name = ACCEL_OPS_NAME("hpkvm"),
    .parent = ACCEL_OPS_NAME("kvm"),
    .class_init = hpkvm_accel_ops_class_init,
    .abstract = true,
};

static void hpkvm_accel_ops_register_types(void)
{
    type_register_static(&hpkvm_accel_ops_type);
}
type_init(hpkvm_accel_ops_register_types);
