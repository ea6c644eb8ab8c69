// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that the host takes from a guest on a dedicated core is gone at once.
 *
 * Taking a page away makes KVM ask for a TLB flush and kick the vCPU, and then
 * interrupts its core for the host's own TLB, which is reason to abandon the
 * entry that was to do KVM's flush.  A shooter does more of the latter, so that
 * entries are abandoned often.
 *
 * Runs under stock KVM's LAPIC, too, to show that the guest is right.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>

#include "apic.h"
#include "hpkvm.h"
#include "hpkvm_harness.h"

#define PAGE_GPA	0x10000000
#define PAGE_GVA	0x10000000
#define PAGE_SLOT	10

#define NR_PAGES	5000	/* that come and go; see hpkvm_count() */
#define PAUSE_US	200	/* between two shots: the guest gets on, too */
#define MIN_ABORTS	10	/* fewer have shown nothing */

/*
 * The host puts a page with the next number in place of the last one, and then
 * says so here: the guest may see the page first, but never the old page later.
 */
static uint64_t said;

static uint64_t looks;
static uint64_t stale;
static uint64_t enough;

struct mmu {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	uint32_t core;
	uint8_t *page;
	uint64_t *said, *looks, *stale, *enough;
	bool dedicated;
};

FIXTURE(mmu) {
	struct mmu m;
};

FIXTURE_VARIANT(mmu) {
	bool dedicated;
};

FIXTURE_VARIANT_ADD(mmu, emulated) {
	.dedicated = false,
};

FIXTURE_VARIANT_ADD(mmu, dedicated) {
	.dedicated = true,
};

static void guest_code(void)
{
	uint64_t least;

	x2apic_enable();
	while (!READ_ONCE(enough)) {
		least = READ_ONCE(said);
		if (READ_ONCE(*(uint64_t *)PAGE_GVA) < least)
			WRITE_ONCE(stale, stale + 1);
		WRITE_ONCE(looks, looks + 1);
	}
	GUEST_DONE();
}

static void *run(void *arg)
{
	struct mmu *self = arg;

	TEST_ASSERT(!self->dedicated ||
		    !hpkvm_bind(self->vcpu, self->core, NULL), "Can't bind");
	vcpu_run(self->vcpu);
	TEST_ASSERT_EQ(UCALL_DONE, get_ucall(self->vcpu, NULL));
	return NULL;
}

/* Each shot interrupts all CPUs where this process runs. */
static void *shoot(void *arg)
{
	char *page = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(page != MAP_FAILED, "No page: %d", errno);
	for (;;) {
		WRITE_ONCE(*page, 1);
		TEST_ASSERT(!madvise(page, getpagesize(), MADV_DONTNEED),
			    "Can't give it back: %d", errno);
		usleep(PAUSE_US);
	}
	return NULL;
}

FIXTURE_SETUP(mmu)
{
	struct mmu *m = &self->m;

	m->dedicated = variant->dedicated;
	if (m->dedicated && !hpkvm_supported())
		SKIP(return, "this kernel or host has no KVM_CAP_X86_HPKVM");
	if (m->dedicated && !hpkvm_find_cores(&m->core, 1))
		SKIP(return, "no CPU of this host can be leased");

	m->vm = m->dedicated ? hpkvm_vm_create(1, KVM_HPKVM_F_ALL) :
			       vm_create(1);
	m->vcpu = vm_vcpu_add(m->vm, 0, guest_code);
	vm_userspace_mem_region_add(m->vm, VM_MEM_SRC_ANONYMOUS, PAGE_GPA,
				    PAGE_SLOT, 1, 0);
	virt_map(m->vm, PAGE_GVA, PAGE_GPA, 1);
	m->page = addr_gpa2hva(m->vm, PAGE_GPA);
	m->said = addr_gva2hva(m->vm, (vm_vaddr_t)&said);
	m->looks = addr_gva2hva(m->vm, (vm_vaddr_t)&looks);
	m->stale = addr_gva2hva(m->vm, (vm_vaddr_t)&stale);
	m->enough = addr_gva2hva(m->vm, (vm_vaddr_t)&enough);
}

FIXTURE_TEARDOWN(mmu)
{
	if (self->m.vm)
		kvm_vm_free(self->m.vm);
}

static void replace_page(uint8_t *where, uint64_t number)
{
	uint64_t *page = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(page != MAP_FAILED, "No page: %d", errno);
	*page = number;
	TEST_ASSERT(mremap(page, getpagesize(), getpagesize(),
			   MREMAP_MAYMOVE | MREMAP_FIXED, where) == where,
		    "Can't move the page: %d", errno);
}

/* Until the guest has begun and ended a look after this. */
static void wait_for_a_look(uint64_t *looks)
{
	uint64_t before = READ_ONCE(*looks);

	TEST_ASSERT(HPKVM_WAIT(READ_ONCE(*looks) >= before + 2),
		    "The guest looks no more");
}

TEST_F(mmu, no_stale_page)
{
	int pages = hpkvm_count(NR_PAGES);
	struct mmu *m = &self->m;
	pthread_t guest, shooter;
	uint64_t aborts;

	ASSERT_EQ(0, pthread_create(&shooter, NULL, shoot, NULL));
	ASSERT_EQ(0, pthread_create(&guest, NULL, run, m));
	for (int i = 1; i <= pages; i++) {
		replace_page(m->page, i);
		WRITE_ONCE(*m->said, i);
		wait_for_a_look(m->looks);
		ASSERT_EQ(0, READ_ONCE(*m->stale));
	}
	WRITE_ONCE(*m->enough, 1);
	ASSERT_EQ(0, pthread_join(guest, NULL));

	if (!m->dedicated)
		return;
	/* There are none but in passthrough. */
	aborts = hpkvm_vcpu_stat(m->vcpu, "hpkvm_entry_aborts");
	TH_LOG("%d pages, %lu entries abandoned", pages, aborts);
	EXPECT_LT(MIN_ABORTS, aborts);
}

TEST_HARNESS_MAIN
