/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: KVM whose vCPUs may own a host core
 *
 * Owns the accelerator type, its properties, and the negotiation with the
 * kernel.  Where the kernel or the machine does not allow dedicated cores it
 * must behave as KVM in every respect, and say why exactly once.
 *
 * Once the parent's init_machine has succeeded this accelerator must not
 * fail: KVM's has by then registered listeners that nothing takes back.
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "qemu/accel.h"
#include "hw/boards.h"
#include "system/hpkvm.h"
#include "system/kvm.h"
#include "hpkvm-int.h"
#include "trace.h"

static int (*kvm_init_machine)(MachineState *ms);

HPKVMState *hpkvm_state(void)
{
    return (HPKVMState *)object_dynamic_cast(OBJECT(current_accel()),
                                             TYPE_HPKVM_ACCEL);
}

static const char *hpkvm_device(const HPKVMState *s)
{
    return s->parent_obj.device ?: "/dev/kvm";
}

/* Ask the kernel what it offers, without a trace if the device is missing */
static void hpkvm_probe(HPKVMState *s)
{
    int fd = qemu_open_old(hpkvm_device(s), O_RDWR);
    int ret;

    if (fd < 0) {
        return;
    }
    ret = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_HPKVM);
    qemu_close(fd);
    if (ret > 0) {
        s->present = true;
        s->available = ret;
    }
    trace_hpkvm_probe(hpkvm_device(s), s->available);
}

/*
 * Why does the kernel offer nothing?  One that knows dedicated cores says so to
 * a vCPU that asks for one, here in a VM that is made for that and gone again.
 *
 * Returns: the reason, to be freed by the caller; NULL if it knows of none.
 */
static char *hpkvm_ask_why(const HPKVMState *s)
{
    struct kvm_hpkvm_bind bind = { };
    int kvm = qemu_open_old(hpkvm_device(s), O_RDWR);
    int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    int vcpu = vm < 0 ? -1 : ioctl(vm, KVM_CREATE_VCPU, 0);
    char *why = NULL;

    if (vcpu >= 0 && ioctl(vcpu, KVM_HPKVM_BIND, &bind) < 0 &&
        errno == EOPNOTSUPP) {
        why = hpkvm_reason_text(hpkvm_reason_from_kernel(bind.reason), bind.cpu,
                                bind.irq, bind.culprit);
    }
    if (vcpu >= 0) {
        close(vcpu);
    }
    if (vm >= 0) {
        close(vm);
    }
    if (kvm >= 0) {
        qemu_close(kvm);
    }
    return why;
}

/*
 * Decide before KVM is initialized whether the VM can have dedicated cores.
 *
 * Returns: NULL if it can, else the reason, to be freed by the caller.
 */
static char *hpkvm_negotiate(const HPKVMState *s, const MachineState *ms)
{
    if (!s->present) {
        return hpkvm_ask_why(s) ?:
               g_strdup("the host kernel has no support for dedicated cores "
                        "(KVM_CAP_X86_HPKVM)");
    }
    if (!(s->wanted & KVM_HPKVM_F_DIRECT_IRQ)) {
        return g_strdup("direct-interrupts=off turns every technique off");
    }
    if (!(s->available & KVM_HPKVM_F_DIRECT_IRQ)) {
        return g_strdup("the host kernel does not offer direct-interrupts");
    }
    if (!s->parent_obj.kernel_irqchip_allowed) {
        return g_strdup("kernel-irqchip=off leaves no LAPIC in the kernel");
    }
    if (ms->cgs) {
        return g_strdup("confidential guests cannot have dedicated cores");
    }
    if (s->parent_obj.xen_version) {
        return g_strdup("guests with Xen emulation cannot have dedicated "
                        "cores");
    }
    if (s->nr_cores && s->nr_cores < ms->smp.cpus && !s->fallback) {
        return g_strdup_printf("cpus= names %u host CPU(s) for %u vCPUs",
                               s->nr_cores, ms->smp.cpus);
    }
    return NULL;
}

/* As hpkvm_negotiate(), but the last word is the kernel's */
static char *hpkvm_enable(HPKVMState *s)
{
    uint32_t features = s->wanted & s->available;
    int ret;

    if (!kvm_irqchip_in_kernel()) {
        return g_strdup("this machine has no LAPIC in the kernel");
    }
    ret = kvm_vm_enable_cap(&s->parent_obj, KVM_CAP_X86_HPKVM, 0, features);
    trace_hpkvm_enable(features, ret);
    if (ret < 0) {
        return g_strdup_printf("the host kernel refused the capability: %s",
                               strerror(-ret));
    }
    s->features = features;
    s->enabled = true;
    return NULL;
}

/* What a vfio-hp-pci device needs, that device reports */
static void hpkvm_report_missing(const HPKVMState *s)
{
    uint32_t missing = s->wanted & ~s->available & ~KVM_HPKVM_F_DIRECT_VFIO;
    g_autoptr(GString) names = g_string_new(NULL);

    for (uint32_t feature = 1; feature & KVM_HPKVM_F_ALL; feature <<= 1) {
        if (missing & feature) {
            g_string_append_printf(names, " %s", hpkvm_feature_name(feature));
        }
    }
    if (names->len) {
        info_report("hpkvm: the host kernel does not offer%s", names->str);
    }
}

static int hpkvm_init(MachineState *ms)
{
    HPKVMState *s = HPKVM_ACCEL(ms->accelerator);
    /*
     * "-M none" is how management software asks what QEMU can do.  There is
     * no guest that could lack a core: neither complain nor fail.
     */
    bool quiet = g_str_equal(MACHINE_GET_CLASS(ms)->name, "none");
    bool must = !s->fallback && !quiet;
    int ret;

    hpkvm_probe(s);
    s->disabled_reason = hpkvm_negotiate(s, ms);
    if (s->disabled_reason && must) {
        error_report("hpkvm: %s, and fallback=off does not allow ordinary KVM",
                     s->disabled_reason);
        return -ENOTSUP;
    }

    ret = kvm_init_machine(ms);
    if (ret < 0) {
        return ret;
    }

    if (!s->disabled_reason) {
        s->disabled_reason = hpkvm_enable(s);
        if (s->disabled_reason && must) {
            error_report("hpkvm: %s, and fallback=off does not allow ordinary "
                         "KVM", s->disabled_reason);
            exit(EXIT_FAILURE);
        }
    }
    /* also for who asks "-M none" which features "-cpu host" has */
    hpkvm_timer_init(s, quiet);
    if (s->enabled) {
        if (!quiet) {
            hpkvm_report_missing(s);
        }
        hpkvm_bind_init(s);
    } else if (!quiet) {
        warn_report("hpkvm: %s: running as ordinary KVM", s->disabled_reason);
    }
    return 0;
}

char *hpkvm_direct_vfio_obstacle(void)
{
    const HPKVMState *s = hpkvm_state();

    if (!s) {
        return g_strdup("hpkvm is not the accelerator of this VM");
    }
    if (!s->enabled) {
        return g_strdup(s->disabled_reason);
    }
    if (s->features & KVM_HPKVM_F_DIRECT_VFIO) {
        return NULL;
    }
    return g_strdup(s->available & KVM_HPKVM_F_DIRECT_VFIO ?
                    "direct-vfio=off" :
                    "the host does not offer direct-vfio: it has no IOMMU "
                    "that remaps interrupts, or its kernel is too old");
}

bool hpkvm_may_set(const HPKVMState *s, Error **errp)
{
    if (s->parent_obj.fd != -1) {
        error_setg(errp, "Cannot set properties after the accelerator has "
                   "been initialized");
        return false;
    }
    return true;
}

static char *hpkvm_get_cpus(Object *obj, Error **errp)
{
    HPKVMState *s = HPKVM_ACCEL(obj);

    return hpkvm_format_cpus(s->cores, s->nr_cores);
}

static void hpkvm_set_cpus(Object *obj, const char *value, Error **errp)
{
    HPKVMState *s = HPKVM_ACCEL(obj);
    HPKVMCore *cores;
    unsigned int nr;

    if (!hpkvm_may_set(s, errp)) {
        return;
    }
    cores = hpkvm_parse_cpus(value, &nr, errp);
    if (cores) {
        g_free(s->cores);
        s->cores = cores;
        s->nr_cores = nr;
    }
}

static bool hpkvm_get_fallback(Object *obj, Error **errp)
{
    return HPKVM_ACCEL(obj)->fallback;
}

static void hpkvm_set_fallback(Object *obj, bool value, Error **errp)
{
    HPKVMState *s = HPKVM_ACCEL(obj);

    if (hpkvm_may_set(s, errp)) {
        s->fallback = value;
    }
}

static void hpkvm_get_feature(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    bool value = HPKVM_ACCEL(obj)->wanted & (uintptr_t)opaque;

    visit_type_bool(v, name, &value, errp);
}

static void hpkvm_set_feature(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    HPKVMState *s = HPKVM_ACCEL(obj);
    uint32_t feature = (uintptr_t)opaque;
    bool value;

    if (!hpkvm_may_set(s, errp) || !visit_type_bool(v, name, &value, errp)) {
        return;
    }
    if (value) {
        s->wanted |= feature;
    } else {
        s->wanted &= ~feature;
    }
}

static void hpkvm_add_feature(ObjectClass *oc, uint32_t feature,
                              const char *description)
{
    const char *name = hpkvm_feature_name(feature);

    object_class_property_add(oc, name, "bool", hpkvm_get_feature,
                              hpkvm_set_feature, NULL,
                              (void *)(uintptr_t)feature);
    object_class_property_set_description(oc, name, description);
}

static void hpkvm_accel_instance_init(Object *obj)
{
    HPKVMState *s = HPKVM_ACCEL(obj);

    s->fallback = true;
    s->wanted = KVM_HPKVM_F_ALL;
}

static void hpkvm_accel_instance_finalize(Object *obj)
{
    HPKVMState *s = HPKVM_ACCEL(obj);

    g_free(s->cores);
    g_free(s->disabled_reason);
}

static void hpkvm_accel_class_init(ObjectClass *oc, void *data)
{
    AccelClass *ac = ACCEL_CLASS(oc);

    ac->name = "HPKVM";
    kvm_init_machine = ac->init_machine;
    ac->init_machine = hpkvm_init;

    object_class_property_add_str(oc, "cpus", hpkvm_get_cpus, hpkvm_set_cpus);
    object_class_property_set_description(oc, "cpus",
        "Host CPUs to dedicate, like 2-5: vCPU i takes the i-th (default: the "
        "CPU that a vCPU's thread is pinned to)");

    object_class_property_add_bool(oc, "fallback", hpkvm_get_fallback,
                                   hpkvm_set_fallback);
    object_class_property_set_description(oc, "fallback",
        "Run a vCPU that gets no core as under KVM; off makes it an error "
        "(default: on)");

    hpkvm_timer_class_init(oc);
    hpkvm_add_feature(oc, KVM_HPKVM_F_DIRECT_IRQ,
        "Interrupts reach the guest without a VM exit; off turns the other "
        "direct-* off, too (default: on)");
    hpkvm_add_feature(oc, KVM_HPKVM_F_DIRECT_TIMER,
        "The guest programs the core's own LAPIC timer (default: on)");
    hpkvm_add_feature(oc, KVM_HPKVM_F_DIRECT_IPI,
        "IPIs of the guest go to the target's core (default: on)");
    hpkvm_add_feature(oc, KVM_HPKVM_F_DIRECT_MSI,
        "MSIs of emulated devices go to the target's core (default: on)");
    hpkvm_add_feature(oc, KVM_HPKVM_F_DIRECT_HLT,
        "HLT, PAUSE, MONITOR and MWAIT do not exit (default: on)");
    hpkvm_add_feature(oc, KVM_HPKVM_F_DIRECT_VFIO,
        "MSIs of VFIO devices go to the target's core (default: on)");
}

static const TypeInfo hpkvm_accel_type = {
    .name = TYPE_HPKVM_ACCEL,
    .parent = TYPE_KVM_ACCEL,
    .instance_size = sizeof(HPKVMState),
    .instance_init = hpkvm_accel_instance_init,
    .instance_finalize = hpkvm_accel_instance_finalize,
    .class_init = hpkvm_accel_class_init,
};

static void hpkvm_type_init(void)
{
    type_register_static(&hpkvm_accel_type);
}
type_init(hpkvm_type_init);
