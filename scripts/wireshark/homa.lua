-- Wireshark dissector for Homa: IP protocol 146, and Homa marked as TCP (flags SYN+RST and urgent
-- pointer 0xb97d, both exactly). The wire format is that of Linux Homa as of July 2026.
--
-- Once:      tshark -X lua_script:homa.lua -r FILE
-- For good:  copy it into the directory of personal Lua plugins (Help, About, Folders)
--
-- Display filters begin with "homa.": homa.type == "GRANT", homa.rpc_id == 42, homa.malformed.

local homa = Proto("homa", "Homa Transport Protocol")
-- Stands before TCP and takes what is marked.
local marked = Proto("homa_marked", "Homa marked as TCP")

local IP_PROTOCOL_HOMA = 146
local IP_PROTOCOL_TCP = 6
local MARK_FLAGS = 0x06
local MARK_URGENT = 0xb97d
local MAX_MESSAGE_LENGTH = 1000000
local COMMON_LENGTH = 28
local ACK_RECORDS = 5
local ALL_ONES = 0xffffffff

local DATA, GRANT, RESEND, RPC_UNKNOWN, BUSY = 0x10, 0x11, 0x12, 0x13, 0x14
local CUTOFFS, FREEZE, NEED_ACK, ACK = 0x15, 0x16, 0x17, 0x18

local TYPES = {
    [DATA] = "DATA", [GRANT] = "GRANT", [RESEND] = "RESEND", [RPC_UNKNOWN] = "RPC_UNKNOWN",
    [BUSY] = "BUSY", [CUTOFFS] = "CUTOFFS", [FREEZE] = "FREEZE", [NEED_ACK] = "NEED_ACK",
    [ACK] = "ACK",
}

-- The reduced version offered to mainline Linux sends RESEND without the priority byte.
local MIN_LENGTHS = {
    [DATA] = 56, [GRANT] = 33, [RESEND] = 36, [RPC_UNKNOWN] = 28, [BUSY] = 28, [CUTOFFS] = 62,
    [FREEZE] = 28, [NEED_ACK] = 28, [ACK] = 80,
}

local ENCAPSULATIONS = { [0] = "native (IP protocol 146)", [1] = "marked as TCP (IP protocol 6)" }

local f = {
    encapsulation = ProtoField.uint8("homa.encapsulation", "Encapsulation", base.DEC, ENCAPSULATIONS),
    priority = ProtoField.uint8("homa.priority", "Network priority", base.DEC, nil, nil,
        "The upper three bits of TOS or traffic class"),
    srcport = ProtoField.uint16("homa.srcport", "Source port"),
    dstport = ProtoField.uint16("homa.dstport", "Destination port"),
    port = ProtoField.uint16("homa.port", "Source or destination port"),
    sequence = ProtoField.uint32("homa.sequence", "Sequence"),
    type = ProtoField.uint8("homa.type", "Type", base.HEX, TYPES),
    doff = ProtoField.uint8("homa.doff", "Data offset", base.DEC, nil, 0xf0,
        "In words of 4 bytes, for network cards; not to be relied on"),
    flags = ProtoField.uint8("homa.flags", "Flags", base.HEX),
    window = ProtoField.uint16("homa.window", "Window"),
    checksum = ProtoField.uint16("homa.checksum", "Checksum", base.HEX, nil, nil,
        "That of TCP; means nothing in protocol 146"),
    urgent = ProtoField.uint16("homa.urgent", "Urgent pointer", base.HEX),
    sender_id = ProtoField.uint64("homa.sender_id", "RPC id of the sender"),
    rpc_id = ProtoField.uint64("homa.rpc_id", "RPC id", base.DEC, nil, nil,
        "The id as the client knows it: the same in both directions"),
    from_server = ProtoField.bool("homa.from_server", "Sent by the server"),
    message_length = ProtoField.uint32("homa.data.message_length", "Message length"),
    incoming = ProtoField.uint32("homa.data.incoming", "Incoming", base.DEC, nil, nil,
        "The sender sends the bytes below this one without further grants"),
    cutoff_version = ProtoField.uint16("homa.data.cutoff_version", "Cutoff version"),
    retransmit = ProtoField.bool("homa.data.retransmit", "Retransmission"),
    incast = ProtoField.bool("homa.data.incast", "Many RPCs under way", base.NONE, nil, nil,
        "Of homa-dpdk: long responses should wait for grants. Linux neither sets nor reads it"),
    pad = ProtoField.bytes("homa.data.pad", "Padding"),
    seg_offset = ProtoField.uint32("homa.data.seg_offset", "Segment offset", base.DEC, nil, nil,
        "All ones: see the sequence"),
    offset = ProtoField.uint32("homa.data.offset", "Offset of the payload in the message"),
    payload_length = ProtoField.uint32("homa.data.payload_length", "Payload length"),
    payload = ProtoField.bytes("homa.data.payload", "Payload"),
    grant_offset = ProtoField.uint32("homa.grant.offset", "Granted up to"),
    grant_priority = ProtoField.uint8("homa.grant.priority", "Priority for granted packets"),
    resend_offset = ProtoField.uint32("homa.resend.offset", "First byte wanted"),
    resend_length = ProtoField.uint32("homa.resend.length", "Bytes wanted", base.DEC, nil, nil,
        "All ones: everything sent so far"),
    resend_all = ProtoField.bool("homa.resend.all", "Everything wanted"),
    resend_priority = ProtoField.uint8("homa.resend.priority", "Priority for the resent packets"),
    cutoff = ProtoField.uint32("homa.cutoffs.cutoff", "Cutoff"),
    cutoffs_version = ProtoField.uint16("homa.cutoffs.version", "Cutoff version"),
    num_acks = ProtoField.uint16("homa.ack.count", "Records in use"),
    ack_id = ProtoField.uint64("homa.ack.client_id", "Acknowledged RPC id"),
    ack_port = ProtoField.uint16("homa.ack.server_port", "Server port"),
    trailing = ProtoField.bytes("homa.trailing", "Trailing bytes, to be ignored"),
    request_in = ProtoField.framenum("homa.request_in", "The request begins in", base.NONE,
        frametype.REQUEST),
    response_in = ProtoField.framenum("homa.response_in", "The response begins in", base.NONE,
        frametype.RESPONSE),
    response_time = ProtoField.relative_time("homa.response_time", "Time since the request"),
}
homa.fields = f

local e = {
    short = ProtoExpert.new("homa.malformed.short", "Shorter than its type allows",
        expert.group.MALFORMED, expert.severity.ERROR),
    type = ProtoExpert.new("homa.malformed.type", "Unknown type",
        expert.group.MALFORMED, expert.severity.ERROR),
    length = ProtoExpert.new("homa.malformed.message_length",
        "A message has 1 to 1,000,000 bytes", expert.group.MALFORMED, expert.severity.ERROR),
    range = ProtoExpert.new("homa.malformed.range", "The payload is not inside the message",
        expert.group.MALFORMED, expert.severity.ERROR),
    records = ProtoExpert.new("homa.malformed.records", "More records than there is room for",
        expert.group.MALFORMED, expert.severity.WARN),
    priority = ProtoExpert.new("homa.malformed.priority", "There are priorities 0 to 7",
        expert.group.MALFORMED, expert.severity.WARN),
    id = ProtoExpert.new("homa.malformed.id", "0 is no RPC id",
        expert.group.MALFORMED, expert.severity.WARN),
    incoming = ProtoExpert.new("homa.incoming_beyond", "Incoming is beyond the end of the message",
        expert.group.PROTOCOL, expert.severity.NOTE),
    cut = ProtoExpert.new("homa.cut", "The capture has not kept the whole header",
        expert.group.UNDECODED, expert.severity.NOTE),
    retransmit = ProtoExpert.new("homa.retransmission", "Retransmission",
        expert.group.SEQUENCE, expert.severity.NOTE),
    loss = ProtoExpert.new("homa.resend_request", "The receiver misses bytes",
        expert.group.SEQUENCE, expert.severity.NOTE),
    unknown = ProtoExpert.new("homa.rpc_unknown", "The peer does not know this RPC",
        expert.group.SEQUENCE, expert.severity.NOTE),
}
homa.experts = e

marked.prefs.enabled = Pref.bool("Decode marked TCP as Homa", true,
    "Off, such packets are left to TCP")

local ip_tos = Field.new("ip.dsfield")
local ipv6_class = Field.new("ipv6.tclass")

-- The latest RPC of each name, and the RPC of each frame: where its request and its response begin.
local latest, of_frame = {}, {}

function homa.init()
    latest, of_frame = {}, {}
end

-- The value of the innermost IP header.
local function innermost(extractor)
    local values = { extractor() }
    local last = values[#values]
    return last and last.value
end

local function network_priority()
    local class = innermost(ip_tos) or innermost(ipv6_class)
    return class and bit32.rshift(class, 5)
end

local function add_priority(tree, field, range)
    local item = tree:add(field, range)
    if range:uint() > 7 then
        item:add_proto_expert_info(e.priority)
    end
end

-- An ack record; returns its id as text, or nil if it is empty.
local function add_ack_record(tree, range, title)
    local id = range(0, 8):uint64()
    local text
    if id == UInt64(0) then
        text = title .. ": none"
    else
        text = string.format("%s: RPC %s, server port %u", title, id, range(8, 2):uint())
    end
    local branch = tree:add(homa, range, text)
    branch:add(f.ack_id, range(0, 8))
    branch:add(f.ack_port, range(8, 2))
    return id ~= UInt64(0) and tostring(id) or nil
end

-- Shows a number whose largest value has a meaning of its own.
local function add_or_all_ones(tree, field, range, meaning)
    local item = tree:add(field, range)
    if range:uint() == ALL_ONES then
        item:append_text(" (all ones: " .. meaning .. ")")
    end
end

local function dissect_data(tvb, tree, info, priority)
    local header = tree:add(homa, tvb(28, 28), "DATA")
    local length = tvb(28, 4):uint()
    local length_item = header:add(f.message_length, tvb(28, 4))
    local incoming_item = header:add(f.incoming, tvb(32, 4))
    local acked = add_ack_record(header, tvb(36, 10), "Acknowledgement")
    header:add(f.cutoff_version, tvb(46, 2))
    header:add(f.retransmit, tvb(48, 1))
    header:add(f.incast, tvb(49, 1))
    header:add(f.pad, tvb(50, 2))
    add_or_all_ones(header, f.seg_offset, tvb(52, 4), "the sequence says where")
    local offset = tvb(52, 4):uint()
    local where = tvb(52, 4)
    if offset == ALL_ONES then
        where = tvb(4, 4)
        offset = where:uint()
    end
    local payload_length = tvb:reported_len() - 56
    local offset_item = header:add(f.offset, where, offset):set_generated()
    header:add(f.payload_length, payload_length):set_generated()
    if tvb:len() > 56 then
        tree:add(f.payload, tvb(56))
    end
    if length == 0 or length > MAX_MESSAGE_LENGTH then
        length_item:add_proto_expert_info(e.length)
    elseif offset >= length or payload_length > length - offset then
        offset_item:add_proto_expert_info(e.range)
    end
    if tvb(32, 4):uint() > length then
        incoming_item:add_proto_expert_info(e.incoming)
    end
    info[#info + 1] = string.format("%u..%u/%u", offset, offset + payload_length, length)
    if payload_length == 0 then
        info[#info + 1] = "announcement"
    end
    if priority then
        info[#info + 1] = string.format("at %u", priority)
    end
    if tvb(48, 1):uint() ~= 0 then
        header:add_proto_expert_info(e.retransmit)
        info[#info + 1] = "retransmission"
    end
    if acked then
        info[#info + 1] = "ack=" .. acked
    end
end

local function dissect_grant(tvb, tree, info)
    tree:add(f.grant_offset, tvb(28, 4))
    add_priority(tree, f.grant_priority, tvb(32, 1))
    info[#info + 1] = string.format("to %u at %u", tvb(28, 4):uint(), tvb(32, 1):uint())
end

local function dissect_resend(tvb, tree, info)
    local offset, length = tvb(28, 4):uint(), tvb(32, 4):uint()
    tree:add(f.resend_offset, tvb(28, 4))
    add_or_all_ones(tree, f.resend_length, tvb(32, 4), "whatever was sent")
    tree:add(f.resend_all, tvb(32, 4), length == ALL_ONES):set_generated()
    local stop = length == ALL_ONES and "all" or string.format("%.0f", offset + length)
    info[#info + 1] = string.format("%u..%s", offset, stop)
    if tvb:len() > 36 then
        add_priority(tree, f.resend_priority, tvb(36, 1))
        info[#info + 1] = string.format("at %u", tvb(36, 1):uint())
    end
    tree:add_proto_expert_info(e.loss)
end

local function dissect_cutoffs(tvb, tree, info)
    local branch = tree:add(homa, tvb(28, 32), "Longest message per priority")
    for priority = 0, 7 do
        local range = tvb(28 + 4 * priority, 4)
        branch:add(f.cutoff, range):set_text(
            string.format("Priority %d: up to %u bytes", priority, range:uint()))
    end
    tree:add(f.cutoffs_version, tvb(60, 2))
    info[#info + 1] = string.format("version %u", tvb(60, 2):uint())
end

local function dissect_ack(tvb, tree, info)
    local count = tvb(28, 2):uint()
    local count_item = tree:add(f.num_acks, tvb(28, 2))
    if count > ACK_RECORDS then
        count_item:add_proto_expert_info(e.records)
    end
    local ids = {}
    for index = 0, math.min(count, ACK_RECORDS) - 1 do
        local range = tvb(30 + 10 * index, 10)
        ids[#ids + 1] = add_ack_record(tree, range, string.format("Record %d", index))
    end
    if #ids > 0 then
        info[#info + 1] = "acks=" .. table.concat(ids, ",")
    end
end

local BODIES = {
    [DATA] = dissect_data, [GRANT] = dissect_grant, [RESEND] = dissect_resend,
    [CUTOFFS] = dissect_cutoffs, [ACK] = dissect_ack,
}

-- The RPC id as the client knows it: the last bit tells client from server.
local function client_id(id)
    return id:band(UInt64(0xfffffffe, 0xffffffff))
end

-- The RPC of a packet, found when it is seen first. A server with several addresses may answer from
-- another one, so that an RPC goes by the address and port of its client alone.
local function find_rpc(tvb, pinfo, type, id, from_server)
    local client = from_server and pinfo.dst or pinfo.src
    local port = tvb(from_server and 2 or 0, 2):uint()
    local name = string.format("%s %u %s", client, port, client_id(id))
    local rpc = latest[name]
    if type == DATA and not from_server then
        -- A client that has started anew may use an id again.
        local is_first = tvb(48, 1):uint() == 0
        if not rpc or rpc.response and is_first then
            rpc = { request = pinfo.number, began = pinfo.abs_ts }
            latest[name] = rpc
        end
    elseif type == DATA and rpc and not rpc.response then
        rpc.response = pinfo.number
        rpc.delay = pinfo.abs_ts - rpc.began
    end
    return rpc
end

-- Links request and response.
local function link(tvb, pinfo, tree, type, id, from_server)
    if not pinfo.visited then
        of_frame[pinfo.number] = find_rpc(tvb, pinfo, type, id, from_server)
    end
    local rpc = of_frame[pinfo.number]
    if not rpc then
        return
    end
    if pinfo.number ~= rpc.request then
        tree:add(f.request_in, rpc.request):set_generated()
    end
    if rpc.response and pinfo.number ~= rpc.response then
        tree:add(f.response_in, rpc.response):set_generated()
    end
    if rpc.response == pinfo.number then
        local seconds = math.floor(rpc.delay)
        local nanoseconds = math.floor((rpc.delay - seconds) * 1e9 + 0.5)
        tree:add(f.response_time, NSTime(seconds, nanoseconds)):set_generated()
    end
end

local function dissect_common(tvb, tree)
    tree:add(f.srcport, tvb(0, 2))
    tree:add(f.dstport, tvb(2, 2))
    tree:add(f.port, tvb(0, 2)):set_hidden()
    tree:add(f.port, tvb(2, 2)):set_hidden()
    tree:add(f.sequence, tvb(4, 4))
    tree:add(f.doff, tvb(12, 1))
    tree:add(f.flags, tvb(13, 1))
    tree:add(f.window, tvb(14, 2))
    tree:add(f.checksum, tvb(16, 2))
    tree:add(f.urgent, tvb(18, 2))
end

-- What goes beyond `available` bytes cannot be shown: cut by the capture, or never there.
local function missing(tvb, tree, needed)
    if tvb:reported_len() < needed then
        tree:add_proto_expert_info(e.short)
        return true
    elseif tvb:len() < needed then
        tree:add_proto_expert_info(e.cut)
        return true
    end
    return false
end

local function dissect(tvb, pinfo, root, encapsulation)
    -- In an ICMP error lies the beginning of a packet that was sent earlier.
    local is_quoted = pinfo.in_error_pkt
    if not is_quoted then
        pinfo.cols.protocol = "Homa"
    end
    local tree = root:add(homa, tvb())
    tree:add(f.encapsulation, encapsulation):set_generated()
    local priority = network_priority()
    if priority then
        tree:add(f.priority, priority):set_generated()
    end
    if missing(tvb, tree, COMMON_LENGTH) then
        tree:append_text(" [too short]")
        return tvb:len()
    end
    local type, id = tvb(11, 1):uint(), tvb(20, 8):uint64()
    local from_server = id:band(UInt64(1)) == UInt64(1)
    local name = TYPES[type]
    local info = {
        string.format("%s %u->%u RPC %s", name or string.format("type 0x%02x", type),
            tvb(0, 2):uint(), tvb(2, 2):uint(), client_id(id)),
    }
    local type_item = tree:add(f.type, tvb(11, 1))
    dissect_common(tvb, tree)
    local id_item = tree:add(f.sender_id, tvb(20, 8))
    tree:add(f.rpc_id, tvb(20, 8), client_id(id)):set_generated()
    tree:add(f.from_server, tvb(27, 1), from_server):set_generated()
    if not name then
        type_item:add_proto_expert_info(e.type)
    elseif missing(tvb, tree, MIN_LENGTHS[type]) then
        info[#info + 1] = tvb:reported_len() < MIN_LENGTHS[type] and "[too short]" or "[cut]"
    else
        if client_id(id) == UInt64(0) and type ~= FREEZE then
            id_item:add_proto_expert_info(e.id)
        end
        if type == RPC_UNKNOWN then
            tree:add_proto_expert_info(e.unknown)
        end
        local body = BODIES[type]
        if body then
            body(tvb, tree, info, priority)
        end
        local known = type == RESEND and 37 or MIN_LENGTHS[type]
        if type ~= DATA and tvb:len() > known then
            tree:add(f.trailing, tvb(known))
        end
        if not is_quoted then
            link(tvb, pinfo, tree, type, id, from_server)
        end
    end
    tree:append_text(", " .. table.concat(info, " "))
    if not is_quoted then
        pinfo.cols.info = table.concat(info, " ")
    end
    return tvb:len()
end

function homa.dissector(tvb, pinfo, root)
    return dissect(tvb, pinfo, root, 0)
end

local ip_protocols = DissectorTable.get("ip.proto")
local tcp = ip_protocols:get_dissector(IP_PROTOCOL_TCP)

local function is_marked(tvb)
    return tvb:len() >= 20 and tvb(13, 1):uint() == MARK_FLAGS and tvb(18, 2):uint() == MARK_URGENT
end

function marked.dissector(tvb, pinfo, root)
    if marked.prefs.enabled and is_marked(tvb) then
        return dissect(tvb, pinfo, root, 1)
    end
    return tcp:call(tvb, pinfo, root)
end

ip_protocols:add(IP_PROTOCOL_HOMA, homa)
ip_protocols:add(IP_PROTOCOL_TCP, marked)
