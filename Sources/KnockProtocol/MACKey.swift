/// A key that makes message authentication codes: HMAC-SHA256 (RFC 2104, FIPS 180-4).
public protocol MACKey: ~Copyable {
  /// Whether `mac` (32 bytes) is the MAC of `message`. Compares in constant time.
  func verify(_ mac: Span<UInt8>, of message: Span<UInt8>) -> Bool
  /// Computes the MAC of `message`: 32 bytes.
  func mac(of message: Span<UInt8>) -> InlineArray<32, UInt8>
}

/// The keys of all users.
public protocol MACKeys: ~Copyable {
  /// The slot of the key that has made `mac` (32 bytes) for `message`; nil if none has. Takes the same time whatever
  /// the bytes are.
  func slot(verifying mac: Span<UInt8>, of message: Span<UInt8>) -> Int?
}
