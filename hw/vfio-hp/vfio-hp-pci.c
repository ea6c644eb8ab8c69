/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vfio-hp-pci: vfio-pci with a say in where its interrupts go
 *
 * The kernel has an MSI or MSI-X vector delivered straight to a dedicated core
 * whenever it can, for plain vfio-pci too.  This device adds the policy: insist
 * on it, or forbid it.  It must be vfio-pci in everything else.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "hw/qdev-properties.h"
#include "system/hpkvm.h"
#include "system/kvm.h"
#include "vfio-hp.h"
#include <asm/kvm_hpkvm.h>

/* irte=off: tell the kernel each time it hears of a vector */
static void keep_in_host(VFIOMSIVector *vector)
{
    struct kvm_hpkvm_irq_policy policy = {
        .gsi = vector->virq,
        .flags = KVM_HPKVM_IRQ_KEEP_HOST,
    };
    int ret = kvm_vm_ioctl(kvm_state, KVM_HPKVM_SET_IRQ_POLICY, &policy);

    if (ret < 0) {
        warn_report(VFIO_MSG_PREFIX "irte=off has no effect: %s",
                    vector->vdev->vbasedev.name, strerror(-ret));
    }
}

static void vfio_hp_realize(PCIDevice *pdev, Error **errp)
{
    ERRP_GUARD();
    VFIOHpPCIDevice *hp = VFIO_HP_PCI(pdev);
    VFIOPCIDevice *vdev = VFIO_PCI(pdev);
    g_autofree char *obstacle = hpkvm_direct_vfio_obstacle();

    if (hp->irte == ON_OFF_AUTO_ON && obstacle) {
        error_setg(errp, "irte=on: %s", obstacle);
        error_append_hint(errp, "Use irte=auto to do without.\n");
        return;
    }
    if (hp->irte == ON_OFF_AUTO_OFF && !obstacle) {
        vdev->kvm_msi_connected = keep_in_host;
    }
    VFIO_HP_PCI_GET_CLASS(pdev)->parent_realize(pdev, errp);
    if (!*errp && hp->irte == ON_OFF_AUTO_AUTO && obstacle) {
        info_report(VFIO_MSG_PREFIX "interrupts as with vfio-pci: %s",
                    vdev->vbasedev.name, obstacle);
    }
}

static const Property vfio_hp_properties[] = {
    DEFINE_PROP_ON_OFF_AUTO("irte", VFIOHpPCIDevice, irte, ON_OFF_AUTO_AUTO),
};

static void vfio_hp_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pdc = PCI_DEVICE_CLASS(klass);
    VFIOHpPCIDeviceClass *k = VFIO_HP_PCI_CLASS(klass);

    device_class_set_props(dc, vfio_hp_properties);
    object_class_property_set_description(klass, "irte",
        "Whether the IOMMU delivers MSIs straight to dedicated cores: on "
        "(an error where that cannot be), off, auto");
    dc->desc = "VFIO-based PCI device assignment, for dedicated cores";
    k->parent_realize = pdc->realize;
    pdc->realize = vfio_hp_realize;
}

static const TypeInfo vfio_hp_pci_type = {
    .name = TYPE_VFIO_HP_PCI,
    .parent = TYPE_VFIO_PCI,
    .instance_size = sizeof(VFIOHpPCIDevice),
    .class_size = sizeof(VFIOHpPCIDeviceClass),
    .class_init = vfio_hp_class_init,
};

static void vfio_hp_register(void)
{
    type_register_static(&vfio_hp_pci_type);
}
type_init(vfio_hp_register);
