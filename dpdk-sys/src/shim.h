/* The surface that Rust sees of DPDK: inline functions as real ones, and flat structures in place
 * of those that change from release to release. */
#ifndef HOMA_DPDK_SHIM_H
#define HOMA_DPDK_SHIM_H

#include <stddef.h>
#include <stdint.h>

#include <rte_version.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>
#include <rte_telemetry.h>

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "DPDK 22.11 or later is needed"
#endif

/* Constants. Typed here because bindgen drops the RTE_BIT64 macros and picks varying widths. */
static const uint32_t HOMA_LCORE_ID_ANY = LCORE_ID_ANY;
static const int32_t HOMA_SOCKET_ID_ANY = SOCKET_ID_ANY;
static const uint16_t HOMA_PKTMBUF_HEADROOM_BYTES = RTE_PKTMBUF_HEADROOM;
static const uint32_t HOMA_MEMPOOL_CACHE_MAX = RTE_MEMPOOL_CACHE_MAX_SIZE;
static const uint16_t HOMA_MAX_QUEUES_PER_PORT = RTE_MAX_QUEUES_PER_PORT;
static const uint32_t HOMA_RING_F_SP_ENQ = RING_F_SP_ENQ;
static const uint32_t HOMA_RING_F_SC_DEQ = RING_F_SC_DEQ;

static const uint64_t HOMA_RX_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t HOMA_RX_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t HOMA_RX_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t HOMA_TX_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t HOMA_TX_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t HOMA_TX_TCP_TSO = RTE_ETH_TX_OFFLOAD_TCP_TSO;
static const uint64_t HOMA_TX_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;

static const uint64_t HOMA_RSS_IPV4 = RTE_ETH_RSS_IPV4;
static const uint64_t HOMA_RSS_IPV4_OTHER = RTE_ETH_RSS_NONFRAG_IPV4_OTHER;
static const uint64_t HOMA_RSS_IPV4_TCP = RTE_ETH_RSS_NONFRAG_IPV4_TCP;
static const uint64_t HOMA_RSS_IPV6 = RTE_ETH_RSS_IPV6;
static const uint64_t HOMA_RSS_IPV6_OTHER = RTE_ETH_RSS_NONFRAG_IPV6_OTHER;
static const uint64_t HOMA_RSS_IPV6_TCP = RTE_ETH_RSS_NONFRAG_IPV6_TCP;

static const uint64_t HOMA_MBUF_INDIRECT = RTE_MBUF_F_INDIRECT;
static const uint64_t HOMA_MBUF_EXTERNAL = RTE_MBUF_F_EXTERNAL;
static const uint64_t HOMA_MBUF_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t HOMA_MBUF_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t HOMA_MBUF_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t HOMA_MBUF_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t HOMA_MBUF_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t HOMA_MBUF_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t HOMA_MBUF_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t HOMA_MBUF_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t HOMA_MBUF_TX_TCP_SEG = RTE_MBUF_F_TX_TCP_SEG;
static const uint64_t HOMA_MBUF_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;

/* Where the fields of a packet buffer are that Rust reads in place. */
enum {
	HOMA_MBUF_SIZE = sizeof(struct rte_mbuf),
	HOMA_MBUF_AT_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	HOMA_MBUF_AT_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	HOMA_MBUF_AT_REFCNT = offsetof(struct rte_mbuf, refcnt),
	HOMA_MBUF_AT_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	HOMA_MBUF_AT_PORT = offsetof(struct rte_mbuf, port),
	HOMA_MBUF_AT_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	HOMA_MBUF_AT_PACKET_TYPE = offsetof(struct rte_mbuf, packet_type),
	HOMA_MBUF_AT_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	HOMA_MBUF_AT_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	HOMA_MBUF_AT_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	HOMA_MBUF_AT_HASH_RSS = offsetof(struct rte_mbuf, hash),
	HOMA_MBUF_AT_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	HOMA_MBUF_AT_POOL = offsetof(struct rte_mbuf, pool),
	HOMA_MBUF_AT_NEXT = offsetof(struct rte_mbuf, next),
	HOMA_MBUF_AT_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
	HOMA_MBUF_L2_LEN_BITS = RTE_MBUF_L2_LEN_BITS,
	HOMA_MBUF_L3_LEN_BITS = RTE_MBUF_L3_LEN_BITS,
	HOMA_MBUF_L4_LEN_BITS = RTE_MBUF_L4_LEN_BITS,
};

/* What rte_eth_dev_info says that matters here. */
struct homa_port_info {
	char driver_name[64];
	uint64_t rx_offload_capa;
	uint64_t tx_offload_capa;
	uint64_t rss_hf_capa;
	uint32_t max_rx_pktlen;
	uint16_t min_mtu;
	uint16_t max_mtu;
	uint16_t max_rx_queues;
	uint16_t max_tx_queues;
	uint16_t rx_desc_max;
	uint16_t tx_desc_max;
	uint16_t tx_nb_seg_max;
	uint16_t reta_size;
	uint8_t hash_key_size;
	uint8_t lsc; /* the port reports link changes */
};

/* What is asked of rte_eth_dev_configure; all else is zero. */
struct homa_port_conf {
	uint64_t rx_offloads;
	uint64_t tx_offloads;
	uint64_t rss_hf;          /* 0: no RSS */
	const uint8_t *rss_key;   /* NULL: the driver's key */
	uint32_t mtu;             /* 0: the driver's default */
	uint16_t rx_queues;
	uint16_t tx_queues;
	uint8_t rss_key_len;
};

struct homa_port_stats {
	uint64_t ipackets;
	uint64_t opackets;
	uint64_t ibytes;
	uint64_t obytes;
	uint64_t imissed;
	uint64_t ierrors;
	uint64_t oerrors;
	uint64_t rx_nombuf;
};

struct homa_link {
	uint32_t speed_mbps; /* UINT32_MAX: unknown */
	uint8_t up;
};

/* Packets of an IP protocol with certain bytes. */
struct homa_flow_match {
	/* As many bytes each, of which the mask says what counts: from `offset` behind the IP header
	 * on. Of a whole frame instead: from its first byte on, as text in hexadecimal that ends with
	 * NUL, which is how the drivers that parse frames in a way of their own take it. */
	const uint8_t *spec;
	const uint8_t *mask;
	uint16_t length;
	uint16_t offset;
	uint8_t whole_frame;
	/* Of what is not the whole frame: */
	uint8_t has_vlan;
	uint8_t is_ipv6;
	uint8_t protocol;
};

/* EAL */
int homa_errno(void);
uint32_t homa_lcore_id(void);
uint64_t homa_rdtsc(void);
/* Sends what DPDK logs to `sink`: a severity (1 emergency .. 8 debug) and text without a NUL. */
typedef void (*homa_log_sink)(int level, const char *text, size_t len);
int homa_log_to(homa_log_sink sink);

/* Stops DPDK's interrupt thread for good, between two events. Waits at most timeout_ms for it;
 * -ETIMEDOUT says that it will stop when it comes round. */
int homa_park_interrupts(uint32_t timeout_ms);

/* Packet buffers */
int homa_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int n);
void homa_mbuf_free(struct rte_mbuf *m);
int homa_mbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail);
int homa_mbuf_linearize(struct rte_mbuf *m);
/* Fails when the lender has as many borrowers as its counter can count. */
int homa_mbuf_attach(struct rte_mbuf *indirect, struct rte_mbuf *direct);
void homa_mbuf_attach_external(struct rte_mbuf *m, void *addr, uint16_t len,
			       struct rte_mbuf_ext_shared_info *shared);
void homa_ext_init(struct rte_mbuf_ext_shared_info *shared,
		   void (*free_cb)(void *addr, void *opaque), void *opaque);
uint16_t homa_ext_refcnt(const struct rte_mbuf_ext_shared_info *shared);
uint16_t homa_ext_refcnt_add(struct rte_mbuf_ext_shared_info *shared, int16_t by);
uint16_t homa_pool_data_room(struct rte_mempool *pool);

/* Ports */
int homa_port_info(uint16_t port_id, struct homa_port_info *info);
int homa_port_configure(uint16_t port_id, const struct homa_port_conf *conf);
int homa_rx_queue_setup(uint16_t port_id, uint16_t queue_id, uint16_t descriptors,
			unsigned int socket_id, struct rte_mempool *pool);
int homa_tx_queue_setup(uint16_t port_id, uint16_t queue_id, uint16_t descriptors,
			unsigned int socket_id, uint64_t offloads);
int homa_port_stats(uint16_t port_id, struct homa_port_stats *stats);
int homa_port_link(uint16_t port_id, struct homa_link *link);
int homa_port_reta(uint16_t port_id, uint16_t *queues, uint16_t n);
int homa_port_set_reta(uint16_t port_id, const uint16_t *queues, uint16_t n);
/* Has what matches received in a queue, if the driver finds the rule valid. `why`, of at least one
 * byte, gets what the driver says against it. */
int homa_flow_create(uint16_t port_id, const struct homa_flow_match *match, uint16_t queue,
		     struct rte_flow **flow, char *why, size_t why_bytes);
int homa_flow_destroy(uint16_t port_id, struct rte_flow *flow);
uint16_t homa_rx_burst(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **mbufs, uint16_t n);
uint16_t homa_tx_burst(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **mbufs, uint16_t n);
uint16_t homa_tx_prepare(uint16_t port_id, uint16_t queue_id, struct rte_mbuf **mbufs, uint16_t n);
/* Frees every buffer still in the ring: after the ports on it are closed. */
void homa_ring_drain(struct rte_ring *ring);

/* Adds a number to the answer to a command of telemetry, which must be a dictionary. The function has
 * another name from 23.03 on. */
int homa_telemetry_add(struct rte_tel_data *data, const char *name, uint64_t value);

#endif
