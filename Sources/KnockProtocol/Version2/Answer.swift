import KnockBase

extension Version2 {
  /// What the server says to a request.
  public struct Answer: Equatable, BitwiseCopyable, Sendable {
    /// The values of `result`. All others mean that it failed, too.
    public static var done: UInt8 { 0 }
    public static var failed: UInt8 { 1 }
    public static var notAllowed: UInt8 { 2 }
    /// There is no room in the queue: try again.
    public static var noRoom: UInt8 { 3 }

    public let result: UInt8
    /// How long it stays open from now; 0 until closed.
    public let seconds: UInt32
    /// The server's: microseconds since the Unix epoch; what does not fit is `.max`.
    public let time: Int64
    /// What it was about. Nil for 16 zeros.
    public let address: Address?

    public init(result: UInt8, seconds: UInt32, time: Int64, address: Address?) {
      self.result = result
      self.seconds = seconds
      self.time = time
      self.address = address
    }

    /// Opens an answer. Nil if it is not one of this server to the request with this tag.
    ///
    /// - Parameters:
    ///   - answer: a datagram of any length.
    ///   - tag: the first `tagSize` bytes of the request.
    public init?<Key: MACKey & ~Copyable>(
      opening answer: Span<UInt8>, to tag: Span<UInt8>, tagKey: borrowing Key,
      maskKey: borrowing Key
    ) {
      guard answer.count == answerSize else { return nil }
      let bytes = masked(answer, from: tagSize, by: maskKey)
      var message = Datagram(count: answerSize)
      message.put(tag, at: 0)
      message.put(bytes.span, at: tagSize)
      guard message.withBytes({ tagKey.verify(answer.extracting(first: tagSize), of: $0) }) else {
        return nil
      }
      let payload = Payload(bytes.span)
      self.init(
        result: payload.code, seconds: payload.seconds, time: payload.time,
        address: payload.address)
    }
  }
}

extension Datagram {
  /// Seals an answer to the request with this tag: a tag of its own, and the masked payload.
  public init<Key: MACKey & ~Copyable>(
    _ answer: Version2.Answer, to tag: Span<UInt8>, tagKey: borrowing Key,
    maskKey: borrowing Key
  ) {
    self.init(count: Version2.answerSize)
    put(tag, at: 0)
    put(
      Version2.Payload(
        code: answer.result, flags: 0, seconds: answer.seconds, time: answer.time,
        address: answer.address), at: Version2.tagSize)
    sign(from: 0, with: tagKey)
    mask(Version2.tagSize..<Version2.answerSize, with: maskKey)
  }
}
