/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO devices in a VM with dedicated cores
 *
 * Owns the type of vfio-hp-pci and what accel/hpkvm asks of this directory.
 */

#ifndef HW_VFIO_HP_H
#define HW_VFIO_HP_H

#include "hw/vfio/pci.h"
#include "qapi/qapi-types-hpkvm-target.h"

#define TYPE_VFIO_HP_PCI "vfio-hp-pci"
OBJECT_DECLARE_TYPE(VFIOHpPCIDevice, VFIOHpPCIDeviceClass, VFIO_HP_PCI)

struct VFIOHpPCIDevice {
    VFIOPCIDevice parent_obj;
    OnOffAuto irte;
};

struct VFIOHpPCIDeviceClass {
    PCIDeviceClass parent_class;
    void (*parent_realize)(PCIDevice *pdev, Error **errp);
};

/* Every vfio-pci device of the machine, vfio-hp-pci or not */
HpkvmDeviceInfoList *vfio_hp_query(void);

#endif
