import Foundation
import KnockBase
import KnockProtocol
import TestSupport
import Testing

private let now: Int64 = 1_764_103_971_123_456

/// A key, and a request whose fields are all in use.
private let key = DerivedKey(
  serverID: Array(0..<16), secret: Array(100..<132))
private let request = Version2.Request(
  .open, wantsAnswer: true, seconds: 900, time: now, address: address("2001:db8::7"))

/// A datagram of any 32 bytes, as a key holder can make it.
private func sealed(_ payload: [UInt8]) -> [UInt8] {
  let tag = bytes(key.tag.mac(of: payload.span))
  let id = (0..<8).map { UInt8(truncatingIfNeeded: key.id >> (8 * UInt64($0))) }
  let idMask = bytes(key.idMask.mac(of: tag.span))
  let mask = bytes(key.mask.mac(of: tag.span))
  return tag + zip(id, idMask).map { $0 ^ $1 } + zip(payload, mask).map { $0 ^ $1 }
}

private func payload(
  _ head: [UInt8] = [1, 0, 0, 0], seconds: [UInt8] = [0, 0, 0, 0], time: UInt64 = UInt64(now),
  address: [UInt8] = [UInt8](repeating: 0, count: 10) + [255, 255, 192, 0, 2, 7]
) -> [UInt8] {
  head + seconds + (0..<8).map { UInt8(truncatingIfNeeded: time >> (8 * $0)) } + address
}

/// What becomes of a request: nil if it is well formed.
private func refusal(of datagram: [UInt8]) -> Refusal? {
  do throws(Refusal) {
    _ = try key.open(datagram)
    return nil
  } catch { return error }
}

@Suite struct RequestTests {
  @Test func `the good requests of the vectors are made and read`() throws {
    for vector in try Vectors.read().keys {
      let key = DerivedKey(vector)
      for good in vector.good {
        let request = Version2.Request(
          try #require(Version2.Purpose(rawValue: good.command)), wantsAnswer: good.flags == 1,
          seconds: good.seconds, time: try #require(Int64(good.micros)),
          address: address(good.address))
        #expect(key.seal(request) == bytes(good.datagram))
        #expect(try key.open(bytes(good.datagram)) == request)
      }
    }
  }

  /// The gate does what comes after the fields: the time, the memory and the address.
  @Test func `the requests of the vectors are refused for what is wrong with them`() throws {
    let vectors = try Vectors.read()
    let key = DerivedKey(try #require(vectors.keys.first))
    let now = try #require(Int64(vectors.nowMicros))
    var memory: Set<[UInt8]> = []
    for vector in vectors.serverWithTheFirstKey {
      let datagram = bytes(vector.datagram)
      let result: String
      do throws(Refusal) {
        let request = try key.open(datagram)
        if request.time.subtractingSaturated(now).magnitude
          > (vectors.driftSeconds * Microseconds.second).magnitude
        {
          throw .stale
        }
        if memory.contains(datagram) { throw .replayed }
        guard let address = request.address else { throw .unspecifiedAddress }
        if let refusal = address.refusal { throw refusal }
        memory.insert(datagram)
        result = "accepted"
      } catch { result = "\(error)" }
      #expect(result == vector.result, "\(vector.name)")
    }
  }

  @Test func `each flipped bit of a request is noticed`() {
    let datagram = key.seal(request)
    #expect(refusal(of: datagram) == nil)
    for bit in 0..<datagram.count * 8 {
      var other = datagram
      other[bit / 8] ^= 1 << (bit % 8)
      #expect(refusal(of: other) == (bit < 40 * 8 ? .unknownKey : .badMAC), "bit \(bit)")
    }
    for count in 0...100 where count != datagram.count {
      let other = (datagram + [UInt8](repeating: 0, count: 28)).prefix(count)
      #expect(refusal(of: Array(other)) == .wrongLength)
    }
  }

  @Test func `a request of another key or another server is noticed`() {
    let others = [
      DerivedKey(serverID: Array(0..<16), secret: Array(101..<133)),
      DerivedKey(serverID: Array(1..<17), secret: Array(100..<132)),
    ]
    for other in others { #expect(refusal(of: other.seal(request)) == .unknownKey) }
    // The id of our key, which all who have one of this server can tell.
    let forged = Datagram(
      request, id: key.id, tagKey: others[0].tag, maskKey: others[0].mask, idMaskKey: key.idMask)
    #expect(refusal(of: forged.withBytes { bytes in bytes.indices.map { bytes[$0] } }) == .badMAC)
  }

  @Test func `of the first four bytes only a few values are allowed`() {
    for index in 0..<4 {
      for byte in UInt8.min...UInt8.max {
        var head: [UInt8] = [1, 0, 0, 0]
        head[index] = byte
        let expected: Refusal? =
          switch index {
          case 0: (1...3).contains(byte) ? nil : .unknownCommand
          case 1: byte <= 1 ? nil : .unknownFlag
          case 2: byte == 0 ? nil : .unknownDoor
          default: byte == 0 ? nil : .reservedByte
          }
        #expect(refusal(of: sealed(payload(head))) == expected)
      }
    }
  }

  @Test func `the first thing that is wrong is the reason`() {
    #expect(refusal(of: sealed(payload([0, 2, 1, 1], seconds: [1, 0, 0, 0]))) == .unknownCommand)
    #expect(refusal(of: sealed(payload([2, 2, 1, 1], seconds: [1, 0, 0, 0]))) == .unknownFlag)
    #expect(refusal(of: sealed(payload([2, 1, 1, 1], seconds: [1, 0, 0, 0]))) == .unknownDoor)
    #expect(refusal(of: sealed(payload([2, 1, 0, 1], seconds: [1, 0, 0, 0]))) == .reservedByte)
  }

  @Test func `only an open can have seconds`() {
    for command in UInt8(1)...3 {
      for index in 0..<4 {
        var seconds: [UInt8] = [0, 0, 0, 0]
        seconds[index] = 0x80
        #expect(
          refusal(of: sealed(payload([command, 1, 0, 0], seconds: seconds)))
            == (command == 1 ? nil : .secondsNotZero))
      }
    }
  }

  @Test(
    arguments: [
      (0, 0), (1, 1), (UInt64(Int64.max) - 1, .max - 1), (UInt64(Int64.max), .max),
      (1 << 63, .max), (.max, .max),
    ] as [(UInt64, Int64)])
  func `a time that does not fit is the greatest`(time: UInt64, expected: Int64) throws {
    let payload = try key.payload(of: sealed(payload(time: time)))
    #expect(payload.time == expected)
    #expect(try Version2.Request(payload).time == expected)
  }

  @Test func `a time before 1970 is made, and read as the greatest`() throws {
    for time in [-1, .min] as [Int64] {
      let request = Version2.Request(
        .close, wantsAnswer: false, seconds: 0, time: time, address: nil)
      #expect(try key.open(key.seal(request)).time == .max)
    }
  }

  @Test(arguments: [
    ("::", nil), ("::1", "::1"), ("::ffff:0.0.0.0", "0.0.0.0"), ("::ffff:192.0.2.7", "192.0.2.7"),
    ("::fffe:192.0.2.7", "::fffe:192.0.2.7"), ("::192.0.2.7", "::192.0.2.7"),
    ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
  ])
  func `sixteen bytes are one address, or the source`(input: String, expected: String?) throws {
    let network = [UInt8](unsafeUninitializedCapacity: 16) { buffer, count in
      _ = inet_pton(AF_INET6, input, buffer.baseAddress)
      count = 16
    }
    let read = try key.open(sealed(payload(address: network)))
    #expect(read.address == expected.flatMap { address($0) })
    #expect(key.seal(read) == sealed(payload(address: network)))
  }

  @Test func `any 32 bytes of a key holder are read or refused`() {
    var generator = Generator(seed: 4)
    var wellFormed = 0
    for round in 0..<20_000 {
      var payload = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
      // Half of them have a good beginning.
      if round % 2 == 0 {
        payload.replaceSubrange(0..<4, with: [UInt8(round / 2 % 3) + 1, 0, 0, 0])
      }
      let datagram = sealed(payload)
      guard let request = try? key.open(datagram) else { continue }
      wellFormed += 1
      #expect(request.time == .max || key.seal(request) == datagram)
    }
    #expect(wellFormed > 3000)
  }
}
