/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A device's interrupt, its irqfd and a core: an entry of the interrupt
 * remapping table names a core only while that is leased, and nobody looks at a
 * producer that VFIO has freed.
 *
 *   Vcpu      hpkvm_lease_bind(), hpkvm_promote(), __kvm_hpkvm_demote(),
 *             hpkvm_lease_unbind(), kvm_hpkvm_vcpu_destroy()
 *   Vmm       closes the eventfd: irqfd_wakeup(), irqfd_deactivate(); opens one:
 *             kvm_irqfd_assign()
 *   Work      irqfd_shutdown(), kvm_arch_irq_bypass_del_producer()
 *   Vfio      VFIO_DEVICE_SET_IRQS: kvm_arch_irq_bypass_add_producer(), and the
 *             end of the producer
 *   Guest     changes its message: kvm_irq_routing_update()
 *   Device    sends one
 *
 * An atomic block is a critical section of kvm->irqfds.lock, whose order towards
 * the flags outside of it is what all this is about.
 *
 * Faults:
 *   NO_LIST   a demotion walks the VM's irqfds, not what is direct
 *   DESTROY   a vCPU that is destroyed in passthrough takes nothing back
 *   DANGLING  a producer that could not be connected stays in its irqfd
 *   LATE      a demotion says that it has left passthrough at its end
 */

bool leased, passthrough;	/* kvm_vcpu_hpkvm: cpu, passthrough */
bool listed;			/* the irqfd is in kvm->irqfds.items */
bool closing;			/* ... and has left it for its work item */
bool producer;			/* irqfd->producer is set */
bool registered;		/* irqbypass has brought the two together */
bool exists;			/* VFIO has not freed the producer */
bool direct;			/* the entry names the core */
bool postable = true;		/* what the guest's message says */

/* hpkvm_irq_refresh() */
inline refresh()
{
	assert(exists);
	direct = passthrough && postable && listed
}

/* kvm_hpkvm_irq_demote(), in the lock */
inline take_back()
{
#ifdef NO_LIST
	if
	:: direct && listed -> refresh()
	:: else
	fi
#else
	if
	:: direct -> refresh()
	:: else
	fi
#endif
}

inline release()
{
	assert(!direct);
	leased = false
}

active proctype Vcpu()
{
end:	do
	:: !leased -> leased = true
	:: leased && !passthrough ->
		passthrough = true;
		atomic {
			if
			:: listed && producer -> refresh()
			:: else
			fi
		}
	:: leased && passthrough ->
#ifdef LATE
		atomic { direct = false };
		passthrough = false
#else
		passthrough = false;
		atomic { take_back() }
#endif
	:: leased && !passthrough -> release()
	:: leased && passthrough ->
		passthrough = false;
#ifndef DESTROY
		atomic { take_back() };
#endif
		release()
	od
}

active proctype Vmm()
{
end:	do
	:: atomic { !listed && !closing -> listed = true }
	:: atomic { listed -> listed = false; closing = true }
	od
}

active proctype Work()
{
end:	do
	:: atomic {
		closing && registered ->
		direct = false;
		producer = false;
		registered = false
	   }
	:: atomic { closing && !registered -> closing = false; producer = false }
	od
}

active proctype Vfio()
{
end:	do
	:: atomic { !exists -> exists = true };
		if
		/* The consumer is there until the work item is done. */
		:: atomic {
			listed || closing ->
			producer = true;
			if
			:: registered = true; refresh()
			:: /* pi_update_irte() fails */
#ifndef DANGLING
			   producer = false;
#endif
			   skip
			fi
		   }
		:: skip
		fi;
		atomic {
			if
			:: registered ->
				direct = false;
				producer = false;
				registered = false
			:: else
			fi
		};
		exists = false
	od
}

active proctype Guest()
{
end:	do
	:: atomic {
		postable = !postable;
		if
		:: listed && producer -> refresh()
		:: else
		fi
	   }
	od
}

active proctype Device()
{
end:	do
	:: atomic { direct -> assert(leased) }
	od
}
