import KnockBase
import Netfilter
import TestSupport
import Testing

func setName(_ text: String, limit: Int = SetName.nftLimit) -> SetName? {
  permanent(text).withElements(0..<text.utf8.count) { SetName($0, limit: limit) }
}

private func name(_ text: String) throws -> SetName { try #require(setName(text)) }

private func bytes(_ request: borrowing Request) -> [UInt8]? {
  request.bytes.map { Array(UnsafeBufferPointer(start: $0.start, count: $0.count)) }
}

/// As nft(8) sends it, without what only nft needs: `nft 'add element ip t s { 192.0.2.1 timeout 9s }'`.
@Test func aTransactionIsWrittenAsTheKernelReadsIt() throws {
  let table = NftTable(family: .ip, name: try name("t"))
  let set = NftSet(table: table, name: try name("s"), addresses: .inet)
  var request = Request(storage(4096, of: UInt8.self))
  request.removeAll()
  request.transaction(generation: 0x0102_0304) { request in
    request.add(to: set) { $0.host(0xC000_0201, in: set, timeout: 9000) }
  }
  let (sequences, bytes) = (request.sequences, bytes(request))
  #expect(sequences == 1...2)
  #expect(
    bytes == [
      28, 0, 0, 0, 0x10, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0,  // NFNL_MSG_BATCH_BEGIN
      0, 0, 0, 10,  // no family, NFNL_SUBSYS_NFTABLES
      8, 0, 1, 0, 1, 2, 3, 4,  // NFNL_BATCH_GENID
      68, 0, 0, 0, 12, 10, 0x05, 0x06, 2, 0, 0, 0, 0, 0, 0, 0,  // NFT_MSG_NEWSETELEM
      2, 0, 0, 0,  // NFPROTO_IPV4
      6, 0, 1, 0, 0x74, 0, 0, 0,  // NFTA_SET_ELEM_LIST_TABLE
      6, 0, 2, 0, 0x73, 0, 0, 0,  // NFTA_SET_ELEM_LIST_SET
      32, 0, 3, 0x80,  // NFTA_SET_ELEM_LIST_ELEMENTS, nested
      28, 0, 1, 0x80,  // NFTA_LIST_ELEM, nested
      12, 0, 1, 0x80, 8, 0, 1, 0, 192, 0, 2, 1,  // NFTA_SET_ELEM_KEY, nested; NFTA_DATA_VALUE
      12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0x23, 0x28,  // NFTA_SET_ELEM_TIMEOUT in milliseconds
      20, 0, 0, 0, 0x11, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0,  // NFNL_MSG_BATCH_END
      0, 0, 0, 10,
    ])
}

@Test func anIntervalHasAnEndUnlessItIsTheLast() throws {
  let table = NftTable(family: .inet, name: try name("t"))
  let set = NftSet(table: table, name: try name("s"), addresses: .inet)
  func size(last: AddressNumber) -> Int {
    var request = Request(storage(4096, of: UInt8.self))
    request.delete(from: set) {
      $0.interval(SetElement(first: 1, last: last, milliseconds: 1), in: set, timeout: nil)
    }
    return bytes(request)?.count ?? 0
  }
  #expect(size(last: AddressNumber(UInt32.max) - 1) - size(last: AddressNumber(UInt32.max)) == 24)
}

@Test func aCommandOfIPSetIsWrittenAsTheKernelReadsIt() throws {
  let set = IPSet(name: try name("knock6"), addresses: .inet6)
  let range = AddressRange(.inet6(high: 0x2001_0DB8_0000_0001, low: 5), prefixLength: 56)
  var request = Request(storage(4096, of: UInt8.self))
  request.removeAll()
  request.add(range, prefixLength: 56, to: set, seconds: 3600)
  let bytes = bytes(request)
  #expect(
    bytes == [
      84, 0, 0, 0, 9, 6, 5, 0, 1, 0, 0, 0, 0, 0, 0, 0,  // IPSET_CMD_ADD, no NLM_F_EXCL: "exist"
      10, 0, 0, 0,  // NFPROTO_IPV6
      5, 0, 1, 0, 6, 0, 0, 0,  // IPSET_ATTR_PROTOCOL
      11, 0, 2, 0, 0x6B, 0x6E, 0x6F, 0x63, 0x6B, 0x36, 0, 0,  // IPSET_ATTR_SETNAME
      44, 0, 7, 0x80,  // IPSET_ATTR_DATA, nested
      24, 0, 1, 0x80, 20, 0, 2, 0x40,  // IPSET_ATTR_IP, nested; IPSET_ATTR_IPADDR_IPV6
      0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
      5, 0, 3, 0, 56, 0, 0, 0,  // IPSET_ATTR_CIDR
      8, 0, 6, 0x40, 0, 0, 0x0E, 0x10,  // IPSET_ATTR_TIMEOUT in seconds, network order
    ])
}

@Test func theOtherCommandsOfIPSetAreWrittenAsTheKernelReadsThem() throws {
  let set = IPSet(name: try name("k"), addresses: .inet)
  func message(_ type: UInt8, _ flags: [UInt8], _ attributes: [UInt8] = []) -> [UInt8] {
    let length = UInt8(20 + 8 + 8 + attributes.count)
    return [length, 0, 0, 0, type, 6] + flags + [1, 0, 0, 0, 0, 0, 0, 0]
      + [2, 0, 0, 0, 5, 0, 1, 0, 6, 0, 0, 0, 6, 0, 2, 0, 0x6B, 0, 0, 0] + attributes
  }
  func written(_ body: (inout Request) -> Void) -> [UInt8]? {
    var request = Request(storage(4096, of: UInt8.self))
    request.removeAll()
    body(&request)
    return bytes(request)
  }
  // NLM_F_DUMP; IPSET_FLAG_LIST_HEADER
  #expect(written { $0.getHeader(set) } == message(7, [1, 3], [8, 0, 6, 0, 0, 0, 0, 4]))
  #expect(written { $0.getElements(set) } == message(7, [1, 3]))
  let address: [UInt8] = [12, 0, 1, 0x80, 8, 0, 1, 0x40, 192, 0, 2, 1]
  let host = AddressRange(.inet(0xC000_0201), prefixLength: 32)
  #expect(
    written { $0.test(host, prefixLength: 32, of: set) }
      == message(11, [5, 0], [16, 0, 7, 0x80] + address))
  #expect(
    written { $0.delete(host, prefixLength: 32, from: set) }
      == message(10, [5, 0], [16, 0, 7, 0x80] + address))
  #expect(
    written { $0.add(host, prefixLength: 32, to: set, seconds: nil) }
      == message(9, [5, 0], [16, 0, 7, 0x80] + address))
}

@Test func whatDoesNotFitIsNotSent() throws {
  let table = NftTable(family: .inet, name: try name(String(repeating: "t", count: 255)))
  for size in 1..<300 {
    var request = Request(storage(size, of: UInt8.self))
    request.getTable(table)
    // A header of 20 bytes, and an attribute of 4 + 256.
    let fits = bytes(request) != nil
    #expect(fits == (size > 280), "\(size)")
  }
  // More than the 65,535 bytes that an attribute can have.
  let set = NftSet(table: table, name: table.name, addresses: .inet)
  var request = Request(storage(1 << 20, of: UInt8.self))
  request.delete(from: set) { request in
    for address in 0..<5000 { request.host(AddressNumber(address), in: set, timeout: nil) }
  }
  let written = bytes(request)
  #expect(written == nil)
}

/// The most that a change can need, with the longest names and addresses.
@Test func theLargestChangeFits() throws {
  let long = try name(String(repeating: "n", count: 255))
  let set = NftSet(table: NftTable(family: .inet, name: long), name: long, addresses: .inet6)
  var change = IntervalChange(storage(IntervalChange.capacity, of: Boundary.self))
  change.begin(AddressRange(.inet6(high: 1 << 32, low: 0), prefixLength: 48))
  // Elements that begin before and end behind the range, and single ones with gaps inside.
  let first = AddressNumber(UInt128(1) << 96)
  change.take(Boundary(address: first - 1, isEnd: false, milliseconds: 1))
  for number in 1...IntervalChange.capacity {
    let address = first + AddressNumber(2 * number)
    change.take(Boundary(address: address, isEnd: number % 2 == 1, milliseconds: 99))
  }
  change.take(Boundary(address: AddressNumber(UInt128(1) << 97), isEnd: true, milliseconds: 1))
  let isTooFull = change.isTooFull
  #expect(!isTooFull)
  var request = Request(storage(65_536, of: UInt8.self))
  request.removeAll()
  request.transaction(generation: 1) { request in
    request.delete(from: set) { request in
      change.visitOverlaps { request.interval($0, in: set, timeout: nil) }
    }
    request.add(to: set) { request in
      change.visitReplacements(by: .open(milliseconds: 5)) {
        request.interval($0, in: set, timeout: $0.milliseconds)
      }
    }
  }
  let written = bytes(request)
  #expect(written != nil)
}

@Test func sequenceNumbersAreNotUsedAgainSoon() throws {
  let table = NftTable(family: .inet, name: try name("t"))
  var request = Request(storage(4096, of: UInt8.self))
  var last: UInt32 = 0
  for _ in 0..<10 {
    request.removeAll()
    request.getTable(table)
    request.getGeneration()
    let sequences = request.sequences
    #expect(sequences == last + 1...last + 2)
    last = sequences.upperBound
  }
}

@Test func namesNeedNoQuotes() {
  for (text, isGood) in [
    ("knock4", true), ("azAZ09:-/_", true), ("`", false), ("{", false), ("@", false), ("[", false),
    (",", false), (";", false), ("a.b-c_d:e/f", true), ("", false), ("a b", false), ("a;b", false),
    ("a'b", false), ("ä", false), ("a\0", false), (String(repeating: "a", count: 31), true),
    (String(repeating: "a", count: 32), false),
  ] {
    let name = setName(text, limit: SetName.ipsetLimit)
    #expect((name != nil) == isGood, "\(text)")
  }
}
