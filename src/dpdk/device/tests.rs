use super::*;

fn problem(text: &str) -> String {
    text.parse::<DeviceSpec>().expect_err(text).to_string()
}

#[test]
fn text_and_value_are_one() {
    for text in [
        "memif:/run/x.sock,role=server",
        "memif:@x,role=client,id=3,bsize=9216,rsize=12,zero-copy=yes,mac=02:00:00:00:00:ff,\
         socket-abstract=yes",
        "ring",
        "ring:a",
        "ring:a,queues=4,entries=256",
        "tap:homa0",
        "tap:homa0,mac=02:00:00:00:00:01",
        "af_packet:eth1",
        "af_packet:eth1,framesz=4096,qpairs=2",
        "af_xdp:eth1,force_copy=1",
        "pcap:rx=/tmp/a.pcap,tx=/tmp/b.pcap",
        "pcap:tx=b.pcap",
        "null",
        "null:size=64",
        "pci:0000:3b:00.0",
        "pci:3b:00.0",
    ] {
        let spec: DeviceSpec = text.parse().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(spec.to_string(), text);
        assert_eq!(spec.to_string().parse(), Ok(spec));
    }
}

#[test]
fn defaults_are_filled_in() {
    let spec: DeviceSpec = "memif:/run/x.sock".parse().unwrap();
    assert_eq!(spec.to_string(), "memif:/run/x.sock,role=client");
    assert_eq!(
        "ring:a".parse(),
        Ok(DeviceSpec::Ring { pair: Some("a".into()), queues: 1, entries: 1024 })
    );
}

#[test]
fn errors_name_the_device_the_value_and_the_way_out() {
    for (text, expected) in [
        ("", "there is no kind \"\""),
        ("memfi:/run/x", "there is no kind \"memfi\"; write memif:SOCKET"),
        ("memif", "write the path of a socket behind the colon"),
        ("memif:/run/x,role=master", "role \"master\" is neither server nor client"),
        ("memif:/run/x,rsize=300", "rsize=300 is not a number"),
        ("memif:/run/x,rsize=15", "rsize=15: write 1 to 14"),
        ("memif:/run/x,bsize=0", "bsize=0: write 1 to 65535"),
        ("memif:/run/x,zero-copy=1", "zero-copy=1 is neither yes nor no"),
        ("memif:/run/x,mac=02:00", "mac=02:00 is not an address such as"),
        ("memif:/run/x,mac=02:00:00:00:00:+1", "is not an address"),
        ("memif:/run/x,bszie=1", "there is no option bszie"),
        ("memif:/run/x,id=1,id=2", "id is given twice"),
        ("memif:/run/x,server", "\"server\" is not of the form key=value"),
        ("ring:a-b", "letters and digits"),
        ("ring:a,queues=0", "0 queues: write 1 to 16"),
        ("ring:a,entries=1000", "1000 entries is not a power of two"),
        ("ring:queues=2", "belong to a pair"),
        ("tap:averyverylongname", "not an interface name"),
        ("tap:../x", "not an interface name"),
        ("af_packet", "write the name of an interface"),
        ("af_packet:eth0,size=3", "there is no option size"),
        ("pcap", "name a file"),
        ("null:x", "\"x\" is not of the form key=value"),
        ("pci:eth0", "write pci:0000:3b:00.0"),
        ("pci:0000:3b:00", "write pci:0000:3b:00.0"),
    ] {
        let problem = problem(text);
        assert!(problem.starts_with(&format!("device {text}: ")), "{problem}");
        assert!(problem.contains(expected), "{text}: {problem}");
    }
}

#[test]
fn missing_things_are_found_before_dpdk_starts() {
    let check = |text: &str| text.parse::<DeviceSpec>().unwrap().check().map_err(|e| e.to_string());
    let text = check("af_packet:nosuchif0").unwrap_err();
    assert!(text.contains("there is no interface nosuchif0"), "{text}");
    let text = check("memif:/nosuchdir/x.sock").unwrap_err();
    assert!(text.contains("directory /nosuchdir does not exist"), "{text}");
    assert_eq!(check("memif:/nosuchdir/x.sock,socket-abstract=yes"), Ok(()));
    assert!(check("memif:/tmp").unwrap_err().contains("/tmp is there and no socket"));
    let long = format!("memif:/tmp/{}", "x".repeat(103));
    assert!(check(&long).unwrap_err().contains("at most 107 bytes, not 108"));
    assert!(check("pcap:rx=/nosuchfile").unwrap_err().contains("/nosuchfile does not exist"));
    assert!(check("pci:ffff:3b:00.0").unwrap_err().contains("lspci"));
    assert_eq!(check("ring"), Ok(()));
    assert_eq!(check("pcap:tx=x.pcap"), Ok(()));
}

#[test]
fn driver_arguments() {
    let argument = |text: &str| text.parse::<DeviceSpec>().unwrap().eal_argument(1).unwrap();
    assert_eq!(argument("tap:t0"), "--vdev=net_tap1,iface=t0");
    assert_eq!(argument("af_packet:e,qpairs=2"), "--vdev=net_af_packet1,iface=e,qpairs=2");
    assert_eq!(argument("pcap:rx=a,tx=b"), "--vdev=net_pcap1,rx_pcap=a,tx_pcap=b");
    assert_eq!(argument("null:size=64"), "--vdev=net_null1,size=64");
    assert_eq!(
        argument("memif:x,role=server,id=2,socket-abstract=yes"),
        "--vdev=net_memif1,role=server,socket=x,id=2,socket-abstract=yes"
    );
}

#[test]
fn privileges_are_read_from_the_status() {
    let mask = effective_capabilities("CapPrm:\t0\nCapEff:\t0000000000002000\n");
    assert_ne!(mask & 1 << CAP_NET_RAW, 0);
    assert_eq!(mask & 1 << CAP_NET_ADMIN, 0);
    assert_eq!(effective_capabilities(""), u64::MAX, "unknown: let the driver say");
}

#[test]
fn packet_sockets_get_slots_for_large_frames() {
    let device = |text: &str| text.parse::<DeviceSpec>().expect("a device");
    assert_eq!(device("af_packet:eth").for_mtu(1500), device("af_packet:eth"));
    assert_eq!(device("tap:t").for_mtu(9000), device("tap:t"));
    let own = device("af_packet:eth,framesz=4096");
    assert_eq!(own.clone().for_mtu(9000), own);
    assert!(own.has_slots_for(3000) && !own.has_slots_for(4090));
    for mtu in [1501, 2000, 4000, 9000, 9600] {
        let DeviceSpec::AfPacket { options, .. } = device("af_packet:eth").for_mtu(mtu) else {
            panic!("another kind");
        };
        let [block, slot] = ["blocksz", "framesz"].map(|name| options[name]);
        assert!(slot >= u32::from(mtu) + 84, "{slot} for {mtu}");
        // What the driver compares with the room of the packet buffers.
        assert!(slot - 32 <= u32::from(mtu) + 576, "{slot} for {mtu}");
        assert!(block % 4096 == 0 && block % slot == 0 && 512 % (block / slot) == 0, "{block}");
    }
}

#[test]
fn buffers_of_memif_hold_whole_frames() {
    let device = |text: &str| text.parse::<DeviceSpec>().unwrap();
    let of_mtu = |mtu| device("memif:x").for_mtu(mtu).to_string();
    assert_eq!(of_mtu(1_500), "memif:x,role=client");
    assert_eq!(of_mtu(2_030), "memif:x,role=client", "the driver's own 2048");
    assert_eq!(of_mtu(2_031), "memif:x,role=client,bsize=2560");
    assert_eq!(of_mtu(9_600), "memif:x,role=client,bsize=9728");
    for mtu in [576, 2_030, 2_031, 9_600, u16::MAX - 600] {
        device("memif:x").for_mtu(mtu).check_mtu(mtu).unwrap();
    }
    let small = device("memif:x,bsize=2048").for_mtu(2_040);
    let problem = small.check_mtu(2_040).unwrap_err().to_string();
    assert!(problem.contains("2048 bytes") && problem.contains("write bsize=2058"), "{problem}");
    assert!(device("memif:x").check_mtu(9_000).is_err(), "the driver's own 2048");
}
