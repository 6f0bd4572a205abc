#define _GNU_SOURCE /* fopencookie */
#include "shim.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_interrupts.h>

int homa_errno(void) { return rte_errno; }
uint32_t homa_lcore_id(void) { return rte_lcore_id(); }
uint64_t homa_rdtsc(void) { return rte_rdtsc(); }

static homa_log_sink log_sink;

static ssize_t write_to_log_sink(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	log_sink(rte_log_cur_msg_loglevel(), text, len);
	return (ssize_t)len;
}

int homa_log_to(homa_log_sink sink)
{
	cookie_io_functions_t io = { .write = write_to_log_sink };
	FILE *stream;

	log_sink = sink;
	/* Never closed: DPDK's threads may log until the process ends. */
	stream = fopencookie(NULL, "w", io);
	if (stream == NULL)
		return -ENOMEM;
	return rte_openlog_stream(stream);
}

static atomic_int interrupts_parked;

static void park(void *arg)
{
	(void)arg;
	atomic_store(&interrupts_parked, 1);
	/* A release of DPDK that ends the thread can cancel it here. */
	for (;;)
		pause();
}

int homa_park_interrupts(uint32_t timeout_ms)
{
	/* Has something to read at once, and goes with the process. */
	int fd = eventfd(1, EFD_CLOEXEC);
	struct rte_intr_handle *source = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
	uint64_t waited_us = 0;
	int rc;

	if (fd < 0 || source == NULL)
		return -ENOMEM;
	if (rte_intr_fd_set(source, fd) != 0 || rte_intr_type_set(source, RTE_INTR_HANDLE_EXT) != 0)
		return -EINVAL;
	rc = rte_intr_callback_register(source, park, NULL);
	if (rc != 0)
		return rc;
	while (!atomic_load(&interrupts_parked)) {
		if (waited_us >= (uint64_t)timeout_ms * 1000)
			return -ETIMEDOUT;
		usleep(20);
		waited_us += 20;
	}
	return 0;
}

int homa_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, n);
}

void homa_mbuf_free(struct rte_mbuf *m)
{
	/* What almost all are: one segment with memory of its own and one owner. */
	if (likely(m->next == NULL && m->nb_segs == 1 && RTE_MBUF_DIRECT(m) &&
		   rte_mbuf_refcnt_read(m) == 1))
		rte_mbuf_raw_free(m);
	else
		rte_pktmbuf_free(m);
}

int homa_mbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail)
{
	return rte_pktmbuf_chain(head, tail);
}

int homa_mbuf_linearize(struct rte_mbuf *m) { return rte_pktmbuf_linearize(m); }

int homa_mbuf_attach(struct rte_mbuf *indirect, struct rte_mbuf *direct)
{
	uint16_t refcnt;

	if (RTE_MBUF_HAS_EXTBUF(direct))
		refcnt = rte_mbuf_ext_refcnt_read(direct->shinfo);
	else if (RTE_MBUF_CLONED(direct))
		refcnt = rte_mbuf_refcnt_read(rte_mbuf_from_indirect(direct));
	else
		refcnt = rte_mbuf_refcnt_read(direct);
	if (refcnt == UINT16_MAX)
		return -EOVERFLOW;
	rte_pktmbuf_attach(indirect, direct);
	/* One segment is lent, not the chain and not the offload requests of the lender. */
	indirect->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
	indirect->tx_offload = 0;
	return 0;
}

void homa_mbuf_attach_external(struct rte_mbuf *m, void *addr, uint16_t len,
			       struct rte_mbuf_ext_shared_info *shared)
{
	/* Virtual and bus address agree in VA mode and are not looked at by software drivers. */
	rte_pktmbuf_attach_extbuf(m, addr, (rte_iova_t)(uintptr_t)addr, len, shared);
	m->data_off = 0;
	m->data_len = len;
	m->pkt_len = len;
}

void homa_ext_init(struct rte_mbuf_ext_shared_info *shared,
		   void (*free_cb)(void *addr, void *opaque), void *opaque)
{
	shared->free_cb = free_cb;
	shared->fcb_opaque = opaque;
	rte_mbuf_ext_refcnt_set(shared, 1);
}

uint16_t homa_ext_refcnt(const struct rte_mbuf_ext_shared_info *shared)
{
	return rte_mbuf_ext_refcnt_read(shared);
}

uint16_t homa_ext_refcnt_add(struct rte_mbuf_ext_shared_info *shared, int16_t by)
{
	return rte_mbuf_ext_refcnt_update(shared, by);
}

uint16_t homa_pool_data_room(struct rte_mempool *pool)
{
	return rte_pktmbuf_data_room_size(pool);
}

int homa_port_info(uint16_t port_id, struct homa_port_info *info)
{
	struct rte_eth_dev_info dev;
	int rc;

	memset(&dev, 0, sizeof(dev));
	memset(info, 0, sizeof(*info));
	rc = rte_eth_dev_info_get(port_id, &dev);
	if (rc != 0)
		return rc;
	if (dev.driver_name != NULL)
		strncpy(info->driver_name, dev.driver_name, sizeof(info->driver_name) - 1);
	info->rx_offload_capa = dev.rx_offload_capa;
	info->tx_offload_capa = dev.tx_offload_capa;
	info->rss_hf_capa = dev.flow_type_rss_offloads;
	info->max_rx_pktlen = dev.max_rx_pktlen;
	info->min_mtu = dev.min_mtu;
	info->max_mtu = dev.max_mtu;
	info->max_rx_queues = dev.max_rx_queues;
	info->max_tx_queues = dev.max_tx_queues;
	info->rx_desc_max = dev.rx_desc_lim.nb_max;
	info->tx_desc_max = dev.tx_desc_lim.nb_max;
	info->tx_nb_seg_max = dev.tx_desc_lim.nb_seg_max;
	info->reta_size = dev.reta_size;
	info->hash_key_size = dev.hash_key_size;
	info->lsc = dev.dev_flags != NULL && (*dev.dev_flags & RTE_ETH_DEV_INTR_LSC) != 0;
	return 0;
}

int homa_port_configure(uint16_t port_id, const struct homa_port_conf *conf)
{
	struct rte_eth_conf eth;

	memset(&eth, 0, sizeof(eth));
	eth.rxmode.offloads = conf->rx_offloads;
	eth.txmode.offloads = conf->tx_offloads;
	eth.rxmode.mtu = conf->mtu;
	if (conf->rss_hf != 0) {
		eth.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		eth.rx_adv_conf.rss_conf.rss_hf = conf->rss_hf;
		/* DPDK copies the key; the field is not const for the sake of its getters. */
		eth.rx_adv_conf.rss_conf.rss_key = (uint8_t *)(uintptr_t)conf->rss_key;
		eth.rx_adv_conf.rss_conf.rss_key_len = conf->rss_key_len;
	}
	return rte_eth_dev_configure(port_id, conf->rx_queues, conf->tx_queues, &eth);
}

int homa_rx_queue_setup(uint16_t port_id, uint16_t queue_id, uint16_t descriptors,
			unsigned int socket_id, struct rte_mempool *pool)
{
	/* NULL: the driver's own thresholds with the offloads of the port. */
	return rte_eth_rx_queue_setup(port_id, queue_id, descriptors, socket_id, NULL, pool);
}

int homa_tx_queue_setup(uint16_t port_id, uint16_t queue_id, uint16_t descriptors,
			unsigned int socket_id, uint64_t offloads)
{
	struct rte_eth_dev_info dev;
	struct rte_eth_txconf conf;
	int rc;

	memset(&dev, 0, sizeof(dev));
	rc = rte_eth_dev_info_get(port_id, &dev);
	if (rc != 0)
		return rc;
	/* The driver's default may ask for MBUF_FAST_FREE, which shared buffers forbid. */
	conf = dev.default_txconf;
	conf.offloads = offloads;
	return rte_eth_tx_queue_setup(port_id, queue_id, descriptors, socket_id, &conf);
}

int homa_port_stats(uint16_t port_id, struct homa_port_stats *stats)
{
	struct rte_eth_stats eth;
	int rc;

	memset(&eth, 0, sizeof(eth));
	rc = rte_eth_stats_get(port_id, &eth);
	if (rc != 0)
		return rc;
	stats->ipackets = eth.ipackets;
	stats->opackets = eth.opackets;
	stats->ibytes = eth.ibytes;
	stats->obytes = eth.obytes;
	stats->imissed = eth.imissed;
	stats->ierrors = eth.ierrors;
	stats->oerrors = eth.oerrors;
	stats->rx_nombuf = eth.rx_nombuf;
	return 0;
}

int homa_port_link(uint16_t port_id, struct homa_link *link)
{
	struct rte_eth_link eth;
	int rc;

	memset(&eth, 0, sizeof(eth));
	rc = rte_eth_link_get_nowait(port_id, &eth);
	if (rc != 0)
		return rc;
	link->speed_mbps = eth.link_speed;
	link->up = eth.link_status == RTE_ETH_LINK_UP;
	return 0;
}

int homa_port_reta(uint16_t port_id, uint16_t *queues, uint16_t n)
{
	struct rte_eth_rss_reta_entry64 reta[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE];
	uint16_t i;
	int rc;

	if (n > RTE_ETH_RSS_RETA_SIZE_512)
		return -EINVAL;
	memset(reta, 0, sizeof(reta));
	for (i = 0; i < n; i++)
		reta[i / RTE_ETH_RETA_GROUP_SIZE].mask |= UINT64_C(1) << (i % RTE_ETH_RETA_GROUP_SIZE);
	rc = rte_eth_dev_rss_reta_query(port_id, reta, n);
	if (rc != 0)
		return rc;
	for (i = 0; i < n; i++)
		queues[i] = reta[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
	return 0;
}

int homa_port_set_reta(uint16_t port_id, const uint16_t *queues, uint16_t n)
{
	struct rte_eth_rss_reta_entry64 reta[RTE_ETH_RSS_RETA_SIZE_512 / RTE_ETH_RETA_GROUP_SIZE];
	uint16_t i;

	if (n > RTE_ETH_RSS_RETA_SIZE_512)
		return -EINVAL;
	memset(reta, 0, sizeof(reta));
	for (i = 0; i < n; i++) {
		reta[i / RTE_ETH_RETA_GROUP_SIZE].mask |= UINT64_C(1) << (i % RTE_ETH_RETA_GROUP_SIZE);
		reta[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] = queues[i];
	}
	return rte_eth_dev_rss_reta_update(port_id, reta, n);
}

int homa_flow_create(uint16_t port_id, const struct homa_flow_match *match, uint16_t queue,
		     struct rte_flow **flow, char *why, size_t why_bytes)
{
	const struct rte_flow_attr attr = { .ingress = 1 };
	const struct rte_flow_action_queue to = { .index = queue };
	const struct rte_flow_action actions[] = {
		{ .type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &to },
		{ .type = RTE_FLOW_ACTION_TYPE_END },
	};
	struct rte_flow_item_ipv4 ipv4 = { 0 }, ipv4_mask = { 0 };
	struct rte_flow_item_ipv6 ipv6 = { 0 }, ipv6_mask = { 0 };
	struct rte_flow_item_raw raw = { 0 }, raw_mask = { 0 };
	struct rte_flow_item items[5];
	struct rte_flow_error error = { 0 };
	unsigned int n = 0;
	int rc;

	memset(items, 0, sizeof(items));
	raw.pattern = match->spec;
	raw.length = match->length;
	raw_mask.pattern = match->mask;
	if (match->whole_frame) {
		/* These drivers compare the lengths of the two texts. */
		raw_mask.length = match->length;
	} else {
		raw.relative = 1;
		raw.offset = match->offset;
		raw_mask = (struct rte_flow_item_raw){
			.relative = 1, .search = 1, .offset = -1, .limit = UINT16_MAX,
			.length = UINT16_MAX, .pattern = match->mask,
		};
		items[n++].type = RTE_FLOW_ITEM_TYPE_ETH;
		if (match->has_vlan)
			items[n++].type = RTE_FLOW_ITEM_TYPE_VLAN;
		if (match->is_ipv6) {
			ipv6.hdr.proto = match->protocol;
			ipv6_mask.hdr.proto = UINT8_MAX;
			items[n++] = (struct rte_flow_item){ .type = RTE_FLOW_ITEM_TYPE_IPV6,
							     .spec = &ipv6, .mask = &ipv6_mask };
		} else {
			ipv4.hdr.next_proto_id = match->protocol;
			ipv4_mask.hdr.next_proto_id = UINT8_MAX;
			items[n++] = (struct rte_flow_item){ .type = RTE_FLOW_ITEM_TYPE_IPV4,
							     .spec = &ipv4, .mask = &ipv4_mask };
		}
	}
	items[n++] = (struct rte_flow_item){ .type = RTE_FLOW_ITEM_TYPE_RAW,
					     .spec = &raw, .mask = &raw_mask };
	items[n].type = RTE_FLOW_ITEM_TYPE_END;

	*flow = NULL;
	why[0] = 0;
	rc = rte_flow_validate(port_id, &attr, items, actions, &error);
	if (rc == 0) {
		*flow = rte_flow_create(port_id, &attr, items, actions, &error);
		if (*flow == NULL)
			rc = rte_errno != 0 ? -rte_errno : -EINVAL;
	}
	if (rc != 0 && error.message != NULL)
		snprintf(why, why_bytes, "%s", error.message);
	/* Drivers return what they like. */
	return rc > 0 ? -rc : rc;
}

int homa_flow_destroy(uint16_t port_id, struct rte_flow *flow)
{
	struct rte_flow_error error = { 0 };

	return rte_flow_destroy(port_id, flow, &error);
}

uint16_t homa_rx_burst(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_rx_burst(port_id, queue_id, mbufs, n);
}

uint16_t homa_tx_burst(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_tx_burst(port_id, queue_id, mbufs, n);
}

uint16_t homa_tx_prepare(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **mbufs, uint16_t n)
{
	return rte_eth_tx_prepare(port_id, queue_id, mbufs, n);
}

void homa_ring_drain(struct rte_ring *ring)
{
	void *m;

	while (rte_ring_dequeue(ring, &m) == 0)
		rte_pktmbuf_free(m);
}

int homa_telemetry_add(struct rte_tel_data *data, const char *name, uint64_t value)
{
#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
	return rte_tel_data_add_dict_uint(data, name, value);
#else
	return rte_tel_data_add_dict_u64(data, name, value);
#endif
}
