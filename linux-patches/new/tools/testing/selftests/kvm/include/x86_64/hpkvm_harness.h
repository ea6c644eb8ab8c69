/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The selftest harness for tests of dedicated cores, with patience.
 *
 * Limits are there for what hangs.  The CPUs may be emulated ones, on a machine
 * that is busy with other things, too: no test may fail for that alone.
 */
#ifndef SELFTEST_KVM_HPKVM_HARNESS_H
#define SELFTEST_KVM_HPKVM_HARNESS_H

#include "kselftest_harness.h"

#define PATIENCE	6

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	(30 * PATIENCE)

#endif /* SELFTEST_KVM_HPKVM_HARNESS_H */
