import Foundation
import KnockBase
import KnockProtocol
import KnockServer
import TestSupport
import Testing

private let now = 1_700_000_000.25

private func microseconds(_ seconds: Double) -> Int64 { Int64((seconds * 1e6).rounded()) }

private func moment(_ seconds: Double) -> Moment {
  Moment(wall: microseconds(seconds), monotonic: 0)
}

/// Datagrams that the Python original made (its client, with `time.time` fixed to 1700000000.25).
private enum Original {
  // pyknock-client open 127.0.0.1 'correct horse battery staple'
  static let openInet: [UInt8] = [
    // HMAC-SHA256
    0x48, 0x4E, 0xAF, 0xB3, 0x12, 0xAF, 0xD4, 0x84, 0x3C, 0xF2, 0x42, 0xA7, 0x56, 0xAC, 0x55, 0x0A,
    0x7E, 0xAC, 0x62, 0x77, 0x10, 0xB7, 0x65, 0xAF, 0xA5, 0xD4, 0x63, 0xC4, 0x78, 0x2E, 0xD6, 0xD8,
    0x01,  // open
    0x00, 0x00, 0x10, 0x40, 0xFC, 0x54, 0xD9, 0x41,  // 1700000000.25
    0x02, 0x00, 0x00, 0x00,  // AF_INET
    127, 0, 0, 1,
  ]
  // pyknock-client -S 2001:db8::1:2 close 127.0.0.1 'clé secrète'
  static let closeInet6: [UInt8] = [
    0x03, 0xC3, 0x46, 0x24, 0x3D, 0x62, 0x17, 0xC6, 0xA8, 0xF0, 0x40, 0x56, 0x40, 0xB7, 0x70, 0x1A,
    0x29, 0x21, 0x02, 0x18, 0xA5, 0xFA, 0x92, 0xA5, 0x11, 0x82, 0xC2, 0x8A, 0x0F, 0x9A, 0x07, 0x5C,
    0x02,  // close
    0x00, 0x00, 0x10, 0x40, 0xFC, 0x54, 0xD9, 0x41,
    0x0A, 0x00, 0x00, 0x00,  // AF_INET6 of Linux
    0x20, 0x01, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0, 0x02,
  ]
  // pyknock-client -S 192.0.2.7 close 127.0.0.1 kkk...k (100 of them: over one block of SHA-256)
  static let longKey: [UInt8] = [
    0x43, 0xE5, 0x93, 0xED, 0x0B, 0x18, 0xCF, 0x78, 0x8A, 0x57, 0xAF, 0x63, 0x1C, 0x12, 0xE6, 0x38,
    0x93, 0x14, 0xD6, 0x8E, 0x7F, 0x86, 0xAE, 0x60, 0xC3, 0x3A, 0x0B, 0x43, 0xD5, 0x93, 0x60, 0xA5,
    0x02, 0x00, 0x00, 0x10, 0x40, 0xFC, 0x54, 0xD9, 0x41, 0x02, 0x00, 0x00, 0x00,
    192, 0, 2, 7,
  ]
}

/// The Latin-1 bytes of `clé secrète`.
private let latin1Key: [UInt8] = [
  0x63, 0x6C, 0xE9, 0x20, 0x73, 0x65, 0x63, 0x72, 0xE8, 0x74, 0x65,
]
private let key = Array("correct horse battery staple".utf8)

private func gate(
  _ key: [UInt8] = key, drift: Double = 60, capacity: Int = 16, allowsObservedSource: Bool = false,
  families: AddressFamilies = AddressFamilies { _ in true }
) -> Gate<TestKeys> {
  var users = emptyUsers()
  _ = users.insert(
    .none, key: KeyFingerprint(of: TestKey(key)),
    policy(families: families, allowsObservedSource: allowsObservedSource))
  return Gate(
    keys: TestKeys([key]), users: users, drift: microseconds(drift),
    replays: replayMemory(capacity))
}

/// A signed datagram with any fields at all.
private func signed(
  command: UInt8 = 1, time: Double = now, family: Int32 = 2, address: [UInt8] = [192, 0, 2, 1]
) -> [UInt8] {
  func little(_ value: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }
  return sign([command] + little(time.bitPattern) + little(family) + address)
}

private func sign(_ message: [UInt8]) -> [UInt8] {
  let mac = TestKey(key).mac(of: message.span)
  return mac.indices.map { mac[$0] } + message
}

/// What the gate says: a knock, or why not.
private func admit(
  _ datagram: [UInt8], at time: Double = now, hasRoom: Bool = true, from source: Address? = nil,
  _ gate: inout Gate<TestKeys>
) -> Result<Knock, Refusal> {
  switch gate.admit(
    datagram.span, at: moment(time), hasRoom: hasRoom, origin: { Origin(source) })
  {
  case .accepted(let order, let user, _):
    #expect(user.number == 1 << 14 && user.name == .none)
    return .success(order.knock)
  case .refused(let refusal, _):
    #expect(refusal != .wrongLength && refusal != .badMAC)
    return .failure(refusal)
  case .unauthentic(let refusal):
    #expect(refusal == .wrongLength || refusal == .badMAC)
    return .failure(refusal)
  }
}

private func admit(_ datagram: [UInt8], at time: Double = now) -> Result<Knock, Refusal> {
  var gate = gate()
  return admit(datagram, at: time, &gate)
}

private let documentation = Address.inet(0xC000_0201)  // 192.0.2.1

@Suite struct GateTests {
  @Test func `each refusal has its counter`() {
    for number in UInt8.min...UInt8.max {
      #expect((Refusal(rawValue: number) != nil) == (number < Refusal.count))
    }
  }

  @Test func `datagrams of the original are admitted`() {
    var asciiGate = gate()
    #expect(
      admit(Original.openInet, &asciiGate)
        == .success(Knock(command: .open, address: .inet(0x7F00_0001))))
    var latin1Gate = gate(latin1Key)
    #expect(
      admit(Original.closeInet6, &latin1Gate)
        == .success(
          Knock(
            command: .close,
            address: .inet6(high: 0x2001_0DB8_0000_0000, low: 0x0001_0002))))
    var longGate = gate([UInt8](repeating: UInt8(ascii: "k"), count: 100))
    #expect(
      admit(Original.longKey, &longGate)
        == .success(Knock(command: .close, address: .inet(0xC000_0207))))
  }

  @Test func `our datagrams are those of the original`() {
    func bytes(_ knock: Knock, _ key: [UInt8]) -> [UInt8] {
      Datagram(knock, timeStamp: microseconds(now), signedWith: TestKey(key)).withBytes { span in
        span.indices.map { span[$0] }
      }
    }
    #expect(
      bytes(Knock(command: .open, address: .inet(0x7F00_0001)), key)
        == Original.openInet)
    #expect(
      bytes(
        Knock(
          command: .close,
          address: .inet6(high: 0x2001_0DB8_0000_0000, low: 0x0001_0002)), latin1Key)
        == Original.closeInet6)
  }

  @Test func `of all lengths only two are read on`() {
    var gate = gate()
    for length in 0...4096 {
      let datagram = [UInt8](repeating: 1, count: length)
      let expected: Refusal = length == 49 || length == 61 ? .badMAC : .wrongLength
      #expect(admit(datagram, &gate) == .failure(expected))
    }
  }

  @Test func `a datagram cut short or made longer is refused`() {
    var gate = gate()
    for datagram in [signed(), signed(family: 10, address: latin1Key + [1, 2, 3, 4, 5])] {
      for length in 0..<datagram.count {
        let expected: Refusal = length == 49 ? .badMAC : .wrongLength
        #expect(admit(Array(datagram[..<length]), &gate) == .failure(expected))
      }
      #expect(admit(datagram + [0], &gate) == .failure(.wrongLength))
    }
  }

  @Test func `every flipped bit is noticed`() {
    for (datagram, key) in [
      (Original.openInet, key), (Original.closeInet6, latin1Key),
    ] {
      var gate = gate(key)
      for bit in 0..<datagram.count * 8 {
        var changed = datagram
        changed[bit / 8] ^= 1 << UInt8(bit % 8)
        #expect(admit(changed, &gate) == .failure(.badMAC))
      }
      // The attempts have left no trace.
      #expect((try? admit(datagram, &gate).get()) != nil)
    }
  }

  @Test func `a verdict says how far the clock of the sender is ahead`() throws {
    var gate = gate()
    let onlyUser = gate.users[0]
    let user = try #require(onlyUser)
    for skew in [-1.5, 0, 59.25] {
      let datagram = signed(time: now + skew)
      let verdict = gate.admit(datagram.span, at: moment(now), hasRoom: true) { Origin(nil) }
      let order = Order(
        user: user.number, Knock(command: .open, address: documentation), source: nil,
        Fingerprint(mac: datagram.span, timeStamp: microseconds(now + skew)))
      #expect(verdict == .accepted(order, by: user, clockSkew: microseconds(skew)))
    }
  }

  @Test func `a refusal says what the datagram said`() {
    var gate = gate(allowsObservedSource: true)
    func refusal(_ datagram: [UInt8]) -> (Refusal, Verdict.Header)? {
      let verdict = gate.admit(datagram.span, at: moment(now), hasRoom: true) {
        Origin(.inet(0))
      }
      guard case .refused(let refusal, let header) = verdict else { return nil }
      return (refusal, header)
    }
    let late = refusal(signed(command: 2, time: now - 61))
    #expect(late?.0 == .stale)
    #expect(late?.1.knock == Knock(command: .close, address: documentation))
    #expect(late?.1.clockSkew == microseconds(-61))
    let unknown = refusal(signed(command: 9, time: now + 1, family: 77))
    #expect(unknown?.0 == .unknownCommand)
    #expect(unknown?.1.knock == nil)
    #expect(unknown?.1.command == 9)
    #expect(unknown?.1.family == 77)
    #expect(unknown?.1.length == 49)
    #expect(unknown?.1.clockSkew == microseconds(1))
    let timeless = refusal(signed(time: .nan))
    #expect(timeless?.0 == .timeNotFinite)
    #expect(timeless?.1.clockSkew == nil)
    // The knock is what the sender wrote, whatever would have replaced its address.
    let unspecified = refusal(signed(address: [0, 0, 0, 0]))
    #expect(unspecified?.0 == .unspecifiedAddress)
    #expect(unspecified?.1.knock == Knock(command: .open, address: .inet(0)))
  }

  @Test func `the policy of the user says which families are allowed`() {
    var gate = gate(families: AddressFamilies { $0 == .inet6 })
    #expect(admit(signed(), &gate) == .failure(.noSetForFamily))
    let inet6 = [0x20, 0x01, 0x0D, 0xB8] + [UInt8](repeating: 0, count: 11) + [1]
    #expect((try? admit(signed(family: 10, address: inet6), &gate).get()) != nil)
  }

  @Test func `another key is refused`() {
    var gate = gate(Array("correct horse battery stapl".utf8))
    #expect(admit(Original.openInet, &gate) == .failure(.badMAC))
  }

  @Test func `only the commands 1 and 2 exist`() {
    for command in UInt8.min...UInt8.max {
      let result = admit(signed(command: command))
      switch command {
      case 1, 2: #expect((try? result.get())?.command.rawValue == command)
      default: #expect(result == .failure(.unknownCommand))
      }
    }
  }

  @Test func `families are those of the systems, each with its length`() {
    let inet6 = [0x20, 0x01, 0x0D, 0xB8] + [UInt8](repeating: 0, count: 11) + [1]
    let numbers: [Int32] =
      Array(-2...300) + [.min, .max, 2 << 8, 10 << 24, 2 | 1 << 24, 2 | 1 << 16]
    for family in numbers {
      let short = admit(signed(family: family))
      let long = admit(signed(family: family, address: inet6))
      switch family {
      case 2:
        #expect((try? short.get())?.address == documentation)
        #expect(long == .failure(.familyLengthMismatch))
      case 10, 23, 24, 28, 30:
        #expect(short == .failure(.familyLengthMismatch))
        #expect((try? long.get())?.address == .inet6(high: 0x2001_0DB8_0000_0000, low: 1))
      default:
        #expect(short == .failure(.unknownFamily))
        #expect(long == .failure(.unknownFamily))
      }
    }
  }

  @Test(arguments: [
    Double.nan, -.nan, .signalingNaN, .infinity, -.infinity,
    Double(bitPattern: 0x7FF8_DEAD_BEEF_0001), Double(bitPattern: .max),
  ])
  func `a time that is no number is refused`(time: Double) {
    #expect(admit(signed(time: time)) == .failure(.timeNotFinite))
  }

  @Test func `no clock of ours is too wrong to be compared`() {
    for time in [.min / 2, -1, 0, .max / 2] as [Int64] {
      for stamp in [now, 1e300, -1e300, 8e12, -8e12] {
        var gate = gate()
        let datagram = signed(time: stamp)
        let verdict = gate.admit(
          datagram.span, at: Moment(wall: time, monotonic: 0), hasRoom: true
        ) { Origin(nil) }
        guard case .refused(.stale, _) = verdict else {
          Issue.record("\(stamp) at \(time)")
          continue
        }
      }
    }
  }

  @Test func `the window is that of doubles to within a microsecond`() {
    var generator = Generator(seed: 1)
    for _ in 0..<2000 {
      let drift = pow(10, Double.random(in: -5...3, using: &generator))
      let edge = now + (Bool.random(using: &generator) ? drift : -drift)
      let time = edge + Double.random(in: -4e-6...4e-6, using: &generator)
      let excess = (time - now).magnitude - drift
      guard excess.magnitude > 1e-6 else { continue }
      var gate = gate(drift: drift)
      let isFresh = (try? admit(signed(time: time), &gate).get()) != nil
      #expect(isFresh == (excess < 0), "\(time) \(drift)")
    }
  }

  @Test(arguments: [
    (0.0, true), (60, true), (-60, true), (60.000001, false), (-60.000001, false), (59.999, true),
    (1e9, false), (-1e300, false), (.greatestFiniteMagnitude, false), (-now, false),
  ])
  func `the window is closed at both edges`(skew: Double, isFresh: Bool) {
    let result = admit(signed(time: now + skew))
    if isFresh {
      #expect((try? result.get())?.address == documentation)
    } else {
      #expect(result == .failure(.stale))
    }
  }

  @Test(
    arguments: [
      ([0, 0, 0, 0], Refusal.unspecifiedAddress), ([224, 0, 0, 1], .multicastAddress),
      ([255, 255, 255, 255], .broadcastAddress),
    ] as [([UInt8], Refusal)])
  func `an address that no host has is refused`(address: [UInt8], refusal: Refusal) {
    #expect(admit(signed(address: address)) == .failure(refusal))
    let mapped = [UInt8](repeating: 0, count: 10) + [255, 255] + address
    #expect(admit(signed(family: 10, address: mapped)) == .failure(refusal))
  }

  @Test func `if it is allowed the source replaces the unspecified address`() {
    let unspecified: [[UInt8]] = [[0, 0, 0, 0], [UInt8](repeating: 0, count: 16)]
    for address in unspecified {
      let datagram = signed(family: address.count == 4 ? 2 : 10, address: address)
      var strict = gate()
      #expect(admit(datagram, from: documentation, &strict) == .failure(.unspecifiedAddress))
      var lenient = gate(allowsObservedSource: true)
      // Without a source, or with one that no host has, it is as ever, and not remembered.
      #expect(admit(datagram, &lenient) == .failure(.unspecifiedAddress))
      #expect(admit(datagram, from: .inet(0), &lenient) == .failure(.unspecifiedAddress))
      #expect(
        admit(datagram, from: .inet(0xFFFF_FFFF), &lenient) == .failure(.broadcastAddress))
      #expect(
        admit(datagram, from: documentation, &lenient)
          == .success(Knock(command: .open, address: documentation)))
      #expect(admit(datagram, from: .inet(1), &lenient) == .failure(.replayed))
    }
  }

  @Test func `a named address is not replaced by the source`() throws {
    var lenient = gate(allowsObservedSource: true)
    let knock = try admit(signed(), from: .inet(1), &lenient).get()
    #expect(knock.address == documentation)
  }

  @Test func `a replay is refused for as long as it would be fresh`() {
    var gate = gate()
    let datagram = signed(time: now + 59)
    #expect((try? admit(datagram, &gate).get()) != nil)
    for time in [now, now + 1, now + 118.9, now + 119] {
      #expect(admit(datagram, at: time, &gate) == .failure(.replayed))
    }
    #expect(admit(datagram, at: now + 119.1, &gate) == .failure(.stale))
  }

  @Test func `a knock that is refused for its address can be sent again`() {
    var gate = gate(capacity: 1)
    let bad = signed(address: [0, 0, 0, 0])
    for _ in 0..<3 { #expect(admit(bad, &gate) == .failure(.unspecifiedAddress)) }
    #expect((try? admit(signed(), &gate).get()) != nil)
  }

  @Test func `a knock that cannot be queued is not remembered`() {
    var gate = gate(capacity: 1)
    let datagram = signed()
    for _ in 0..<3 { #expect(admit(datagram, hasRoom: false, &gate) == .failure(.queueFull)) }
    #expect((try? admit(datagram, &gate).get()) != nil)
    #expect(admit(datagram, &gate) == .failure(.replayed))
  }

  @Test func `a full memory refuses what is new and still knows what it holds`() {
    var gate = gate(capacity: 3)
    let datagrams = (0..<4).map { signed(time: now + Double($0)) }
    for datagram in datagrams[..<3] { #expect((try? admit(datagram, &gate).get()) != nil) }
    #expect(admit(datagrams[3], &gate) == .failure(.replayMemoryFull))
    for datagram in datagrams[..<3] { #expect(admit(datagram, &gate) == .failure(.replayed)) }
    // At now + 60.5 the first can no longer be replayed: its place is free.
    #expect((try? admit(datagrams[3], at: now + 60.5, &gate).get()) != nil)
    for datagram in datagrams[1...] {
      #expect(admit(datagram, at: now + 60.5, &gate) == .failure(.replayed))
    }
  }

  @Test func `what was forgotten stays refused when the clock goes back`() {
    var gate = gate()
    let old = signed(time: now)
    let later = now + 3600
    #expect((try? admit(old, &gate).get()) != nil)
    #expect((try? admit(signed(time: later), at: later, &gate).get()) != nil)
    #expect(admit(old, &gate) == .failure(.olderThanMemory))
    #expect(admit(signed(time: now - 1), &gate) == .failure(.olderThanMemory))
  }

  @Test func `a long run forgets nothing that is fresh and keeps nothing else`() {
    // Each second a knock with some skew, then each of the last ones again. With a drift of 10 at
    // most 21 can be remembered at a time.
    var gate = gate(drift: 10, capacity: 21)
    var recent: [(datagram: [UInt8], time: Double)] = []
    for second in 0..<2000 {
      let time = now + Double(second)
      let skew = Double((second * 7) % 19) - 9
      let datagram = signed(
        time: time + skew, address: [10, 0, UInt8(second >> 8), UInt8(second & 255)])
      #expect((try? admit(datagram, at: time, &gate).get()) != nil)
      recent.append((datagram, time + skew))
      for entry in recent.suffix(25) {
        let expected: Refusal = (entry.time - time).magnitude <= 10 ? .replayed : .stale
        #expect(admit(entry.datagram, at: time, &gate) == .failure(expected))
      }
    }
  }

  @Test func `a full queue takes no close either`() {
    var gate = gate()
    let datagram = signed(command: 2)
    #expect(admit(datagram, hasRoom: false, &gate) == .failure(.queueFull))
    #expect((try? admit(datagram, &gate).get()) != nil)
  }
}
