// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that the host takes from a guest on a dedicated core is gone at once.
 *
 * Taking a page away makes KVM ask for a TLB flush and kick the vCPU, and then
 * interrupts its core for the host's own TLB, which is reason to abandon the
 * entry that was to do KVM's flush.  Shooters do more of the latter, for entries
 * to be abandoned often.
 *
 * Runs under stock KVM's LAPIC, too, to show that the guest is right.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>

#include "hpkvm.h"
#include "hpkvm_harness.h"

#define PAGE_GPA	0x10000000
#define PAGE_GVA	0x10000000
#define PAGE_SLOT	10

#define NR_PAGES	2000	/* that come and go; see hpkvm_count() */
#define NR_SHOOTERS	2
#define MIN_ABORTS	20	/* fewer have shown nothing */
#define WAIT_US		10000000

/*
 * The host puts a page with the next number in place of the last one, and then
 * says so here: the guest may see the page first, but never the old page later.
 */
static uint64_t said;

static uint64_t looks;
static uint64_t stale;

FIXTURE(mmu) {
	struct kvm_vm *vm;
	struct hpkvm_runner runner;
	uint8_t *page;
	uint64_t *said, *looks, *stale;
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

	for (;;) {
		least = READ_ONCE(said);
		if (READ_ONCE(*(uint64_t *)PAGE_GVA) < least)
			WRITE_ONCE(stale, stale + 1);
		WRITE_ONCE(looks, looks + 1);
	}
}

static void *run(void *arg)
{
	vcpu_run(arg);
	TEST_FAIL("The guest ended");
	return NULL;
}

/* Each turn interrupts all CPUs where this process runs. */
static void *shoot(void *arg)
{
	char *page = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	TEST_ASSERT(page != MAP_FAILED, "No page: %d", errno);
	for (;;) {
		WRITE_ONCE(*page, 1);
		TEST_ASSERT(!madvise(page, getpagesize(), MADV_DONTNEED),
			    "Can't give it back: %d", errno);
	}
	return NULL;
}

FIXTURE_SETUP(mmu)
{
	struct kvm_vm *vm;

	if (variant->dedicated && !hpkvm_supported())
		SKIP(return, "this kernel or host has no KVM_CAP_X86_HPKVM");
	if (variant->dedicated && !hpkvm_find_cores(&self->runner.core, 1))
		SKIP(return, "no CPU of this host can be leased");

	vm = variant->dedicated ? hpkvm_vm_create(1, KVM_HPKVM_F_ALL) :
				  vm_create(1);
	self->vm = vm;
	self->runner.vcpu = vm_vcpu_add(vm, 0, guest_code);
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, PAGE_GPA,
				    PAGE_SLOT, 1, 0);
	virt_map(vm, PAGE_GVA, PAGE_GPA, 1);
	self->page = addr_gpa2hva(vm, PAGE_GPA);
	self->said = addr_gva2hva(vm, (vm_vaddr_t)&said);
	self->looks = addr_gva2hva(vm, (vm_vaddr_t)&looks);
	self->stale = addr_gva2hva(vm, (vm_vaddr_t)&stale);
}

/* The guest never ends: the process does, and with it all else. */
FIXTURE_TEARDOWN(mmu)
{
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

	for (int us = 0; READ_ONCE(*looks) < before + 2; us += 10) {
		TEST_ASSERT(us < WAIT_US, "The guest looks no more");
		usleep(10);
	}
}

TEST_F(mmu, no_stale_page)
{
	struct hpkvm_runner *runner = &self->runner;
	int pages = hpkvm_count(NR_PAGES);
	uint64_t aborts;
	pthread_t thread;

	for (int i = 0; i < NR_SHOOTERS; i++)
		ASSERT_EQ(0, pthread_create(&thread, NULL, shoot, NULL));
	ASSERT_EQ(0, pthread_create(&thread, NULL,
				    variant->dedicated ? hpkvm_bind_and_run : run,
				    variant->dedicated ? (void *)runner :
							 runner->vcpu));
	for (int i = 1; i <= pages; i++) {
		replace_page(self->page, i);
		WRITE_ONCE(*self->said, i);
		wait_for_a_look(self->looks);
		ASSERT_EQ(0, READ_ONCE(*self->stale));
	}

	if (!variant->dedicated)
		return;
	aborts = hpkvm_vcpu_stat(runner->vcpu, "hpkvm_entry_aborts");
	TH_LOG("%d pages, %lu entries abandoned", pages, aborts);
	EXPECT_LT(MIN_ABORTS, aborts);
}

TEST_HARNESS_MAIN
