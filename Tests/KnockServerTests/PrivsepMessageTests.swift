import KnockBase
import KnockProtocol
import KnockServer
import Testing

private let userSize = 1000
private let inet = Address.inet(0xC000_0201)  // 192.0.2.1
private let inet6 = Address.inet6(high: 0x2001_0DB8_0000_0000, low: 0x0001_0002)

/// The MAC 0, 1, 2 to 31, and the time stamp 0x0102.
private let fingerprint = makeFingerprint()

private func makeFingerprint() -> Fingerprint {
  let mac = (0..<32).map { UInt8($0) }
  return Fingerprint(mac: mac.span, timeStamp: 0x0102)
}

private let fingerprintBytes = (0..<32).map { UInt8($0) } + [2, 1, 0, 0, 0, 0, 0, 0]

private func bytes(_ message: PrivsepMessage) -> [UInt8] {
  message.withBytes { span in span.indices.map { span[$0] } }
}

private func read(_ bytes: [UInt8]) -> PrivsepMessage? {
  PrivsepMessage(bytes.span, userSize: userSize)
}

/// The path 1, 2 to 48.
private let pathBytes = (1...48).map { UInt8($0) }
private let noPath = [UInt8](repeating: 0, count: 48)

/// The message of a knock with any address and source at all.
private func knock(_ address: [UInt8], from source: [UInt8] = []) -> [UInt8] {
  [2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0] + sized(address) + sized(source) + noPath + fingerprintBytes
}

private func sized(_ address: [UInt8]) -> [UInt8] {
  [UInt8(address.count)] + address + [UInt8](repeating: 0, count: 16 - address.count)
}

@Suite struct PrivsepMessageTests {
  @Test func `a knock arrives as it was sent`() {
    for address in [inet, inet6] {
      for command in [Command.open, .close] {
        for user in [0, 1, 0x0102_0304, .max] as [UserNumber] {
          for source in [nil, inet, inet6] {
            let message = PrivsepMessage.knock(
              Order(
                user: user, Knock(command: command, address: address), source: source,
                fingerprint))
            #expect(bytes(message).count == PrivsepMessage.knockSize)
            #expect(read(bytes(message)) == message)
          }
        }
      }
    }
    #expect(
      bytes(
        .knock(
          Order(
            user: 0x0102_0304, Knock(command: .close, address: inet), source: inet, fingerprint)))
        == [2, 4, 3, 2, 1, 2, 0, 0, 0, 0, 0, 0] + sized([192, 0, 2, 1]) + sized([192, 0, 2, 1])
        + noPath + fingerprintBytes)
  }

  @Test(arguments: [true, false], [nil, .notAllowed, .noRoom] as [Order.Refused?])
  func `what wants an answer arrives as it was sent`(isCheck: Bool, refusal: Order.Refused?) {
    let order = Order(
      user: 5, Knock(command: .open, address: inet), isCheck: isCheck,
      seconds: isCheck ? 0 : 0x0102_0304, refusal: refusal, source: inet,
      reply: ReplyPath(pathBytes.span), fingerprint)
    let expected =
      [2, 5, 0, 0, 0, isCheck ? 3 : 1, refusal?.rawValue ?? 0, 1]
      + (isCheck ? [0, 0, 0, 0] : [4, 3, 2, 1])
      + sized([192, 0, 2, 1]) + sized([192, 0, 2, 1]) + pathBytes + fingerprintBytes
    #expect(bytes(.knock(order)) == expected)
    #expect(read(expected) == .knock(order))
  }

  @Test func `the other messages arrive as they were sent`() {
    #expect(bytes(.ready) == [1])
    #expect(read([1]) == .ready)
    #expect(bytes(.user) == [3])
    #expect(read([3] + [UInt8](repeating: 7, count: userSize)) == .user)
    #expect(bytes(.updateTally) == [4])
    #expect(read([4]) == .updateTally)
    #expect(bytes(.removeUser(0x0102_0304)) == [5, 4, 3, 2, 1])
    #expect(read([5, 4, 3, 2, 1]) == .removeUser(0x0102_0304))
    #expect(bytes(.usersTold) == [6])
    #expect(read([6]) == .usersTold)
  }

  @Test func `each message has exactly its size`() {
    let messages: [[UInt8]] = [
      [1],
      bytes(.knock(Order(user: 0, Knock(command: .open, address: inet), source: nil, fingerprint))),
      [3] + [UInt8](repeating: 0, count: userSize), [4], bytes(.removeUser(1)), [6],
    ]
    #expect(read([]) == nil)
    for message in messages {
      #expect(read(message) != nil)
      for length in 1...1100 where length != message.count {
        let zeros = [UInt8](repeating: 0, count: 1100)
        #expect(read(Array((message + zeros)[..<length])) == nil)
      }
    }
  }

  @Test func `there are six kinds of message`() {
    for kind in UInt8.min...UInt8.max {
      for size in [1, PrivsepMessage.knockSize, 1 + userSize] {
        var message = [UInt8](repeating: 0, count: size)
        message.replaceSubrange(0..<1, with: [kind])
        if size == PrivsepMessage.knockSize { message = [kind] + knock([192, 0, 2, 1])[1...] }
        let isMessage =
          (kind, size) == (1, 1) || (kind, size) == (2, 134) || (kind, size) == (3, 1001)
          || (kind, size) == (4, 1) || (kind, size) == (5, 5) || (kind, size) == (6, 1)
        #expect((read(message) != nil) == isMessage, "\(kind) \(size)")
      }
    }
  }

  @Test func `what no receiver sends is no message`() {
    let good = knock([192, 0, 2, 1], from: [192, 0, 2, 2])
    for (offset, values) in [
      (5, 0...255), (6, 1...255), (7, 1...255), (12, 0...255), (17, 1...255), (28, 1...255),
      (29, 0...255), (34, 1...255), (46, 1...255), (93, 1...255),
    ] {
      for value in values where good[offset] != UInt8(value) {
        var message = good
        message[offset] = UInt8(value)
        // Other commands, a wanted answer, and an IPv6 address that begins with the bytes of the IPv4 one.
        let isSound =
          offset == 5 && (2...3).contains(value) || offset == 7 && value == 1
          || (offset == 12 || offset == 29) && value == 16
        #expect((read(message) != nil) == isSound, "\(offset) \(value)")
      }
    }
  }

  @Test(arguments: [2, 3] as [UInt8]) func `only an open has seconds`(command: UInt8) {
    var message = knock([192, 0, 2, 1])
    message[11] = 1
    #expect(read(message) != nil)
    message[5] = command
    #expect(read(message) == nil)
  }

  @Test func `a refusal passes only with an answer`() {
    var message = knock([192, 0, 2, 1])
    message[6] = 3
    #expect(read(message) == nil)
    message[7] = 1
    #expect(read(message) != nil)
  }

  @Test(arguments: [
    [0, 0, 0, 0], [255, 255, 255, 255], [224, 0, 0, 1], [UInt8](repeating: 0, count: 16),
    [255] + [UInt8](repeating: 1, count: 15),
    // An IPv4 address in an IPv6 one.
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1],
  ])
  func `an address that no host has is no message`(address: [UInt8]) {
    #expect(read(knock(address)) == nil)
    #expect(
      address.count == 4 && address[0] == 0 || read(knock([192, 0, 2, 1], from: address)) == nil)
  }
}
