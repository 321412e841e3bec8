import KnockBase
import KnockProtocol

/// A key of version 2 and all that is derived from it.
public struct DerivedKey: Sendable {
  public let id: UInt64
  public let tag, mask, answerTag, answerMask, idMask: TestKey

  public init(serverID: [UInt8], secret: [UInt8]) {
    var key = Version2.KeyBytes()
    for (index, byte) in (serverID + secret).enumerated() { key.bytes[index] = byte }
    let secret = TestKey(secret)
    id = key.id(by: secret)
    tag = TestKey(bytes(key.derive(.tag, by: secret)))
    mask = TestKey(bytes(key.derive(.mask, by: secret)))
    answerTag = TestKey(bytes(key.derive(.answerTag, by: secret)))
    answerMask = TestKey(bytes(key.derive(.answerMask, by: secret)))
    idMask = TestKey(bytes(key.derive(.idMask, by: TestKey(serverID))))
  }

  public init(_ key: Vectors.Key) {
    self.init(serverID: bytes(key.serverID), secret: bytes(key.secret))
  }

  public func seal(_ request: Version2.Request) -> [UInt8] {
    Datagram(request, id: id, tagKey: tag, maskKey: mask, idMaskKey: idMask)
      .withBytes { $0.withUnsafeBufferPointer { Array($0) } }
  }

  public func seal(_ answer: Version2.Answer, to tag: [UInt8]) -> [UInt8] {
    Datagram(answer, to: tag.span, tagKey: answerTag, maskKey: answerMask)
      .withBytes { $0.withUnsafeBufferPointer { Array($0) } }
  }

  /// What was in a request, as a server with this key alone finds it.
  public func payload(of datagram: [UInt8]) throws(Refusal) -> Version2.Payload {
    guard datagram.count == Version2.requestSize else { throw .wrongLength }
    guard Version2.id(in: datagram.span, by: idMask) == id else { throw .unknownKey }
    guard let payload = Version2.Payload(opening: datagram.span, tagKey: tag, maskKey: mask) else {
      throw .badMAC
    }
    return payload
  }

  public func open(_ datagram: [UInt8]) throws(Refusal) -> Version2.Request {
    try Version2.Request(payload(of: datagram))
  }

  public func open(_ answer: [UInt8], to tag: [UInt8]) -> Version2.Answer? {
    Version2.Answer(opening: answer.span, to: tag.span, tagKey: answerTag, maskKey: answerMask)
  }
}
