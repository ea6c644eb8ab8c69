/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: stand-ins for builds without it
 *
 * Owns what system/vl.c and the QMP command table need in every target.
 * Must not do more than say that there is no hpkvm.
 */

#include "qemu/osdep.h"
#include "system/hpkvm.h"

const char *hpkvm_promote(const char *name, QemuOpts *opts)
{
    return name;
}

#if defined(TARGET_I386) && defined(CONFIG_KVM)
#include "qapi/qapi-commands-hpkvm-target.h"

HpkvmInfo *qmp_query_hpkvm(Error **errp)
{
    HpkvmInfo *info = g_new0(HpkvmInfo, 1);

    info->message = g_strdup("hpkvm is not part of this QEMU");
    return info;
}
#endif
