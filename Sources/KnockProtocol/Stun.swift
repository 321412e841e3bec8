import KnockBase

/// A request that asks a STUN server for our public address, and the reader of its answer. Source: RFC 8489,
/// sections 5 (header), 6.3 (answers) and 14.2 (XOR-MAPPED-ADDRESS). Numbers are big-endian:
///
///     offset  size    field
///     0       2       type: 0x0001 binding request, 0x0101 its success, 0x0111 its error
///     2       2       length of the attributes, a multiple of 4
///     4       4       magic cookie: 0x2112A442
///     8       12      transaction: random
///     20              attributes: type (2), length (2), value, padding to a multiple of 4
public struct StunRequest: BitwiseCopyable {
  private static let size = 20
  private static let cookie: UInt64 = 0x2112_A442
  private static let success: UInt64 = 0x0101
  private static let error: UInt64 = 0x0111
  private static let xorMappedAddress: UInt64 = 0x0020
  /// Attributes from here on need not be understood.
  private static let optionalAttributes: UInt64 = 0x8000

  /// Why an answer cannot be used.
  public enum Failure: Error, Equatable, Sendable {
    case malformed
    case otherTransaction
    case refused
    case unknownAttribute
    case noAddress
    case otherFamily
    case noHost

    /// What the server has sent, for a log line.
    public var reason: Literal {
      switch self {
      case .malformed: "an answer that is not whole"
      case .otherTransaction: "an answer to another question"
      case .refused: "an error"
      case .unknownAttribute: "an answer with an attribute that must be understood and is not"
      case .noAddress: "an answer without an address"
      case .otherFamily: "an address of another family"
      case .noHost: "an address that no host can have"
      }
    }
  }

  private var bytes = InlineArray<20, UInt8>(repeating: 0)

  /// - Parameter transaction: random bytes, so that nobody else can send an answer that fits.
  public init(transaction: InlineArray<12, UInt8>) {
    bytes[1] = 1
    for index in 0..<4 {
      bytes[4 + index] = UInt8(truncatingIfNeeded: Self.cookie >> UInt64(24 - 8 * index))
    }
    for index in transaction.indices { bytes[8 + index] = transaction[index] }
  }

  public func withBytes<Result, Failure: Error>(
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result { try body(bytes.span) }

  /// Reads the address in an answer.
  ///
  /// - Parameter onlyInet: whether servers see us with IPv4. Over IPv6, NAT64 may be on the way.
  public func address(
    in answer: Span<UInt8>, onlyInet: Bool
  ) throws(Failure) -> Address {
    guard answer.count >= Self.size, answer.count % 4 == 0,
      answer.bigEndian(at: 2, count: 2) == UInt64(answer.count - Self.size)
    else { throw .malformed }
    for index in 4..<Self.size where answer[index] != bytes[index] { throw .otherTransaction }
    switch answer.bigEndian(at: 0, count: 2) {
    case Self.success: break
    case Self.error: throw .refused
    default: throw .malformed
    }
    var address: Address?
    var start = Self.size
    while start < answer.count {
      let type = answer.bigEndian(at: start, count: 2)
      let length = Int(answer.bigEndian(at: start + 2, count: 2))
      start += 4
      guard length <= answer.count - start else { throw .malformed }
      if type == Self.xorMappedAddress {
        // The first one counts.
        if address == nil {
          address = try mappedAddress(answer.extracting(start..<start + length))
        }
      } else if type > Self.xorMappedAddress, type < Self.optionalAttributes {
        throw .unknownAttribute
      }
      start += (length + 3) / 4 * 4
    }
    guard let address else { throw .noAddress }
    guard !onlyInet || address.family == .inet else { throw .otherFamily }
    guard address.refusal == nil else { throw .noHost }
    return address
  }

  /// Reads the value of XOR-MAPPED-ADDRESS: an unused byte, the family (1 or 2), the port, and the address. The
  /// address is XORed with cookie and transaction, so that no NAT device on the way rewrites it.
  private func mappedAddress(_ value: Span<UInt8>) throws(Failure) -> Address {
    guard value.count == 8 || value.count == 20 else { throw .malformed }
    guard value[1] == (value.count == 8 ? 1 : 2) else { throw .otherFamily }
    var plain = InlineArray<16, UInt8>(repeating: 0)
    for index in 4..<value.count { plain[index - 4] = value[index] ^ bytes[index] }
    guard let address = Address(networkBytes: plain.span.extracting(first: value.count - 4)) else {
      throw .malformed
    }
    return address
  }
}
