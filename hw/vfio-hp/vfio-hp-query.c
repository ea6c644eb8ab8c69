/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO devices in a VM with dedicated cores: where each interrupt goes
 *
 * Owns the translation of what the kernel says of a vector.  Must not change
 * anything, nor make a vCPU leave the guest.
 */

#include "qemu/osdep.h"
#include "qapi/util.h"
#include "hw/core/cpu.h"
#include "system/kvm.h"
#include "vfio-hp.h"
#include <asm/kvm_hpkvm.h>

static const HpkvmIrqReason reasons[] = {
#define KERNEL(name) [KVM_HPKVM_IRQ_REASON_##name] = HPKVM_IRQ_REASON_##name
    KERNEL(NONE),
    KERNEL(NOT_BOUND),
    KERNEL(FEATURE_OFF),
    KERNEL(POLICY),
    KERNEL(NOT_MSI),
    KERNEL(DELIVERY_MODE),
    KERNEL(TARGETS),
    KERNEL(VECTOR),
    KERNEL(NOT_PASSTHROUGH),
    KERNEL(IOMMU),
#undef KERNEL
};

QEMU_BUILD_BUG_ON(ARRAY_SIZE(reasons) != KVM_HPKVM_IRQ_REASON_MAX);

static HpkvmIrqMode mode_from_kernel(uint32_t mode)
{
    switch (mode) {
    case KVM_HPKVM_IRQ_MODE_DIRECT:
        return HPKVM_IRQ_MODE_DIRECT;
    case KVM_HPKVM_IRQ_MODE_POSTED:
        return HPKVM_IRQ_MODE_POSTED;
    default:
        return HPKVM_IRQ_MODE_REMAPPED;
    }
}

static void fill_target(HpkvmIrqInfo *info, const struct kvm_hpkvm_irq *irq)
{
    CPUState *cpu;

    info->has_vector = true;
    info->vector = irq->vector;
    info->has_host_cpu = true;
    info->host_cpu = irq->cpu;
    CPU_FOREACH(cpu) {
        if (kvm_arch_vcpu_id(cpu) == irq->vcpu) {
            info->has_cpu_index = true;
            info->cpu_index = cpu->cpu_index;
        }
    }
}

static void fill_from_kernel(HpkvmIrqInfo *info, int gsi)
{
    struct kvm_hpkvm_irq irq = { .gsi = gsi };

    /* The kernel sees the vector only while nobody has masked it. */
    if (gsi < 0 || !kvm_enabled() ||
        kvm_vm_ioctl(kvm_state, KVM_HPKVM_GET_IRQ, &irq) < 0) {
        return;
    }
    info->mode = mode_from_kernel(irq.mode);
    info->reason = irq.reason < ARRAY_SIZE(reasons) ? reasons[irq.reason] :
                                                      HPKVM_IRQ_REASON_UNKNOWN;
    info->has_host_irq = true;
    info->host_irq = irq.host_irq;
    info->directed = irq.directed;
    info->ended = irq.ended;
    info->forwarded = irq.forwarded;
    if (info->mode == HPKVM_IRQ_MODE_DIRECT) {
        fill_target(info, &irq);
    }
}

static HpkvmIrqInfo *irq_info(const VFIOPCIDevice *vdev, int nr)
{
    HpkvmIrqInfo *info = g_new0(HpkvmIrqInfo, 1);

    info->index = nr;
    info->mode = HPKVM_IRQ_MODE_EMULATED;
    info->reason = HPKVM_IRQ_REASON_MASKED;
    fill_from_kernel(info, vdev->msi_vectors[nr].virq);
    return info;
}

/* Stock KVM's: level-triggered, and its EOI has to be seen. */
static HpkvmIrqInfo *intx_info(const VFIOPCIDevice *vdev)
{
    HpkvmIrqInfo *info = g_new0(HpkvmIrqInfo, 1);

    info->mode = vdev->intx.kvm_accel ? HPKVM_IRQ_MODE_REMAPPED :
                                        HPKVM_IRQ_MODE_EMULATED;
    info->reason = HPKVM_IRQ_REASON_NOT_MSI;
    return info;
}

static HpkvmIrqType irq_type(const VFIOPCIDevice *vdev)
{
    switch (vdev->interrupt) {
    case VFIO_INT_INTx:
        return HPKVM_IRQ_TYPE_INTX;
    case VFIO_INT_MSI:
        return HPKVM_IRQ_TYPE_MSI;
    case VFIO_INT_MSIX:
        return HPKVM_IRQ_TYPE_MSI_X;
    default:
        return HPKVM_IRQ_TYPE_NONE;
    }
}

static HpkvmDeviceInfo *device_info(VFIOPCIDevice *vdev)
{
    HpkvmDeviceInfo *info = g_new0(HpkvmDeviceInfo, 1);
    HpkvmIrqInfoList **tail = &info->vectors;
    VFIOHpPCIDevice *hp = (VFIOHpPCIDevice *)
        object_dynamic_cast(OBJECT(vdev), TYPE_VFIO_HP_PCI);

    info->id = g_strdup(DEVICE(vdev)->id);
    info->qom_path = object_get_canonical_path(OBJECT(vdev));
    info->irte = hp ? hp->irte : ON_OFF_AUTO_AUTO;
    info->interrupts = irq_type(vdev);
    if (info->interrupts == HPKVM_IRQ_TYPE_INTX) {
        QAPI_LIST_APPEND(tail, intx_info(vdev));
    }
    for (int nr = 0; vdev->msi_vectors && nr < vdev->nr_vectors; nr++) {
        if (vdev->msi_vectors[nr].use) {
            QAPI_LIST_APPEND(tail, irq_info(vdev, nr));
        }
    }
    return info;
}

static int add_device(Object *obj, void *opaque)
{
    HpkvmDeviceInfoList ***tail = opaque;

    if (object_dynamic_cast(obj, TYPE_VFIO_PCI) && DEVICE(obj)->realized) {
        QAPI_LIST_APPEND(*tail, device_info(VFIO_PCI(obj)));
    }
    return 0;
}

HpkvmDeviceInfoList *vfio_hp_query(void)
{
    HpkvmDeviceInfoList *list = NULL, **tail = &list;

    object_child_foreach_recursive(object_get_root(), add_device, &tail);
    return list;
}
