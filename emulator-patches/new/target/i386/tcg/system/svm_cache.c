/*
 * What an SVM processor remembers from one VMRUN to the next
 *
 * Copyright (c) 2026 the qemu-hpkvm authors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Owns the state of the last VMCB that this CPU ran, and translations of guest
 * physical addresses by ASID.  A hypervisor that forgets a clean bit, or a TLB
 * flush, gets what a processor may give it: the old ones.  This must never
 * forget earlier than a processor has to, except for want of room; AMD64
 * Architecture Programmer's Manual, volume 2, 15.15.3, 15.16 and 15.25.
 */

#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/cpu-common.h"
#include "exec/cputlb.h"
#include "exec/target_page.h"
#include "tcg/helper-tcg.h"

#define NR_TRANSLATIONS 4096

#define FIELDS(bit, first, last) \
    { bit, offsetof(struct vmcb, first), \
      offsetof(struct vmcb, last) + sizeof_field(struct vmcb, last) - \
      offsetof(struct vmcb, first) }

/* The bits of VMCB_CLEAN, and what each is about; APM vol. 2, 15.15.3. */
enum {
    CLEAN_INTERCEPTS = 1 << 0,
    CLEAN_PERMISSIONS = 1 << 1,
    CLEAN_ASID = 1 << 2,
    CLEAN_TPR = 1 << 3,
    CLEAN_NESTED_PAGING = 1 << 4,
    CLEAN_CR = 1 << 5,
    CLEAN_DR = 1 << 6,
    CLEAN_DT = 1 << 7,
    CLEAN_SEGMENTS = 1 << 8,
    CLEAN_CR2 = 1 << 9,
    CLEAN_LBR = 1 << 10,

    /* What a #VMEXIT stores into the VMCB and keeps */
    CLEAN_STORED = CLEAN_TPR | CLEAN_CR | CLEAN_DR | CLEAN_DT |
                   CLEAN_SEGMENTS | CLEAN_CR2,
};

static const struct {
    uint32_t clean;
    size_t offset, size;
} groups[] = {
    FIELDS(CLEAN_INTERCEPTS, control.intercept_cr_read, control.reserved_1),
    FIELDS(CLEAN_INTERCEPTS, control.tsc_offset, control.tsc_offset),
    FIELDS(CLEAN_PERMISSIONS, control.iopm_base_pa, control.msrpm_base_pa),
    FIELDS(CLEAN_ASID, control.asid, control.asid),
    FIELDS(CLEAN_TPR, control.int_ctl, control.int_vector),
    FIELDS(CLEAN_NESTED_PAGING, control.nested_cr3, control.nested_cr3),
    FIELDS(CLEAN_NESTED_PAGING, save.g_pat, save.g_pat),
    FIELDS(CLEAN_CR, save.efer, save.efer),
    FIELDS(CLEAN_CR, save.cr4, save.cr0),
    FIELDS(CLEAN_DR, save.dr7, save.dr6),
    FIELDS(CLEAN_DT, save.gdtr, save.gdtr),
    FIELDS(CLEAN_DT, save.idtr, save.idtr),
    FIELDS(CLEAN_SEGMENTS, save.es, save.ds),
    FIELDS(CLEAN_SEGMENTS, save.cpl, save.cpl),
    FIELDS(CLEAN_CR2, save.cr2, save.cr2),
    FIELDS(CLEAN_LBR, save.dbgctl, save.last_excp_to),
};

typedef struct Translation {
    hwaddr gpa, paddr;          /* of a page */
    uint32_t asid;              /* 0: none, that is the hypervisor's */
    int prot;
} Translation;

/* What entries of the guest's MMU indexes depend on. */
typedef struct Context {
    uint32_t asid;              /* 0: there are none */
    uint32_t hflags2;
    int nested_pg_mode;
    uint64_t nested_cr3, efer;
    target_ulong cr0, cr3, cr4;
} Context;

struct SVMCache {
    uint64_t address;
    struct vmcb vmcb;
    Context context;            /* of the TLB, since the last #VMEXIT */
    bool entered;
    Translation translations[NR_TRANSLATIONS];
};

/* Copy what the bits of @clean are about. */
static void copy_groups(struct vmcb *to, const struct vmcb *from,
                        uint32_t clean)
{
    for (int i = 0; i < ARRAY_SIZE(groups); i++) {
        if (groups[i].clean & clean) {
            memcpy((char *)to + groups[i].offset,
                   (const char *)from + groups[i].offset, groups[i].size);
        }
    }
}

/*
 * The VMCB at env->vm_vmcb as VMRUN finds it: fields whose clean bit is set are
 * those of the last VMRUN, if that had the same VMCB.
 */
const struct vmcb *svm_cache_load(CPUX86State *env)
{
    SVMCache *cache = env->svm_cache;
    uint32_t clean = 0;
    struct vmcb vmcb;

    cpu_physical_memory_read(env->vm_vmcb, &vmcb, sizeof(vmcb));
    if (!cache) {
        cache = env->svm_cache = g_new0(SVMCache, 1);
    } else if (!env->svm_cache_valid) {
        svm_cache_flush(env, 0);
        memset(&cache->context, 0, sizeof(cache->context));
        cache->entered = false;
    } else if (cache->address == env->vm_vmcb &&
               (env->features[FEAT_SVM] & CPUID_SVM_VMCBCLEAN)) {
        clean = le32_to_cpu(vmcb.control.clean);
    }

    copy_groups(&vmcb, &cache->vmcb, clean);
    cache->vmcb = vmcb;
    cache->address = env->vm_vmcb;
    env->svm_cache_valid = true;
    return &cache->vmcb;
}

/* A guest that came in a migration has it from memory. */
static SVMCache *cache_of(CPUX86State *env)
{
    if (!env->svm_cache_valid) {
        svm_cache_load(env);
    }
    return env->svm_cache;
}

/* A #VMEXIT has stored the guest's state: it is this that will be clean. */
void svm_cache_store(CPUX86State *env)
{
    SVMCache *cache = cache_of(env);
    struct vmcb vmcb;

    cpu_physical_memory_read(env->vm_vmcb, &vmcb, sizeof(vmcb));
    copy_groups(&cache->vmcb, &vmcb, CLEAN_STORED);
}

/* The VMCB of the guest that runs, or ran last. */
const struct vmcb *svm_cache_vmcb(CPUX86State *env)
{
    return &cache_of(env)->vmcb;
}

/* Forget translations of @asid, or all of them (0). */
void svm_cache_flush(CPUX86State *env, uint32_t asid)
{
    for (int i = 0; env->svm_cache && i < NR_TRANSLATIONS; i++) {
        Translation *t = &env->svm_cache->translations[i];

        if (!asid || t->asid == asid) {
            t->asid = 0;
        }
    }
}

static Translation *slot(CPUX86State *env, hwaddr gpa)
{
    return &cache_of(env)->translations[(gpa >> TARGET_PAGE_BITS) %
                                        NR_TRANSLATIONS];
}

static uint32_t guest_asid(CPUX86State *env)
{
    return le32_to_cpu(cache_of(env)->vmcb.control.asid);
}

static Context guest_context(CPUX86State *env)
{
    Context now;

    memset(&now, 0, sizeof(now));
    now.asid = guest_asid(env);
    now.hflags2 = env->hflags2 & HF2_NPT_MASK;
    now.nested_pg_mode = env->nested_pg_mode;
    now.nested_cr3 = env->nested_cr3;
    now.efer = env->efer;
    now.cr0 = env->cr[0];
    now.cr3 = env->cr[3];
    now.cr4 = env->cr[4];
    return now;
}

/*
 * VMRUN has loaded the guest's state.  What the TLB has of a guest is of use if
 * it is of this one: a processor tells by the ASID, but may also forget.
 */
void svm_cache_enter(CPUX86State *env)
{
    SVMCache *cache = cache_of(env);
    Context now = guest_context(env);

    if (memcmp(&now, &cache->context, sizeof(now))) {
        tlb_flush_by_mmuidx(env_cpu(env), MMU_GUEST_IDXES);
    }
    cache->entered = true;
}

/* A #VMEXIT, with the guest's state still loaded if VMRUN came that far. */
void svm_cache_leave(CPUX86State *env)
{
    SVMCache *cache = cache_of(env);

    if (cache->entered) {
        cache->context = guest_context(env);
    }
    cache->entered = false;
}

/*
 * Translate @gpa, of the guest that runs, as before.  False when it is not
 * known or does not allow that access: the processor walks the tables then.
 */
bool svm_cache_translate(CPUX86State *env, hwaddr gpa, MMUAccessType access,
                         hwaddr *paddr, int *prot)
{
    Translation *t = slot(env, gpa);

    if (t->asid != guest_asid(env) || t->gpa != (gpa & TARGET_PAGE_MASK) ||
        !(t->prot & (1 << access))) {
        return false;
    }
    *paddr = t->paddr | (gpa & ~TARGET_PAGE_MASK);
    *prot = t->prot;
    return true;
}

/* What a walk of the tables has found; @prot is 0 when it found nothing. */
void svm_cache_note(CPUX86State *env, hwaddr gpa, hwaddr paddr, int prot)
{
    *slot(env, gpa) = (Translation) {
        .gpa = gpa & TARGET_PAGE_MASK,
        .paddr = paddr & TARGET_PAGE_MASK,
        .asid = prot ? guest_asid(env) : 0,
        .prot = prot,
    };
}
