import KnockBase
import Testing

@testable import Netfilter

private func little(_ number: some FixedWidthInteger) -> [UInt8] {
  (0..<number.bitWidth / 8).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
}

private func big(_ number: some FixedWidthInteger) -> [UInt8] { little(number).reversed() }

/// An attribute, up to a multiple of 4.
private func attribute(_ type: UInt16, _ value: [UInt8]) -> [UInt8] {
  let length = 4 + value.count
  return little(UInt16(length)) + little(type) + value
    + [UInt8](repeating: 0, count: (4 - length % 4) % 4)
}

/// A message with a sequence number of four different bytes, up to a multiple of 4.
private func message(_ type: UInt16, flags: UInt16 = 0, _ payload: [UInt8]) -> [UInt8] {
  let length = 16 + payload.count
  let header = little(UInt32(length)) + little(type) + little(flags) + [1, 2, 3, 4, 9, 9, 9, 9]
  return header + payload + [UInt8](repeating: 0, count: (4 - length % 4) % 4)
}

private func replies(_ datagram: [UInt8]) throws -> [Reply] {
  var replies: [Reply] = []
  try datagram.span.visitMessages { reply, sequence, _, _ throws(MalformedReply) in
    #expect(sequence == 0x0403_0201)
    replies.append(reply)
  }
  return replies
}

private func read(_ bytes: [UInt8]) throws -> [UInt64: [UInt8]] {
  var attributes: [UInt64: [UInt8]] = [:]
  try bytes.span.visitAttributes { type, value throws(MalformedReply) in
    attributes[type] = value.indices.map { value[$0] }
  }
  return attributes
}

@Test func messagesAreOfFourKinds() throws {
  #expect(try replies(message(2, little(Int32(0)))) == [.end(0)])
  #expect(try replies(message(2, little(Int32(-1)))) == [.end(1)])
  #expect(try replies(message(2, little(Int32(-300)))) == [.end(300)])
  #expect(try replies(message(3, little(Int32(-1)))) == [.end(1)])
  for count in 0..<4 {
    #expect(try replies(message(3, [UInt8](repeating: 255, count: count))) == [.end(0)])
    #expect(throws: MalformedReply()) {
      try replies(message(2, [UInt8](repeating: 0, count: count)))
    }
    #expect(throws: MalformedReply()) {
      try replies(message(0x100, [UInt8](repeating: 0, count: count)))
    }
  }
  for error in [1, .max, .min] as [Int32] {
    #expect(throws: MalformedReply()) { try replies(message(2, little(error))) }
  }
  for type in [0, 1, 4, 0xFF] as [UInt16] {
    #expect(try replies(message(type, [1, 2, 3, 4])) == [.other])
  }
  for type in [0x100, 0x101, 0x203, .max] as [UInt16] {
    #expect(try replies(message(type, [1, 2, 3, 4])) == [.data])
  }
}

@Test func messagesBeginAtMultiplesOf4() throws {
  for count in 4..<12 {
    let payload = [UInt8](repeating: 0, count: count)
    let datagram = message(0x100, payload) + message(1, payload) + message(3, payload)
    #expect(try replies(datagram) == [.data, .other, .end(0)], "\(count)")
    // The last one may end without what fills it up.
    let length = 16 + count
    #expect(try replies(Array(message(0x100, payload).prefix(length))) == [.data])
  }
}

@Test func onlyDataHasAttributes() throws {
  let payload = [1, 2, 3, 4] + attribute(7, [5])
  for (type, expected) in [(0x100, attribute(7, [5])), (3, []), (1, [])] as [(UInt16, [UInt8])] {
    var found: [UInt8]?
    try message(type, payload.map { $0 & (type == 3 ? 0 : 255) }).span.visitMessages {
      _, _, _, attributes throws(MalformedReply) in
      found = attributes.indices.map { attributes[$0] }
    }
    #expect(found == expected)
  }
}

@Test func aListThatHasChangedSaysSo() throws {
  for flags in [0, 1, 2, 8, 0x10, 0x12, 0x20, 0xFFEF] as [UInt16] {
    try message(0x100, flags: flags, [0, 0, 0, 0]).span.visitMessages {
      _, _, isInterrupted, _ throws(MalformedReply) in
      #expect(isInterrupted == (flags & 0x10 != 0))
    }
  }
}

@Test func attributesBeginAtMultiplesOf4() throws {
  for count in 0..<9 {
    let value = [UInt8](repeating: 7, count: count)
    #expect(try read(attribute(1, value) + attribute(2, [8])) == [1: value, 2: [8]])
    #expect(try read(Array(attribute(1, value).prefix(4 + count))) == [1: value])
    if count > 0 {
      #expect(throws: MalformedReply()) { try read(Array(attribute(1, value).prefix(3 + count))) }
    }
  }
  for count in 1..<4 {
    #expect(throws: MalformedReply()) { try read([UInt8](repeating: 0, count: count)) }
  }
  for length in 0..<4 as Range<UInt8> {
    #expect(throws: MalformedReply()) { try read([length, 0, 1, 0]) }
  }
  // Two bits of the type are flags.
  for type in [0xC123, 0x8123, 0x4123, 0x0123] as [UInt16] {
    #expect(try read(attribute(type, [1])) == [0x123: [1]])
  }
}

@Test func numbersAndAddressesHaveOneSize() throws {
  let bytes = (1...17).map { UInt8($0) }
  for count in 0...17 {
    let value = Array(bytes.prefix(count))
    for size in [1, 4, 8] {
      let number = try? value.span.number(size: size)
      let expected = value.reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
      #expect(number == (count == size ? expected : nil))
    }
    let inet = try? value.span.address(of: .inet)
    #expect(inet == (count == 4 ? 0x0102_0304 : nil))
    let inet6 = try? value.span.address(of: .inet6)
    #expect(inet6 == (count == 16 ? 0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10 : nil))
  }
}

@Test func aSetOfIPSetHasOneOfTwoTypesAndOneOfTwoFamilies() throws {
  for (name, isHashIP, isHashNet) in [
    ("hash:ip\0", true, false), ("hash:net\0", false, true), ("hash:ip", false, false),
    ("hash:ip,port\0", false, false), ("list:set\0", false, false),
  ] {
    for family in 0...11 as ClosedRange<UInt8> {
      let bytes = attribute(3, Array(name.utf8)) + attribute(5, [family])
      let kind = try IPSetKind(attributes: bytes.span)
      #expect(kind.isHashIP == isHashIP && kind.isHashNet == isHashNet)
      #expect(kind.holds(.inet) == ((isHashIP || isHashNet) && family == 2))
      #expect(kind.holds(.inet6) == ((isHashIP || isHashNet) && family == 10))
      #expect(!kind.hasMask && kind.defaultTimeout == nil)
    }
  }
  for type in 0...25 as ClosedRange<UInt16> {
    let kind = try IPSetKind(attributes: attribute(7, attribute(type, [0, 0, 0, 9])).span)
    #expect(kind.defaultTimeout == (type == 6 ? 9 : nil))
    #expect(kind.hasMask == (type == 12 || type == 20))
    let other = try IPSetKind(attributes: attribute(8, attribute(type, [0])).span)
    #expect(other.defaultTimeout == nil && !other.hasMask)
  }
}

@Test func eachFlagOfASetOfNftablesHasItsMeaning() throws {
  for bit in 0..<32 as Range<UInt32> {
    let kind = try NftSetKind(attributes: attribute(3, big(1 << bit as UInt32)).span)
    #expect(kind.isConstant == (bit == 1))
    #expect(kind.hasIntervals == (bit == 2))
    #expect(kind.isMap == (bit == 3 || bit == 6))
    #expect(kind.hasTimeouts == (bit == 4))
    #expect(kind.defaultTimeout == 0)
    let table = attribute(2, big(1 << bit as UInt32))
    #expect(try table.span.isOwnedTable() == (bit == 1))
  }
  for type in 0...12 as ClosedRange<UInt32> {
    for size in [0, 3, 4, 5, 15, 16, 17] as [UInt32] {
      let bytes = attribute(4, big(type)) + attribute(5, big(size))
      let kind = try NftSetKind(attributes: bytes.span)
      #expect(kind.holds(.inet) == (type == 7 && size == 4))
      #expect(kind.holds(.inet6) == (type == 8 && size == 16))
    }
  }
  for milliseconds in [0, 1, .max] as [UInt64] {
    let kind = try NftSetKind(attributes: attribute(11, big(milliseconds)).span)
    #expect(kind.defaultTimeout == milliseconds)
  }
}

@Test func whatIsNotSaidIsNotSo() throws {
  let nothing: [UInt8] = []
  #expect(try nothing.span.isOwnedTable() == false)
  #expect(try nothing.span.generation() == nil)
  #expect(try attribute(2, big(7 as UInt32)).span.generation() == nil)
  #expect(try attribute(1, big(7 as UInt32)).span.generation() == 7)
  #expect(try attribute(1, big(2 as UInt32)).span.isOwnedTable() == false)
  let kind = try NftSetKind(attributes: nothing.span)
  #expect(!kind.holds(.inet) && !kind.holds(.inet6) && kind.defaultTimeout == 0)
}

@Test func theTimeOfAnElementOfIPSetIsRead() throws {
  func element(_ address: [UInt8], _ length: UInt8?, _ seconds: UInt32?) -> [UInt8] {
    attribute(
      7,
      attribute(1, attribute(1, address)) + (length.map { attribute(3, [$0]) } ?? [])
        + (seconds.map { attribute(6, big($0)) } ?? []))
  }
  let answer = attribute(
    8,
    element([192, 0, 2, 0], 24, 7) + element([192, 0, 2, 0], 25, 0)
      + element([192, 0, 2, 1], 32, 8)
      + element([192, 0, 2, 2], nil, nil))
  for (host, length, time) in [
    (0, 24, 7000), (0, 25, SetElement.forever), (0, 26, nil), (1, 32, 8000),
    (2, 32, SetElement.forever),
    (3, 32, nil),
  ] as [(UInt32, Int, UInt64?)] {
    let range = AddressRange(.inet(0xC000_0200 + host), prefixLength: length)
    var found: UInt64?
    try answer.span.visitElements(of: .inet) {
      if $0.first == range.first, $0.last == range.last { found = $0.milliseconds }
    }
    #expect(found == time, "\(host)/\(length)")
  }
}

@Test func aBoundaryIsOneAddressWithAFlagAndATime() throws {
  let key = attribute(1, attribute(1, [192, 0, 2, 1]))
  func boundaries(_ element: [UInt8], list: UInt16 = 3) throws -> [Boundary] {
    var boundaries: [Boundary] = []
    let bytes = attribute(list, attribute(1, element))
    try bytes.span.visitBoundaries(of: .inet) { boundaries.append($0) }
    return boundaries
  }
  func boundary(_ isEnd: Bool, _ milliseconds: UInt64 = SetElement.forever) -> [Boundary] {
    [Boundary(address: 0xC000_0201, isEnd: isEnd, milliseconds: milliseconds)]
  }
  #expect(try boundaries(key) == boundary(false))
  #expect(try boundaries(key + attribute(3, big(1 as UInt32))) == boundary(true))
  #expect(try boundaries(key + attribute(3, big(2 as UInt32))) == boundary(false))
  #expect(try boundaries(key + attribute(3, big(3 as UInt32))) == boundary(true))
  #expect(try boundaries(key + attribute(5, big(9 as UInt64))) == boundary(false, 9))
  // What the element was given at first does not matter, nor do other attributes.
  #expect(try boundaries(key + attribute(4, big(9 as UInt64))) == boundary(false))
  #expect(try boundaries(key + attribute(2, [1])) == boundary(false))
  // All other addresses; a value; another list.
  #expect(try boundaries(attribute(3, big(2 as UInt32))) == [])
  #expect(try boundaries(attribute(1, attribute(2, [1, 2, 3, 4]))) == [])
  #expect(try boundaries(attribute(2, attribute(1, [1, 2, 3, 4]))) == [])
  #expect(try boundaries(key, list: 4) == [])
  #expect(try boundaries(key, list: 2) == [])
}
