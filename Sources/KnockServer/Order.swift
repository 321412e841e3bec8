import KnockBase
import KnockProtocol

/// What the receiver passes on of a datagram: a knock that the gate accepts, or one that it refuses and that is to be
/// answered.
public struct Order: Equatable, BitwiseCopyable, Sendable {
  public let user: UserNumber
  /// An observed source is already in it. For a check it is the open that the check asks about.
  public let knock: Knock
  /// Whether nothing is to be changed.
  public let isCheck: Bool
  /// How long the address shall stay open at most (seconds); 0 leaves that to the server.
  public let seconds: UInt32
  /// Why the gate refuses it; nil if it accepts it.
  public let refusal: Refused?
  /// Nil if it is no host's.
  public let source: Address?
  /// Nil if no answer is wanted, or if the server gives none.
  public let reply: ReplyPath?
  public let fingerprint: Fingerprint

  /// The refusals that are answered. Their numbers are those of an answer, see `Version2`.
  public enum Refused: UInt8, BitwiseCopyable, Sendable {
    case notAllowed = 2
    case noRoom = 3
  }

  public init(
    user: UserNumber, _ knock: Knock, isCheck: Bool = false, seconds: UInt32 = 0,
    refusal: Refused? = nil, source: Address?, reply: ReplyPath? = nil, _ fingerprint: Fingerprint
  ) {
    self.user = user
    self.knock = knock
    self.isCheck = isCheck
    self.seconds = seconds
    self.refusal = refusal
    self.source = source
    self.reply = reply
    self.fingerprint = fingerprint
  }
}

/// Where a datagram came from, and what it was sent to: as system calls have them. Nobody here reads it.
public struct ReplyPath: Equatable, BitwiseCopyable, Sendable {
  public static let size = 48

  private let words: InlineArray<6, UInt64>

  /// - Parameter bytes: 48 of them.
  public init(_ bytes: Span<UInt8>) {
    words = InlineArray { bytes.littleEndian(at: 8 * $0, count: 8) }
  }

  @inline(never)
  public func write(to bytes: inout MutableSpan<UInt8>, at start: Int) {
    for index in 0..<Self.size {
      bytes[start + index] = UInt8(
        truncatingIfNeeded: words[index / 8] >> UInt64(8 * (index % 8)))
    }
  }

  public static func == (one: ReplyPath, other: ReplyPath) -> Bool {
    for index in one.words.indices where one.words[index] != other.words[index] { return false }
    return true
  }
}

/// Where a datagram came from.
public struct Origin {
  /// Nil if it has no address of a known family.
  let source: Address?
  /// Nil if the server gives no answers.
  let reply: ReplyPath?

  public init(_ source: Address?, reply: ReplyPath? = nil) {
    self.source = source
    self.reply = reply
  }
}
