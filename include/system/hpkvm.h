/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: what the rest of QEMU may ask of it
 *
 * Owns the hook that system/vl.c calls, and what devices ask.  Everything else
 * about the accelerator is reached through QOM, as for any accelerator, and
 * must not be declared here.
 */

#ifndef SYSTEM_HPKVM_H
#define SYSTEM_HPKVM_H

#include "qemu/option.h"

/**
 * hpkvm_promote: let "kvm" on the command line mean "hpkvm"
 * @name: accelerator named by the user, may be NULL
 * @opts: the -accel options @name came from
 *
 * Management software that can only say "-accel kvm" asks for hpkvm by the
 * name of the program (ending in "-hpkvm") or by the environment variable
 * QEMU_HPKVM.  The variable is "off" or "0" to forbid, "on", "1" or empty
 * to ask, or a list of properties in -accel syntax, which are added to
 * @opts.
 *
 * Exits if the variable cannot be parsed.
 *
 * Returns: "hpkvm" if @name is to be promoted, else @name.
 */
const char *hpkvm_promote(const char *name, QemuOpts *opts);

/**
 * hpkvm_direct_vfio_obstacle: can VFIO interrupts go straight to a core?
 *
 * Once the accelerator has been initialized.
 *
 * Returns: NULL if they can, when the guest and the core allow it; else why
 * not, to be freed by the caller.
 */
char *hpkvm_direct_vfio_obstacle(void);

#endif
