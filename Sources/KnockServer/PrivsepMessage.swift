import KnockBase
import KnockProtocol

/// What the receiver tells the executor: a knock, and nothing else. 18 bytes:
///
///     offset  size    field
///     0       1       command: 1 open, 2 close
///     1       1       length of the address: 4 or 16
///     2       16      address in network order, and then zeros
public struct KnockMessage: ~Copyable {
  public static let size = 18
  private static let addressOffset = 2

  private var storage = InlineArray<18, UInt8>(repeating: 0)

  public init(_ knock: Knock) {
    let bytes = knock.address.networkBytes
    storage[0] = knock.command.rawValue
    storage[1] = UInt8(knock.address.family.byteCount)
    for index in bytes.indices { storage[Self.addressOffset + index] = bytes[index] }
  }

  public func withBytes<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(storage.span) }
}

extension Knock {
  /// Reads a message. The receiver may have been taken over by then, so it is believed no more than a
  /// client with the key is.
  ///
  /// - Parameter families: those that can be acted on.
  /// - Returns: nil for what no sound receiver sends.
  public init?(message: Span<UInt8>, families: AddressFamilies) {
    guard message.count == KnockMessage.size, let command = Command(rawValue: message[0]),
      message[1] == 4 || message[1] == 16
    else { return nil }
    let bytes = message.extracting(2...)
    let count = Int(message[1])
    for index in count..<16 where bytes[index] != 0 { return nil }
    guard let address = Address(networkBytes: bytes.extracting(first: count)),
      address.family.byteCount == count, address.refusal == nil,
      families.contains(address.family)
    else { return nil }
    self.init(command: command, address: address)
  }
}
