import KnockBase
import KnockProtocol
import KnockServer
import TestSupport
import Testing

private let now: Int64 = 1_700_000_000_250_000
private let drift = 60 * Microseconds.second
private let serverID = [UInt8](repeating: 7, count: 16)
private let key = DerivedKey(serverID: serverID, secret: [UInt8](repeating: 1, count: 32))
private let otherKey = DerivedKey(serverID: serverID, secret: [UInt8](repeating: 2, count: 32))
private let version1Key = Array("correct horse battery staple".utf8)
private let documentation = Address.inet(0xC000_0201)  // 192.0.2.1
private let pathBytes = (1...48).map { UInt8($0) }
private let path = ReplyPath(pathBytes.span)

/// The users of version 1 come first.
private func makeGate(
  version1: [[UInt8]] = [], keys: [DerivedKey] = [key], _ policy: Policy = policy(),
  acceptsVersion1: Bool = true, capacity: Int = 16
) -> Gate<TestKeys> {
  var users = emptyUsers()
  for (number, key) in version1.enumerated() {
    _ = users.insert(userName("old\(number)"), key: KeyFingerprint(of: TestKey(key)), policy)
  }
  for (number, key) in keys.enumerated() {
    _ = users.insert(
      userName("new\(number)"), key: KeyFingerprint(low: key.id, high: 1), version: 2, policy)
  }
  return Gate(
    keys: TestKeys(version1, version2: keys), users: users, drift: drift,
    acceptsVersion1: acceptsVersion1, replays: replayMemory(capacity))
}

/// A good payload: open 192.0.2.1. The tests change its bytes.
private func payload(time: Int64 = now, _ changes: [Int: UInt8] = [:]) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: 32)
  bytes[0] = 1
  for index in 0..<8 { bytes[8 + index] = UInt8(truncatingIfNeeded: time >> Int64(8 * index)) }
  bytes.replaceSubrange(26..<32, with: [255, 255, 192, 0, 2, 1])
  for (offset, byte) in changes { bytes[offset] = byte }
  return bytes
}

/// The payload with another address.
private func payload(of address: [UInt8], _ changes: [Int: UInt8] = [:]) -> [UInt8] {
  var bytes = payload(changes)
  bytes.replaceSubrange(16..<32, with: address)
  return bytes
}

private let observed = [UInt8](repeating: 0, count: 16)
private let mappedZero = [UInt8](repeating: 0, count: 10) + [255, 255, 0, 0, 0, 0]
private let wantsAnswer: [Int: UInt8] = [1: 1]

/// A request with any payload at all.
private func sealed(_ payload: [UInt8], _ key: DerivedKey = key) -> [UInt8] {
  func mac(_ key: TestKey, _ bytes: [UInt8]) -> [UInt8] {
    let mac = key.mac(of: bytes.span)
    return mac.indices.map { mac[$0] }
  }
  let tag = mac(key.tag, payload)
  let id = (0..<8).map { UInt8(truncatingIfNeeded: key.id >> UInt64(8 * $0)) }
  return tag + zip(id, mac(key.idMask, tag)).map { $0 ^ $1 }
    + zip(payload, mac(key.mask, tag)).map { $0 ^ $1 }
}

private func verdict(
  _ datagram: [UInt8], at wall: Int64 = now, hasRoom: Bool = true,
  from origin: Origin = Origin(documentation), _ gate: inout Gate<TestKeys>
) -> Verdict {
  gate.admit(
    datagram.span, at: Moment(wall: wall, monotonic: wall &- now &+ 1), hasRoom: hasRoom,
    origin: { origin })
}

/// Why a datagram is refused; nil if it is accepted.
private func refused(
  _ datagram: [UInt8], at wall: Int64 = now, hasRoom: Bool = true,
  from origin: Origin = Origin(documentation), _ gate: inout Gate<TestKeys>
) -> Refusal? {
  switch verdict(datagram, at: wall, hasRoom: hasRoom, from: origin, &gate) {
  case .accepted: nil
  case .refused(let refusal, _), .unauthentic(let refusal): refusal
  }
}

/// What is answered to a refused datagram.
private func answer(
  _ datagram: [UInt8], at wall: Int64 = now, hasRoom: Bool = true, _ gate: inout Gate<TestKeys>
) -> Order.Refused? {
  let origin = Origin(documentation, reply: path)
  switch verdict(datagram, at: wall, hasRoom: hasRoom, from: origin, &gate) {
  case .refused(_, let header):
    #expect(header.order == nil || header.order?.reply == path)
    return header.order?.refusal
  case .accepted, .unauthentic: return nil
  }
}

@Suite struct Version2GateTests {
  @Test func `an accepted request passes on all that it says`() {
    var gate = makeGate(timed())
    let datagram = sealed(payload([1: 1, 4: 0x10, 5: 0x0E]))
    guard
      case .accepted(let order, let user, let clockSkew) = verdict(
        datagram, at: now + 5, from: Origin(.inet(1), reply: path), &gate)
    else {
      Issue.record("refused")
      return
    }
    #expect(clockSkew == -5 && user.name == userName("new0"))
    #expect(
      order
        == Order(
          user: user.number, Knock(command: .open, address: documentation), seconds: 3600,
          source: .inet(1), reply: path, Fingerprint(mac: datagram.span, timeStamp: now)))
  }

  @Test func `without the flag or without answers nothing is answered`() {
    var gate = makeGate()
    for (time, flag, origin) in [
      (now, 0, Origin(documentation, reply: path)), (now + 1, 1, Origin(documentation)),
    ] as [(Int64, UInt8, Origin)] {
      guard
        case .accepted(let order, _, _) = verdict(
          sealed(payload(time: time, [1: flag])), from: origin, &gate)
      else {
        Issue.record("refused")
        continue
      }
      #expect(order.reply == nil)
    }
  }

  @Test func `the server does what the vectors say`() throws {
    let vectors = try Vectors.read()
    #expect(vectors.driftSeconds * Microseconds.second == drift)
    let wall = try #require(Int64(vectors.nowMicros))
    var gate = makeGate(keys: [DerivedKey(vectors.keys[0])], timed(), capacity: 64)
    for vector in vectors.serverWithTheFirstKey {
      let found = refused(bytes(vector.datagram), at: wall, &gate)
      #expect(found.map { "\($0)" } ?? "accepted" == vector.result, "\(vector.name)")
    }
  }

  @Test func `the steps have their order`() {
    var gate = makeGate(capacity: 1)
    #expect(refused(sealed(payload(time: now - 1)), &gate) == nil)
    // Each datagram lacks what the steps before demand no longer. All are stale.
    var changes: [Int: UInt8] = [0: 9, 1: 2, 2: 1, 3: 1, 4: 1]
    func refusal(_ changes: [Int: UInt8], time: Int64 = now - 2 * drift) -> Refusal? {
      var bytes = payload(of: [255] + observed[1...], changes)
      bytes.replaceSubrange(8..<16, with: payload(time: time)[8..<16])
      return refused(sealed(bytes), hasRoom: false, &gate)
    }
    #expect(refusal(changes) == .unknownCommand)
    changes[0] = 2
    #expect(refusal(changes) == .unknownFlag)
    changes[1] = 1
    #expect(refusal(changes) == .unknownDoor)
    changes[2] = 0
    #expect(refusal(changes) == .reservedByte)
    changes[3] = 0
    #expect(refusal(changes) == .secondsNotZero)
    changes[0] = 1
    #expect(refusal(changes) == .stale)
    #expect(refusal(changes, time: now) == .multicastAddress)
    #expect(refused(sealed(payload([4: 1])), hasRoom: false, &gate) == .timeNotKept)
    #expect(refused(sealed(payload()), hasRoom: false, &gate) == .queueFull)
    #expect(refused(sealed(payload()), &gate) == .replayMemoryFull)
  }

  @Test func `only three lengths are read on and only if a key is for them`() {
    var both = makeGate(version1: [version1Key])
    var only1 = makeGate(version1: [version1Key], keys: [])
    var only2 = makeGate()
    var without1 = makeGate(version1: [version1Key], acceptsVersion1: false)
    for length in 0...200 {
      let datagram = [UInt8](repeating: 1, count: length)
      let wrong1: Refusal = length == 49 || length == 61 ? .badMAC : .wrongLength
      let wrong2: Refusal = length == 72 ? .unknownKey : .wrongLength
      #expect(refused(datagram, &both) == (length == 72 ? wrong2 : wrong1))
      #expect(refused(datagram, &only1) == wrong1)
      #expect(refused(datagram, &only2) == wrong2)
      #expect(refused(datagram, &without1) == wrong2)
    }
  }

  @Test func `every flipped bit is noticed and leaves no trace`() {
    var gate = makeGate()
    let datagram = sealed(payload())
    for bit in 0..<datagram.count * 8 {
      var changed = datagram
      changed[bit / 8] ^= 1 << UInt8(bit % 8)
      // Another tag or id leads to another id.
      #expect(refused(changed, &gate) == (bit < 40 * 8 ? .unknownKey : .badMAC))
    }
    #expect(refused(datagram, &gate) == nil)
  }

  @Test func `each user has their own key`() {
    var gate = makeGate(version1: [version1Key], keys: [otherKey, key])
    guard case .accepted(_, let user, _) = verdict(sealed(payload()), &gate) else {
      Issue.record("refused")
      return
    }
    #expect(user.name == userName("new1"))
    var without = makeGate(keys: [otherKey])
    #expect(refused(sealed(payload()), &without) == .unknownKey)
    // With the id of somebody else.
    var datagram = sealed(payload())
    for index in 0..<8 {
      datagram[32 + index] ^= UInt8(truncatingIfNeeded: (key.id ^ otherKey.id) >> UInt64(8 * index))
    }
    #expect(refused(datagram, &gate) == .badMAC)
  }

  @Test func `a user of version 1 has no id`() {
    var users = emptyUsers()
    _ = users.insert(.none, key: KeyFingerprint(low: key.id, high: 1), policy())
    var gate = Gate(
      keys: TestKeys([], version2: [key]), users: users, drift: drift, replays: replayMemory(1))
    #expect(refused(sealed(payload()), &gate) == .unknownKey)
  }

  @Test func `seconds in close and check are refused`() {
    var gate = makeGate(timed())
    for command in [2, 3] as [UInt8] {
      #expect(refused(sealed(payload([0: command, 7: 1])), &gate) == .secondsNotZero)
      #expect(refused(sealed(payload([0: command])), &gate) == nil)
    }
  }

  @Test func `the time is compared as 64 bits`() {
    for (time, wall, isFresh) in [
      (now - drift, now, true), (now - drift - 1, now, false), (now + drift, now, true),
      (now + drift + 1, now, false), (0, 0, true), (drift, 0, true), (0, -1, false),
      (drift - 1, -1, false), (0, .min, false), (.max, now, false), (-1, 0, false), (-1, -1, false),
      (.min, .min, false),
    ] as [(Int64, Int64, Bool)] {
      var gate = makeGate()
      let found = refused(sealed(payload(time: time)), at: wall, &gate)
      #expect(found == (isFresh ? nil : .stale), "\(time) \(wall)")
    }
  }

  @Test func `zeros are for the source where the server allows it and in a check`() {
    for allowed in [true, false] {
      for command in [1, 2, 3] as [UInt8] {
        var gate = makeGate(policy(allowsObservedSource: allowed))
        let datagram = sealed(payload(of: observed, [0: command]))
        // A source that no host has replaces nothing that could pass.
        for source in [nil, .inet(0)] as [Address?] {
          #expect(refused(datagram, from: Origin(source), &gate) == .unspecifiedAddress)
        }
        let found = verdict(datagram, from: Origin(documentation), &gate)
        if case .accepted(let order, _, _) = found {
          #expect(allowed || command == 3)
          #expect(order.knock.address == documentation && order.isCheck == (command == 3))
          #expect(order.knock.command == (command == 2 ? .close : .open))
        } else {
          #expect(!allowed && command != 3)
        }
      }
    }
  }

  @Test(arguments: [1, 2, 3] as [UInt8])
  func `the unspecified address of IPv4 is never replaced`(command: UInt8) {
    var gate = makeGate(policy(allowsObservedSource: true))
    let datagram = sealed(payload(of: mappedZero, [0: command]))
    #expect(refused(datagram, &gate) == .unspecifiedAddress)
  }

  @Test func `a named address is not replaced by the source`() {
    var gate = makeGate(policy(allowsObservedSource: true))
    let found = verdict(sealed(payload([0: 3])), from: Origin(.inet(1)), &gate)
    guard case .accepted(let order, _, _) = found else {
      Issue.record("refused")
      return
    }
    #expect(order.knock.address == documentation)
  }

  @Test func `a check is judged as an open`() {
    var policy = policy()
    policy.mayOpen = false
    var gate = makeGate(policy)
    #expect(refused(sealed(payload([0: 3])), &gate) == .commandNotAllowed)
    #expect(refused(sealed(payload([0: 2])), &gate) == nil)
  }

  @Test func `what is refused is answered once and remembered before its address is looked at`() {
    var gate = makeGate()
    let address = sealed(payload(of: observed, wantsAnswer))
    #expect(answer(address, &gate) == .notAllowed)
    let ttl = sealed(payload([1: 1, 4: 1]))
    #expect(answer(ttl, &gate) == .notAllowed)
    let full = sealed(payload(time: now + 1, wantsAnswer))
    #expect(answer(full, hasRoom: false, &gate) == .noRoom)
    for datagram in [address, ttl, full] {
      #expect(answer(datagram, &gate) == nil)
      #expect(refused(datagram, from: Origin(documentation, reply: path), &gate) == .replayed)
    }
  }

  @Test func `what is refused without an answer is not remembered`() {
    var gate = makeGate(capacity: 1)
    for flags in [[:], wantsAnswer] {
      let address = sealed(payload(of: observed, flags))
      for _ in 0..<3 { #expect(refused(address, &gate) == .unspecifiedAddress) }
      let full = sealed(payload(flags))
      for _ in 0..<3 { #expect(refused(full, hasRoom: false, &gate) == .queueFull) }
    }
    #expect(refused(sealed(payload()), &gate) == nil)
  }

  @Test func `a copy from elsewhere neither uses up a request nor is answered`() {
    var onlyForSource = policy()
    onlyForSource.isOnlyForSource = true
    var oneRange = policy(allowsObservedSource: true)
    _ = oneRange.allow(AddressRange(documentation, prefixLength: 24))
    let oneFamily = policy(families: AddressFamilies { $0 == .inet }, allowsObservedSource: true)
    var timed = policy(allowsObservedSource: true)
    timed.inet.isTimed = true
    let cases: [(Policy, [UInt8], Address, Refusal)] = [
      (onlyForSource, payload(), .inet(1), .addressNotAllowed),
      (onlyForSource, payload(), .inet6(high: 1, low: 1), .addressNotAllowed),
      (onlyForSource, payload([0: 2]), .inet(1), .addressNotAllowed),
      (oneRange, payload(of: observed), .inet(1), .addressNotAllowed),
      (oneFamily, payload(of: observed), .inet6(high: 1, low: 1), .noSetForFamily),
      (timed, payload(of: observed, [4: 1]), .inet6(high: 1, low: 1), .timeNotKept),
    ]
    for (policy, bytes, elsewhere, refusal) in cases {
      var gate = makeGate(policy, capacity: 1)
      let datagram = sealed([bytes[0], 1] + bytes[2...])
      for _ in 0..<2 {
        let found = verdict(datagram, from: Origin(elsewhere, reply: path), &gate)
        guard case .refused(refusal, let header) = found, header.order == nil else {
          Issue.record("\(found)")
          continue
        }
      }
      #expect(refused(datagram, from: Origin(documentation, reply: path), &gate) == nil)
    }
  }

  @Test func `what is refused wherever it comes from is answered`() {
    var policy = policy(allowsObservedSource: true)
    policy.isOnlyForSource = true
    _ = policy.allow(AddressRange(documentation, prefixLength: 24))
    var opens = policy
    opens.mayClose = false
    var expired = policy
    expired.expires = now
    let cases: [(Policy, [UInt8])] = [
      // Its address is in no range.
      (policy, payload(of: [UInt8](repeating: 0, count: 10) + [255, 255, 10, 0, 0, 1])),
      (opens, payload([0: 2])), (opens, payload(of: observed, [0: 2])),
      (expired, payload()), (expired, payload(of: observed)),
      // Nothing keeps a time.
      (policy, payload(of: observed, [4: 1])),
      // Nothing is lost with a check.
      (policy, payload([0: 3])), (policy, payload(of: observed, [0: 3])),
    ]
    for (number, (policy, bytes)) in cases.enumerated() {
      var gate = makeGate(policy)
      let datagram = sealed([bytes[0], 1] + bytes[2...])
      let found = verdict(datagram, from: Origin(.inet(1), reply: path), &gate)
      if case .refused(_, let header) = found {
        #expect(header.order?.refusal == .notAllowed, "\(number)")
      } else {
        Issue.record("\(number) \(found)")
      }
      #expect(refused(datagram, &gate) == .replayed)
    }
  }

  @Test func `nothing is answered to what is stale or malformed or a replay`() {
    var gate = makeGate()
    for changes in [[0: 4], [1: 3], [2: 1], [3: 1], [0: 2, 4: 1]] as [[Int: UInt8]] {
      let datagram = sealed(payload(wantsAnswer.merging(changes) { $1 }))
      #expect(refused(datagram, from: Origin(documentation, reply: path), &gate) != nil)
      #expect(answer(datagram, &gate) == nil)
    }
    #expect(answer(sealed(payload(time: now - drift - 1, wantsAnswer)), &gate) == nil)
    let good = sealed(payload(wantsAnswer))
    #expect(refused(good, &gate) == nil)
    #expect(answer(good, &gate) == nil)
  }

  @Test func `nothing is answered if there is no room to remember it`() {
    var full = makeGate(capacity: 1)
    #expect(refused(sealed(payload()), &full) == nil)
    #expect(answer(sealed(payload(of: observed, wantsAnswer)), &full) == nil)
    // With several users, each has an eighth.
    var shared = makeGate(keys: [key, otherKey], capacity: 8)
    let first = sealed(payload(of: observed, wantsAnswer))
    #expect(answer(first, &shared) == .notAllowed)
    #expect(answer(sealed(payload(of: mappedZero, wantsAnswer)), &shared) == nil)
    #expect(refused(sealed(payload()), &shared) == .keyTooFast)
    #expect(answer(first, &shared) == nil)
    // That comes after the address, and before the user's limits and the queue.
    #expect(refused(sealed(payload(of: mappedZero)), &shared) == .unspecifiedAddress)
    #expect(refused(sealed(payload()), hasRoom: false, &shared) == .keyTooFast)
    #expect(refused(sealed(payload(), otherKey), &shared) == nil)
  }

  @Test func `the header of a refusal says what was asked for`() {
    var gate = makeGate()
    let datagram = sealed(payload(time: now - 2 * drift, [0: 3]))
    guard case .refused(.stale, let header) = verdict(datagram, &gate) else {
      Issue.record("not stale")
      return
    }
    #expect(header.isCheck && header.command == 3 && header.length == 72 && header.order == nil)
    #expect(header.knock == Knock(command: .open, address: documentation))
    #expect(header.clockSkew == -2 * drift)
  }

  @Test func `both versions share the memory and not each other's keys`() {
    var gate = makeGate(version1: [version1Key], capacity: 16)
    let knock = Knock(command: .open, address: documentation)
    let old = Datagram(knock, timeStamp: now, signedWith: TestKey(version1Key)).withBytes { bytes in
      bytes.indices.map { bytes[$0] }
    }
    #expect(refused(old, &gate) == nil)
    #expect(refused(sealed(payload()), &gate) == nil)
    #expect(refused(old, &gate) == .replayed)
    #expect(refused(sealed(payload()), &gate) == .replayed)
    #expect(refused(sealed(payload()), at: now + drift + 1, &gate) == .stale)
  }

  /// A policy whose places end by themselves.
  private func timed() -> Policy {
    var policy = policy()
    policy.inet.isTimed = true
    policy.inet6.isTimed = true
    return policy
  }
}
