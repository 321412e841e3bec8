import KnockBase

/// The name of a table or a set: 1 to 255 bytes that no shell or program needs quotes for.
///
/// It refers to the text. Copies of 256 bytes in each name made the program 5 KiB larger.
@safe public struct SetName: BitwiseCopyable, @unchecked Sendable {
  /// The most bytes with the NUL. Source: NFT_NAME_MAXLEN, linux/netfilter/nf_tables.h.
  public static let nftLimit = 256
  /// The most bytes with the NUL. Source: IPSET_MAXNAMELEN, linux/netfilter/ipset/ip_set.h.
  public static let ipsetLimit = 32

  private let bytes: UnsafeBufferPointer<UInt8>

  /// Nil if the text is empty, has `limit` bytes or more, or has a byte other than letters, digits
  /// and `_.-:/`.
  ///
  /// - Parameter text: must stay in memory as long as the name, as arguments of the program do.
  public init?(_ text: Span<UInt8>, limit: Int) {
    guard text.count > 0, text.count < limit else { return nil }
    for index in text.indices {
      switch text[index] {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: ":"), UInt8(ascii: "-")...UInt8(ascii: "/"),
        UInt8(ascii: "_"):
        break
      default: return nil
      }
    }
    unsafe bytes = text.withUnsafeBufferPointer { unsafe $0 }
  }

  func withBytes(_ body: (Span<UInt8>) -> Void) { unsafe body(bytes.span) }
}

extension TextSink where Self: ~Copyable {
  public mutating func append(_ name: SetName) { name.withBytes { append($0) } }
}
