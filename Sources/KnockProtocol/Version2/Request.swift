import KnockBase

extension Version2 {
  /// What a request is for.
  public enum Purpose: UInt8, BitwiseCopyable, Sendable {
    case open = 1
    case close = 2
    /// Changes nothing: asks what an open would get.
    case check = 3
  }

  /// A well-formed request.
  public struct Request: Equatable, BitwiseCopyable, Sendable {
    public let purpose: Purpose
    public let wantsAnswer: Bool
    /// How long it shall stay open at most; 0 leaves it to the server. In close and check, 0.
    public let seconds: UInt32
    /// Microseconds since the Unix epoch. No two requests of a key have the same.
    public let time: Int64
    /// Nil for the one that the datagram comes from.
    public let address: Address?

    public init(
      _ purpose: Purpose, wantsAnswer: Bool, seconds: UInt32, time: Int64, address: Address?
    ) {
      self.purpose = purpose
      self.wantsAnswer = wantsAnswer
      self.seconds = seconds
      self.time = time
      self.address = address
    }

    /// Reads what was in a request: step 4 of the server.
    ///
    /// - Throws: `unknownCommand`, `unknownFlag`, `unknownDoor`, `reservedByte`, `secondsNotZero`.
    public init(_ payload: Payload) throws(Refusal) {
      guard let purpose = Purpose(rawValue: payload.code) else { throw .unknownCommand }
      guard payload.flags <= 1 else { throw .unknownFlag }
      guard payload.door == 0 else { throw .unknownDoor }
      guard payload.reserved == 0 else { throw .reservedByte }
      guard purpose == .open || payload.seconds == 0 else { throw .secondsNotZero }
      self.init(
        purpose, wantsAnswer: payload.flags == 1, seconds: payload.seconds, time: payload.time,
        address: payload.address)
    }
  }
}

extension Datagram {
  /// Seals a request: the tag, the masked id and the masked payload.
  ///
  /// - Parameter id: as `Version2.id` gives it.
  public init<Key: MACKey & ~Copyable>(
    _ request: Version2.Request, id: UInt64, tagKey: borrowing Key, maskKey: borrowing Key,
    idMaskKey: borrowing Key
  ) {
    let start = Version2.payloadOffset
    self.init(count: Version2.requestSize)
    put(id, count: 8, at: Version2.tagSize)
    put(
      Version2.Payload(
        code: request.purpose.rawValue, flags: request.wantsAnswer ? 1 : 0,
        seconds: request.seconds, time: request.time, address: request.address), at: start)
    sign(from: start, with: tagKey)
    mask(Version2.tagSize..<start, with: idMaskKey)
    mask(start..<Version2.requestSize, with: maskKey)
  }
}
