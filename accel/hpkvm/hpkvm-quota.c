/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: control groups that stop a vCPU
 *
 * A vCPU that owns a core runs even while its guest sleeps, as HLT does not
 * exit.  Where a control group limits CPU time (cpu.max, or cpu.cfs_quota_us
 * of version 1) to less than that, the kernel stops the vCPU for the rest of
 * each period.  This file owns the look at those limits, and the warning.
 *
 * Must never write to a control group, and must not take one that it cannot
 * read for one that limits.
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "hw/core/cpu.h"
#include "hpkvm-int.h"

#define HPKVM_CGROUP_ROOT "/sys/fs/cgroup"

/* The directory of the control group that limits thread @tid, or NULL */
static char *cgroup_of(int tid)
{
    g_autofree char *file = g_strdup_printf("/proc/self/task/%d/cgroup", tid);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    char *dir = NULL;

    if (!g_file_get_contents(file, &text, NULL, NULL)) {
        return NULL;
    }
    lines = g_strsplit(text, "\n", -1);
    for (unsigned int i = 0; lines[i]; i++) {
        /* hierarchy:controllers:path; version 2 names no controllers */
        g_auto(GStrv) part = g_strsplit(lines[i], ":", 3);
        g_auto(GStrv) names = NULL;

        if (g_strv_length(part) != 3 || part[2][0] != '/') {
            continue;
        }
        names = g_strsplit(part[1], ",", -1);
        if (g_strv_contains((const char *const *)names, "cpu")) {
            /* a link, where the controllers are mounted under another name */
            g_free(dir);
            return g_canonicalize_filename(part[2] + 1,
                                           HPKVM_CGROUP_ROOT "/cpu");
        }
        if (!part[1][0] && !dir) {
            dir = g_canonicalize_filename(part[2] + 1, HPKVM_CGROUP_ROOT);
        }
    }
    return dir;
}

static bool read_number(const char *dir, const char *name, long long *value)
{
    g_autofree char *file = g_build_filename(dir, name, NULL);
    g_autofree char *text = NULL;

    return g_file_get_contents(file, &text, NULL, NULL) &&
           sscanf(text, "%lld", value) == 1;
}

/* Per cent of a CPU that the control group may use, -1 if not limited */
static int cgroup_limit(const char *dir)
{
    g_autofree char *file = g_build_filename(dir, "cpu.max", NULL);
    g_autofree char *text = NULL;
    long long quota, period;

    if (g_file_get_contents(file, &text, NULL, NULL)) {
        /* "max PERIOD", or two numbers, in us */
        if (sscanf(text, "%lld %lld", &quota, &period) != 2) {
            return -1;
        }
    } else if (!read_number(dir, "cpu.cfs_quota_us", &quota) ||
               !read_number(dir, "cpu.cfs_period_us", &period)) {
        return -1;
    }
    if (quota < 0 || period <= 0) {
        return -1;
    }
    return MIN(quota * 100 / period, INT_MAX);
}

/* Only these are limited: real-time tasks are not (libvirt: <vcpusched>) */
static bool is_fair(int tid)
{
    int policy = sched_getscheduler(tid) & ~SCHED_RESET_ON_FORK;

    return policy == SCHED_OTHER || policy == SCHED_BATCH ||
           policy == SCHED_IDLE;
}

/* How many vCPUs that own a core are in each control group, or below it */
static GHashTable *count_vcpus(void)
{
    GHashTable *count = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                              NULL);
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        g_autofree char *dir = NULL;

        if (!cpu->accel || !cpu->accel->bound || !is_fair(cpu->thread_id)) {
            continue;
        }
        dir = cgroup_of(cpu->thread_id);
        /* in a container the topmost one that can be seen has a limit, too */
        while (dir && strlen(dir) >= strlen(HPKVM_CGROUP_ROOT)) {
            char *parent = g_path_get_dirname(dir);
            gpointer nr = g_hash_table_lookup(count, dir);

            g_hash_table_insert(count, dir, GUINT_TO_POINTER(
                                                GPOINTER_TO_UINT(nr) + 1));
            dir = parent;
        }
    }
    return count;
}

void hpkvm_quota_report(const HPKVMState *s)
{
    g_autoptr(GHashTable) count = NULL;
    GHashTableIter iter;
    gpointer dir, nr;

    if (!(s->features & KVM_HPKVM_F_DIRECT_HLT)) {
        return;
    }
    count = count_vcpus();
    g_hash_table_iter_init(&iter, count);
    while (g_hash_table_iter_next(&iter, &dir, &nr)) {
        unsigned int vcpus = GPOINTER_TO_UINT(nr);
        int limit = cgroup_limit(dir);

        if (limit >= 0 && limit < vcpus * 100) {
            warn_report_once("hpkvm: control group %s may use %d %% of a CPU, "
                             "and vCPUs in it that own a core use %u %%, even "
                             "while their guest sleeps: the kernel will stop "
                             "them again and again; set cpu.max to \"max\" "
                             "(libvirt: <quota> or <global_quota> to -1)",
                             (char *)dir, limit, vcpus * 100);
        }
    }
}
