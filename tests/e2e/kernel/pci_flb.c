// SPDX-License-Identifier: GPL-2.0 OR MIT
/*
 * An FLB "pci-v2" of all file handlers, for kernels of tests/e2e: it hands over the devices that the command line
 * names, pci_flb=0000:01:00.0,..., as a list sorted by domain and bdf.
 */
#define pr_fmt(fmt) "pci_flb: " fmt
#include <linux/io.h>
#include <linux/kexec_handover.h>
#include <linux/liveupdate.h>
#include <linux/pci.h>
#include <linux/sort.h>
#include <linux/version.h>

#define SPARE 4

struct pci_flb_dev {
	u32 domain;
	u16 bdf;
	u16 refcount;
} __packed;

struct pci_flb_ser {
	u64 max_nr_devices;
	u64 nr_devices;
	struct pci_flb_dev devices[];
} __packed;

static char wanted[512];

static int __init pci_flb_setup(char *text)
{
	strscpy(wanted, text, sizeof(wanted));
	return 1;
}
__setup("pci_flb=", pci_flb_setup);

static int by_place(const void *one, const void *other)
{
	const struct pci_flb_dev *a = one, *b = other;
	u64 x = (u64)a->domain << 16 | a->bdf, y = (u64)b->domain << 16 | b->bdf;

	return x < y ? -1 : x > y;
}

static bool is_wanted(struct pci_dev *dev)
{
	return strstr(wanted, pci_name(dev));
}

static int pci_flb_preserve(struct liveupdate_flb_op_args *args)
{
	struct pci_dev *dev = NULL;
	struct pci_flb_ser *ser;
	unsigned int count = 0;

	for_each_pci_dev(dev)
		count += is_wanted(dev);
	ser = kho_alloc_preserve(struct_size(ser, devices, count + SPARE));
	if (IS_ERR(ser))
		return PTR_ERR(ser);
	ser->max_nr_devices = count + SPARE;
	for_each_pci_dev(dev) {
		if (!is_wanted(dev) || ser->nr_devices == count)
			continue;
		ser->devices[ser->nr_devices].domain = pci_domain_nr(dev->bus);
		ser->devices[ser->nr_devices].bdf = pci_dev_id(dev);
		ser->devices[ser->nr_devices++].refcount = 1;
	}
	sort(ser->devices, ser->nr_devices, sizeof(ser->devices[0]), by_place, NULL);
	args->data = virt_to_phys(ser);
	args->obj = ser;
	pr_info("%llu devices at %#llx\n", ser->nr_devices, args->data);
	return 0;
}

static void pci_flb_unpreserve(struct liveupdate_flb_op_args *args)
{
	kho_unpreserve_free(args->obj);
}

static int pci_flb_retrieve(struct liveupdate_flb_op_args *args)
{
	struct pci_flb_ser *ser = phys_to_virt(args->data);

	pr_info("retrieved %llu of %llu devices at %#llx\n", ser->nr_devices, ser->max_nr_devices, args->data);
	args->obj = ser;
	return 0;
}

static void pci_flb_finish(struct liveupdate_flb_op_args *args)
{
	pr_info("finish\n");
}

static const struct liveupdate_flb_ops pci_flb_ops = {
	.preserve = pci_flb_preserve,
	.unpreserve = pci_flb_unpreserve,
	.retrieve = pci_flb_retrieve,
	.finish = pci_flb_finish,
	.owner = THIS_MODULE,
};
static struct liveupdate_flb pci_flb = { .ops = &pci_flb_ops, .compatible = "pci-v2" };

void pci_flb_register(struct liveupdate_file_handler *handler);
void pci_flb_register(struct liveupdate_file_handler *handler)
{
	int error = liveupdate_register_flb(handler, &pci_flb);

	if (error)
		pr_err("not registered: %d\n", error);
}

/* What a subsystem does that wants its state back at boot: without it no kernel looks at the list of FLBs. */
static int __init pci_flb_take(void)
{
	void *ser;
	int error = liveupdate_flb_get_incoming(&pci_flb, &ser);

	if (error)
		pr_info("not retrieved: %d\n", error);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0)
	else
		liveupdate_flb_put_incoming(&pci_flb);
#endif
	return 0;
}
late_initcall_sync(pci_flb_take);
