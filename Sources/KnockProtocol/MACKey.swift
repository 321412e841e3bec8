/// A key that makes message authentication codes: HMAC-SHA256 (RFC 2104, FIPS 180-4).
public protocol MACKey: ~Copyable {
  /// Whether `mac` (32 bytes) is the MAC of `message`. Compares in constant time.
  func verify(_ mac: Span<UInt8>, of message: Span<UInt8>) -> Bool
  /// Computes the MAC of `message`: 32 bytes.
  func mac(of message: Span<UInt8>) -> InlineArray<32, UInt8>
}

/// The keys of all users. Each has the slot of its user.
public protocol MACKeys: ~Copyable {
  /// Whether there is a key of version 1.
  var hasVersion1: Bool { get }
  /// The slot of the key of version 1 that has made `mac` (32 bytes) for `message`; nil if none has. Takes the same time
  /// whatever the bytes are.
  func slot(verifying mac: Span<UInt8>, of message: Span<UInt8>) -> Int?
  /// The id in a request of version 2; nil if there is no key of version 2.
  func id(in request: Span<UInt8>) -> UInt64?
  /// Opens a request of version 2 with the key in a slot. Nil if that has not made its tag.
  func open(_ request: Span<UInt8>, slot: Int) -> Version2.Payload?
}
