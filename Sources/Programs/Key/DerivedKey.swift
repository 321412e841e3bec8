import CSodium
import KnockProtocol

/// HMAC-SHA256 with a key of 16 or 32 bytes, which is expanded for each message. So each key of version 2 takes little
/// room.
@safe struct DerivedKey: MACKey {
  private let start: UnsafePointer<UInt8>
  private let count: Int

  /// - Parameter key: stays valid as long as this value.
  init(_ key: UnsafeBufferPointer<UInt8>) {
    guard let start = key.baseAddress else { preconditionFailure("no key") }
    unsafe self.start = start
    count = key.count
  }

  @inline(never)
  func mac(of message: Span<UInt8>) -> InlineArray<32, UInt8> {
    var state = crypto_auth_hmacsha256_state()
    _ = unsafe crypto_auth_hmacsha256_init(&state, start, count)
    return unsafe KeyedMAC.mac(of: message, endingWith: &state)
  }

  func verify(_ mac: Span<UInt8>, of message: Span<UInt8>) -> Bool {
    KeyedMAC.areEqual(mac, self.mac(of: message))
  }
}

/// The keys that are derived from a key of version 2: see `Version2.Label`.
struct Version2Keys: BitwiseCopyable {
  /// Where `answerTag` and `answerMask` are (bytes).
  static let answerKeys = 72..<136

  /// Where `tag` is, and behind it the others (bytes).
  static let derivedKeys = 8

  /// 8 bytes as a little-endian number.
  var id: UInt64
  let tag: InlineArray<32, UInt8>
  let mask: InlineArray<32, UInt8>
  let answerTag: InlineArray<32, UInt8>
  let answerMask: InlineArray<32, UInt8>
  let idMask: InlineArray<32, UInt8>
  /// Tells servers apart, and tells nothing else about them.
  var server: UInt64
}
